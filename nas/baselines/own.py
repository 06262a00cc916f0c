"""Models of the user's own, `module:Name`: anything with fit(X, y) and predict(X), or fit(panel, train, validation) and forecast.

They are fitted anew on every window, by the same purged stretches as the hand-designed networks, in the same processes or on Ray: the
module must be importable there.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from data.errors import InputError, shortened
from data.panel import Panel
from nas.baselines.registry import BASELINES, Baseline, Fit, Fitted, FloatArray
from nas.baselines.tabular import LAGS, labelled, lagged
from nas.features.bank import causal_volatility
from nas.targets.returns import CLIP_DEVIATIONS

BLOCK = 256  # rows of every table that a model is asked about
SHAPES = "fit(X, y) and predict(X), or fit(panel, train, validation) and forecast(panel, start, stop)"


_TRUSTED: set[str] = set()


def trust(name: str | None) -> None:
    """The user named this model in this process: its code may run for a model folder that asks for it."""
    if name:
        _TRUSTED.add(name)


def trusted(name: str) -> bool:
    """Whether `trust` was told of it."""
    return name in _TRUSTED


def is_own(name: str) -> bool:
    """Whether a name is that of a user's model."""
    return ":" in name


def baseline_of(name: str) -> Baseline:
    """The registered rival, or the user's model that `module:Name` names. InputError where it cannot be had."""
    return _own(name) if is_own(name) else BASELINES[name]


def fingerprint(names: tuple[str, ...]) -> str:
    """Of the files that the models stand in: part of a run's name. What these files import is not in it."""
    digest = hashlib.sha256()
    for name in names:
        place = getattr(_module(name), "__file__", None)
        digest.update(name.encode() + (Path(place).read_bytes() if place else b""))
    return digest.hexdigest()[:16]


@functools.cache
def _own(name: str) -> Baseline:
    made = _made(name)
    about = (inspect.getdoc(type(made)) or "").split("\n")[0].rstrip(".")
    title = name.partition(":")[2]
    fitted = _table if is_table(name) else _sequence
    return Baseline(
        name,
        title,
        f"{about or title}; not made here, fitted anew on every window",
        fit=lambda fit: fitted(name, fit),
    )


def _module(name: str) -> Any:
    module = name.partition(":")[0]
    if os.getcwd() not in sys.path:  # a console script does not look where it is started
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--baselines {name}: no module {error.name!r} here; start the command in the folder of {module}.py"
        ) from None
    except Exception as error:  # whatever the user's own file does when it is loaded
        raise _failed(name, f"{module} cannot be loaded", error) from None


def _failed(name: str, what: str, error: Exception) -> InputError:
    return InputError(f"--baselines {name}: {what} ({type(error).__name__}: {shortened(error, 120)})")


def _made(name: str) -> Any:
    """A new, unfitted model: of a class or function without arguments, or a copy of an object."""
    module, attribute = _module(name), name.partition(":")[2]
    found = getattr(module, attribute, None)
    if found is None:
        raise InputError(
            f"--baselines {name}: {module.__name__} has no {attribute!r}; give module:Name of a class or an object"
        )
    try:
        model = found() if inspect.isclass(found) or inspect.isfunction(found) else copy.deepcopy(found)
    except Exception as error:  # of the user's own code
        raise _failed(name, "it cannot be made without arguments", error) from None
    if not (hasattr(model, "fit") and (hasattr(model, "predict") or hasattr(model, "forecast"))):
        raise InputError(f"--baselines {name}: {type(model).__name__} must have {SHAPES}")
    return model


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """One thread, and random numbers of this seed: the same bytes in any process, whatever ran there before."""
    before = np.random.get_state()
    with threadpool_limits(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)


def _called(name: str, seed: int, call: Callable[..., Any], *given: Any) -> Any:
    """What a method of the user's model answers; what it raises, in one line."""
    with _alone(seed):
        try:
            return call(*given)
        except Exception as error:  # of the user's own code
            raise _failed(name, f"{call.__name__} failed", error) from error


def _told(name: str, told: Any, shapes: tuple[tuple[int, ...], ...], meant: str, needed: Any = True) -> FloatArray:
    """Forecasts in the first of `shapes`. InputError where they have none of these, or are not finite where they are `needed`."""
    try:
        values = np.asarray(told, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _failed(name, "its forecasts are no numbers", error) from None
    if values.shape not in shapes:
        raise InputError(f"--baselines {name}: forecasts have shape {values.shape}, expected {shapes[0]} ({meant})")
    values = values.reshape(shapes[0])
    if missing := int(np.sum(~np.isfinite(values) & needed)):
        raise InputError(f"--baselines {name}: {missing} of {values.size} forecasts are NaN or infinite")
    return values


def _table(name: str, fit: Fit) -> Fitted:
    """X: [asset x bar, input x lag], scaled by the training stretch; y: the return ahead in standard deviations."""
    model = fitted_table(name, fit)
    x, clock = fit.tensors.x.numpy(), clock_of(fit.samples.panel)
    return Fitted(
        lambda bars: predicted(name, fit.seed, model, x, bars, clock), parameters=0, receptive_field=max(LAGS) + 1
    )


def fitted_table(name: str, fit: Fit) -> Any:
    """A new model, fitted on the training rows. fit.samples is not read."""
    model = _made(name)
    _called(name, fit.seed, model.fit, *labelled(fit, fit.train))
    return model


def is_table(name: str) -> bool:
    """Whether a user's model has fit(X, y) and predict(X); else it reads sequences."""
    return not hasattr(_made(name), "forecast")


def clock_of(panel: Panel) -> int:
    """Which bar since 1970 the first of a panel is."""
    return int(panel.timestamps[0].astype(np.int64)) // panel.interval_ns


def predicted(name: str, seed: int, model: Any, x: npt.NDArray[np.float32], bars: slice, clock: int) -> FloatArray:
    """Forecasts [asset, bar] of a fitted model. x: [asset, input, time], of which bar 0 is bar `clock` since 1970.

    Tables have BLOCK rows, whatever is asked, and a bar has the same row in each: linear algebra rounds by the shape of a table and
    the place in it, and paper trading, which asks for one more bar at a time, must get the very forecasts of the backtest.
    """
    out = np.empty((len(x), bars.stop - bars.start))
    for asset in range(len(x)):
        at = np.arange(bars.start, bars.stop)
        blocks = (clock + at) // BLOCK
        for block in np.unique(blocks):
            mine = at[blocks == block]
            own = lagged(x[asset : asset + 1], mine)
            table, place = np.zeros((BLOCK, own.shape[1]), own.dtype), (clock + mine) % BLOCK
            table[place] = own
            asked = np.isin(np.arange(BLOCK), place)
            told = _called(name, seed, model.predict, table)
            out[asset, mine - bars.start] = _told(name, told, ((BLOCK,), (BLOCK, 1)), "a value a row", asked)[place]
    return out


def _sequence(name: str, fit: Fit) -> Fitted:
    """Sees the panel up to the end of validation when it is fitted, and up to the last forecast bar when it forecasts: log returns over
    the horizon, which are put into standard deviations here. Attributes `horizon` and `seed`, where it has them, are set."""
    model, panel, horizon = _made(name), fit.samples.panel, fit.horizons[0]
    for key, value in (("horizon", horizon), ("seed", fit.seed)):
        if hasattr(model, key):
            setattr(model, key, value)
    _called(name, fit.seed, model.fit, panel.cut(0, fit.stop.stop), fit.train, fit.stop)
    scale = np.maximum(causal_volatility(panel), 1e-8) * np.sqrt(horizon)

    def forecast(bars: slice) -> FloatArray:
        seen, count, assets = panel.cut(0, bars.stop), bars.stop - bars.start, len(panel.assets)
        told = _called(name, fit.seed, model.forecast, seen, bars.start, bars.stop)
        shapes = ((count, assets), (count,)) if assets == 1 else ((count, assets),)
        values = _told(name, told, shapes, "bars, assets", np.isfinite(seen.field("close")[bars]))
        scaled: FloatArray = np.clip(values / scale[bars], -CLIP_DEVIATIONS, CLIP_DEVIATIONS).T
        return scaled

    return Fitted(forecast, parameters=0, receptive_field=1)
