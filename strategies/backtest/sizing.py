"""What positions are sized by: the volatility per bar that is known at the bar, the same in backtest and paper trading."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from data.atomic import write_bytes, write_text
from data.panel import FloatArray, InputError, Panel
from nas.network.residual import Problem, ResidualModel, from_plain, plain, weights_of
from nas.targets import FittedBase, Scale
from nas.targets.scale import volatility_of

FOLDER, NUMBERS, WEIGHTS = "risk", "forecast.json", "weights.safetensors"


@dataclass(frozen=True, eq=False)
class RiskForecast:
    """The forecast of one risk target, as it was fitted for one window. return_factor: [A], variance of returns over the one forecast.

    quantiles: of a volatility, level -> what the forecast is multiplied with to be that quantile of the return of its bars.
    """

    model: ResidualModel
    return_factor: FloatArray
    quantiles: Mapping[float, float] = field(default_factory=dict)

    def problem(self, panel: Panel) -> Problem:
        """What the forecast reads of a panel."""
        model = self.model
        return Problem.of(panel, model.target.name, model.horizon, model.base.name, model.features)

    def last(self, panel: Panel, level: float = 0.8) -> list[tuple[float, float, float]]:
        """Of every asset at the last bar, on the natural scale: forecast, and the band that held a share `level` on validation."""
        bars = slice(len(panel) - 1, len(panel))
        told = self.model.forecast(self.problem(panel), bars)[:, 0]
        low, high = self.model.bands[level]
        return [(float(np.exp(v)), float(np.exp(v + low)), float(np.exp(v + high))) for v in told]

    def returns(self, volatility: float) -> dict[float, float]:
        """Of the bars ahead, level -> the simple return that lies above a share `level` of them. volatility: as `last` tells it."""
        return {level: float(np.expm1(k * volatility)) for level, k in self.quantiles.items() if np.isfinite(k)}

    def of_assets(self, places: Sequence[int]) -> RiskForecast:
        """For some assets of the run, in this order."""
        base = FittedBase(self.model.base.name, tuple(self.model.base.forms[k] for k in places))
        model = replace(self.model, base=base, factor=self.model.factor[list(places)])
        return RiskForecast(model, self.return_factor[list(places)], self.quantiles)

    @property
    def memory_bars(self) -> int:
        """Bars before a value that it reads, the features' warm-up apart."""
        networks = max((int(m.network.receptive_field) for m in self.model.members), default=1)  # type: ignore[arg-type]
        return networks

    def volatility(self, panel: Panel) -> FloatArray:
        """[T, A]: standard deviation per bar of log returns, of a target that is a volatility."""
        model = self.model
        told = model.forecast(self.problem(panel), slice(0, len(panel)))
        return volatility_of(told, self.return_factor, model.horizon, panel).T

    def save(self, folder: Path) -> None:
        """`folder`/risk/<target>/: forecast.json and weights.safetensors, each whole or not at all."""
        place = folder / FOLDER / self.model.target.name
        told = {**plain(self.model), "return_factor": self.return_factor.tolist()}
        told["quantiles"] = [[level, k] for level, k in self.quantiles.items() if np.isfinite(k)]
        write_text(place / NUMBERS, json.dumps(told, indent=1, sort_keys=True) + "\n")
        arrays = {name: np.ascontiguousarray(value) for name, value in weights_of(self.model).items()}
        write_bytes(place / WEIGHTS, bytes(safetensors.numpy.save(arrays)))


def load_risk(folder: Path) -> dict[str, RiskForecast]:
    """The risk forecasts of a model folder, by target. InputError where one is damaged."""
    found = {}
    for path in sorted((folder / FOLDER).glob(f"*/{NUMBERS}")):
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            arrays = safetensors.numpy.load((path.parent / WEIGHTS).read_bytes())
            model = from_plain(raw, arrays)
            quantiles = {float(level): float(k) for level, k in raw.get("quantiles", [])}
            found[model.target.name] = RiskForecast(model, np.array(raw["return_factor"], dtype=np.float64), quantiles)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            reason = (str(error).splitlines() or [""])[0][:200]
            raise InputError(
                f"{path.parent} is damaged ({type(error).__name__}: {reason}); rerun the walk-forward with --fresh"
            ) from None
    return found


@dataclass(frozen=True, eq=False)
class Sizing:
    """scale: EWMA or HARX in plain numbers. forecast: of a run that forecasts volatility, else None."""

    scale: Scale
    forecast: RiskForecast | None = None

    @staticmethod
    def of(folder: Path, extra: Mapping[str, Any], risk: Mapping[str, RiskForecast]) -> Sizing:
        """As a model folder says; one that says nothing was sized by EWMA. InputError where its forecast is missing."""
        scale = Scale.from_dict(extra["scale"]) if "scale" in extra else Scale()
        name = extra.get("sized_by")
        if name is not None and name not in risk:
            raise InputError(
                f"{folder}: positions were sized by the forecast of {name}, which is missing; rerun the walk-forward"
            )
        return Sizing(scale, risk[name] if name is not None else None)

    def of_assets(self, places: Sequence[int]) -> Sizing:
        """For some assets of the run, in this order."""
        return Sizing(self.scale.of_assets(places), None if self.forecast is None else self.forecast.of_assets(places))

    def volatility(self, panel: Panel) -> FloatArray:
        """[T, A] per bar; where the forecast is not known yet, the scale."""
        found = self.scale.volatility(panel)
        if self.forecast is None:
            return found
        told = self.forecast.volatility(panel)
        return np.where(np.isfinite(told), told, found)
