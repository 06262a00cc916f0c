"""One window's forecast of one risk target as a unit of work: base and networks, the rivals by hand, bands and bias."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray
from nas.baselines import build_baseline
from nas.network.residual import Problem, ResidualModel, from_plain, plain, weights_of
from nas.network.residual_fit import ResidualSettings, fit_residual
from nas.network.stretches import Samples
from nas.space.kinds import COLUMNS_KIND, Features, draw
from nas.targets import RIVALS, base_columns, bias, correlation, fit_base, forecast_by, get_target, series
from nas.targets.bases import BASES
from nas.targets.quantiles import judged, moves
from nas.targets.scale import sizing_bars, volatility_of
from nas.tasks.result import TaskResult
from nas.tasks.windows import Window

SHIPPED = "forecast"


@dataclass(frozen=True)
class RiskTask:
    """Forecast one target on one window, by base and networks and by every rival.

    rivals: names of `nas.targets.RIVALS`, closed forms included; each is fitted on training and validation, as the forecast is.
    networks: hand-designed ones of `nas.baselines`, one each on what the base leaves, refitted, told as `<base> + <name>`.
    """

    window: Window
    target: str
    horizon: int
    seed: int
    settings: ResidualSettings = field(default_factory=ResidualSettings)
    rivals: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def compute(self, samples: Samples) -> TaskResult:
        """Arrays [bar, asset] per method, `stop.<method>` and `test.<method>`, labels `stop.realised` and `test.realised`; the model."""
        problem = problem_of(
            samples, self.target, self.horizon, self.settings.base, COLUMNS_KIND in self.settings.kinds
        )
        window, target = self.window, problem.target
        found = fit_residual(problem, window.train, window.validation, self.settings, self.seed)
        stop = slice(window.stop.start - window.validation.start, window.validation.stop - window.validation.start)
        told: dict[str, tuple[FloatArray, FloatArray]] = {
            SHIPPED: (found.validation[:, stop], found.model.forecast(problem, window.test))
        }
        factors = {SHIPPED: found.model.factor}
        label = problem.label
        inputs = len(problem.features)
        for name in self.networks:
            alone = replace(self.settings, share=1.0)
            builders = [lambda name=name: build_baseline(name, inputs, 1, self.seed)]  # type: ignore[misc]
            hand = fit_residual(problem, window.train, window.validation, alone, self.seed, builders=builders)
            key = f"{problem.base} + {name}"
            told[key] = hand.validation[:, stop], hand.model.forecast(problem, window.test)
            factors[key] = hand.model.factor
        for name in self.rivals:
            before, after = _by_hand(problem, name, window)
            told[name] = before[:, stop], after
            factors[name] = np.array(
                [bias(a, b, target.power) for a, b in zip(label[:, window.validation], before, strict=True)]
            )
        arrays: dict[str, npt.NDArray[Any]] = {}
        quantiles: dict[str, list[dict[str, float]]] = {}
        for name, (before, after) in told.items():
            arrays[f"stop.{name}"], arrays[f"test.{name}"] = before.T, after.T
        if target.power == 2.0:
            factor = return_factor(problem, found.validation, window.validation)
            before = volatility_of(found.validation, factor, self.horizon, problem.panel)
            lead = window.test.start - sizing_bars(self.horizon, problem.panel) + 1
            after = volatility_of(
                found.model.forecast(problem, slice(lead, window.test.stop)), factor, self.horizon, problem.panel
            )
            moved = moves(problem.panel, self.horizon)
            quantiles = {
                name: judged(
                    np.exp(b), moved[:, window.stop], np.exp(a), moved[:, window.test]
                )
                for name, (b, a) in told.items() if name in (SHIPPED, "ewma", "harx", "garch")
            }  # fmt: skip
            arrays["stop.sizing"], arrays["test.sizing"] = before[:, stop].T, after[:, window.test.start - lead :].T
        arrays["stop.realised"], arrays["test.realised"] = label[:, window.stop].T, label[:, window.test].T
        arrays |= {f"weights.{name}": value for name, value in weights_of(found.model).items()}
        report = {
            "target": target.name,
            "horizon": self.horizon,
            "seed": self.seed,
            "factors": {name: values.tolist() for name, values in factors.items()},
            "return_factor": return_factor(problem, found.validation, window.validation).tolist(),
            "quantiles": quantiles,
            "validation_loss": float(np.nanmean((label[:, window.validation] - found.validation) ** 2)),
            "validation_correlation": correlation(label[:, window.validation], found.validation),
            "model": plain(found.model),
            "parameters": sum(p.numel() for m in found.model.members for p in m.network.parameters()),
        }
        return TaskResult(arrays, report)


def return_factor(problem: Problem, forecast: FloatArray, bars: slice) -> FloatArray:
    """[A]: what a variance forecast of `bars` is multiplied with to be that of close-to-close returns: ranges see less than moves do."""
    if problem.target.power != 2.0:
        return np.ones(len(forecast))
    squared = series.returns(problem.panel) ** 2
    ahead = series.future_mean(squared, problem.horizon)[:, bars]
    known = np.isfinite(ahead) & np.isfinite(forecast)
    pairs = zip(ahead, np.exp(2.0 * forecast), known, strict=True)
    return np.array([float(a[k].sum() / b[k].sum()) if k.any() else 1.0 for a, b, k in pairs])


@lru_cache(maxsize=8)
def problem_of(samples: Samples, target: str, horizon: int, base: str, columns: bool = False) -> Problem:
    """Computed once for all windows of a process."""
    return Problem.of(samples.panel, target, horizon, base, columns=columns)


def risk_model(result: TaskResult) -> ResidualModel:
    """The fitted forecast of a finished task."""
    return from_plain(result.report["model"], result.weights)


def memory_bars(settings: ResidualSettings, features: Features, horizon: int, seed: int) -> int:
    """Receptive field of the longest network that the settings draw."""
    drawn = (draw(name, features, (horizon,), seed + k) for k, name in enumerate(settings.kinds))
    return max((genotype.receptive_field for genotype in drawn), default=1)


def _by_hand(problem: Problem, name: str, window: Window) -> tuple[FloatArray, FloatArray]:
    """Forecasts of a rival: of the validation bars by a fit on training, of the test bars by a fit on both; [A, bar] each."""
    panel, target, horizon = problem.panel, problem.target, problem.horizon
    if name in BASES:
        columns = problem.columns if name == problem.base else base_columns(name, panel, target, horizon)
        first = fit_base(name, columns, problem.label, window.train)
        last = fit_base(name, columns, problem.label, (window.train, window.validation))
        return first.forecast(columns)[:, window.validation], last.forecast(columns)[:, window.test]
    begin = max(0, window.train.start)
    cut = panel.cut(begin, window.test.stop)
    told = forecast_by(name, cut, target, horizon, (window.validation.start - begin, window.test.start - begin))
    moved = slice(window.validation.start - begin, window.validation.stop - begin)
    return told[:, moved], told[:, window.test.start - begin :]


def rivals_of(target: str, wanted: tuple[str, ...], base: str) -> tuple[str, ...]:
    """The target's rivals by hand: closed forms up to `base`, GARCH where it has one, and those of `wanted` that it has."""
    found = get_target(target)
    forms = tuple(reversed(found.bases))
    forms = forms[: forms.index(base) + 1] if base in forms else ("last", base)
    named = ("ewma", *forms, *(r for r in found.rivals if r == "garch" or r in wanted))
    return tuple(dict.fromkeys(name for name in named if name in RIVALS))
