"""A user's own model in a model folder, for paper trading: not the fitted object, but what it was fitted on.

A pickle runs code when it is read, and a model folder is input. So the folder holds numbers only: the training rows, and what the
model forecast on the stretch after them. It is fitted again by code that the user names when trading begins, and refused unless it
forecasts those very bits (docs/decisions/113).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from torch import nn

from data.errors import InputError, shortened
from data.panel import FloatArray, Panel
from nas.baselines.own import baseline_of, clock_of, fingerprint, fitted_table, predicted, trusted
from nas.baselines.registry import Fit
from nas.baselines.tabular import LAGS
from nas.features.bank import FeatureBank
from nas.network.model import Network, TrainedModel, damage_told, read_head
from nas.network.model_check import known_keys, read_object
from nas.network.stretches import Samples, Scaler, Tensors
from nas.network.training import TrainingSettings
from nas.space.genotype import Connection, Genotype

KEY = "own"  # in features.json
ARRAYS = ("x", "y", "weight", "told", "told_known")
REACH = max(LAGS) + 1
MOST_BARS = 10_000_000


class _Kept(nn.Module):
    """What stands where a network has weights."""

    def __init__(self, arrays: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.receptive_field = REACH
        for name in ARRAYS:
            self.register_buffer(name, arrays[name])


@dataclass(frozen=True)
class OwnModel(TrainedModel):
    """Forecasts by a model of the user's own. fitted: None before it was fitted again."""

    fitted: Any = None

    @property
    def about(self) -> Mapping[str, Any]:
        """name, source, seed, clock, fit and stop (bars of x), order (of its inputs among the genotype's, as it was fitted)."""
        found: Mapping[str, Any] = self.extra[KEY]
        return found

    def predict(self, panel: Panel, start: int = 0, stop: int | None = None) -> FloatArray:
        """As of `TrainedModel`: [bar, asset]."""
        bars = slice(start, len(panel) if stop is None else stop)
        order = self.about["order"]
        x, known = self.scaler.apply(self.bank(panel).values)
        told = predicted(self.about["name"], self.about["seed"], self.fitted, x[:, order], bars, clock_of(panel))
        return np.where(known[:, bars], told, np.nan).T

    def predict_bank(self, bank: FeatureBank, start: int, stop: int) -> FloatArray:
        """Not to be had: the place of a bar in its table is told by its time."""
        raise NotImplementedError("a model of the user's own forecasts from a panel")


def kept(
    name: str, samples: Samples, stretches: tuple[slice, slice], report: Mapping[str, Any], told: FloatArray, seed: int,
    forecast_scale: float, extra: Mapping[str, Any],
) -> OwnModel:  # fmt: skip
    """The model of a finished task, ready to be saved. stretches: fitted on, and the one after it, of which `told` [bar, asset] are the
    forecasts. report: of the task."""
    fit, stop = stretches
    features = tuple((str(a), str(b)) for a, b in report["pipelines"])
    genotype = Genotype(((Connection("identity", 0),),), 1, 1, samples.horizons, features)
    columns = samples.columns(features)
    scaler = Scaler(np.array(report["mean"]), np.array(report["deviation"]))
    tensors = Tensors.of(samples, scaler, columns)
    begin = max(0, fit.start - REACH)
    part = slice(begin, stop.stop)
    arrays = {
        "x": tensors.x[:, :, part].contiguous(),
        "y": tensors.y[:, :1, part].contiguous(),
        "weight": tensors.weight[:, :, part].contiguous(),
        "told": torch.from_numpy(np.nan_to_num(told).copy()),
        "told_known": torch.from_numpy(np.isfinite(told)),
    }
    order = [genotype.features.index(each) for each in features]
    about = {
        "name": name,
        "source": fingerprint((name,)),
        "seed": seed,
        "clock": clock_of(samples.panel) + begin,
        "fit": [fit.start - begin, fit.stop - begin],
        "stop": [stop.start - begin, stop.stop - begin],
        "order": order,
    }
    place = np.argsort(order)
    sorted_scaler = Scaler(scaler.mean[place], scaler.deviation[place])
    network = cast(Network, _Kept(arrays))
    return OwnModel(genotype, network, sorted_scaler, samples.panel.interval_ns, forecast_scale, {**extra, KEY: about})


def own_name(folder: Path) -> str:
    """Of the user's model that a model folder holds; empty where it holds a network, or nothing that can be read."""
    try:
        about = read_object(folder / "features.json").get(KEY)
    except (OSError, ValueError):
        return ""
    return str(about.get("name")) if isinstance(about, Mapping) else ""


def load_own(folder: Path) -> OwnModel:
    """Read such a folder and fit its model again. InputError where nobody named it in this process (`nas.baselines.own.trust`), its file
    has changed, or it no longer forecasts what it did."""
    name = own_name(folder)
    if not trusted(name):
        raise InputError(
            f"{folder} holds a model of your own; its code runs only where you name it: give --model {shortened(name, 80)}"
        )
    with damage_told(folder):
        model = _read(folder)
    about = model.about
    baseline_of(name)
    if fingerprint((name,)) != about["source"]:
        raise InputError(f"{folder}: the file of {name} is not the one that the run fitted; rerun the walk-forward")
    kept_ = cast(Any, model.network)
    fitted = fitted_table(name, _fit_of(model, kept_))
    stop = slice(*about["stop"])
    again = predicted(name, about["seed"], fitted, kept_.x.numpy(), stop, about["clock"]).T
    known = kept_.told_known.numpy()
    if not np.array_equal(again[known], kept_.told.numpy()[known]):
        raise InputError(
            f"{folder}: {name}, fitted again, does not forecast what it forecast in the run (other packages, another processor, or "
            "random numbers of its own): nothing is traded; rerun the walk-forward here"
        )
    return replace(model, fitted=fitted)


def _fit_of(model: OwnModel, arrays: Any) -> Fit:
    tensors = Tensors(arrays.x, arrays.y, arrays.weight)
    about = model.about
    nothing = cast(Samples, None)  # a table is all that such a model is fitted on
    return Fit(
        nothing,
        tensors,
        slice(*about["fit"]),
        slice(*about["stop"]),
        model.genotype.horizons,
        TrainingSettings(),
        about["seed"],
    )


def _read(folder: Path) -> OwnModel:
    genotype, features, scaler, extra = read_head(folder)
    arrays = safetensors.torch.load((folder / "weights.safetensors").read_bytes())
    _check(features[KEY], arrays, len(genotype.features))
    return OwnModel(
        genotype, cast(Network, _Kept(arrays)), scaler, features["interval_ns"], features["forecast_scale"], extra
    )


def _check(about: Mapping[str, Any], arrays: Mapping[str, torch.Tensor], inputs: int) -> None:
    """ValueError where the numbers cannot be those of a fitted model."""
    known_keys(about, ("name", "source", "seed", "clock", "fit", "stop", "order"))
    known_keys(arrays, ARRAYS)
    numbers = [about["seed"], about["clock"], *about["fit"], *about["stop"], *about["order"]]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError("seed, clock, fit, stop and order must be whole numbers")
    assets, _, bars = arrays["x"].shape
    (first, end), (begun, last) = about["fit"], about["stop"]
    told = (last - begun, assets)
    shapes: dict[str, tuple[int, ...]] = {
        "x": (assets, inputs, bars),
        "y": (assets, 1, bars),
        "weight": (assets, 1, bars),
    }
    shapes |= {"told": told, "told_known": told}
    if sorted(about["order"]) != list(range(inputs)) or not 0 <= first < end <= begun < last <= bars <= MOST_BARS:
        raise ValueError("order or stretches do not fit the rows")
    for name, shape in shapes.items():
        kind = {"told": torch.float64, "told_known": torch.bool}.get(name, torch.float32)
        if tuple(arrays[name].shape) != shape or arrays[name].dtype != kind:
            raise ValueError(f"{name} is {arrays[name].dtype} of shape {tuple(arrays[name].shape)}")
        if kind != torch.bool and not bool(torch.isfinite(arrays[name]).all()):
            raise ValueError(f"{name} holds NaN or infinity")
