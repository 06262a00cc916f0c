"""What positions are sized by: the volatility per bar that is known at the bar, the same in backtest and paper trading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from data.atomic import write_bytes, write_text
from data.panel import FloatArray, InputError, Panel
from nas.network.residual import Problem, ResidualModel, from_plain, plain, weights_of
from nas.targets import Scale

FOLDER, NUMBERS, WEIGHTS = "risk", "forecast.json", "weights.safetensors"


@dataclass(frozen=True, eq=False)
class RiskForecast:
    """The forecast of one risk target, as it was fitted for one window. return_factor: [A], variance of returns over the one forecast."""

    model: ResidualModel
    return_factor: FloatArray

    def forecast(self, panel: Panel) -> FloatArray:
        """[T, A] in the target's unit, bias corrected; NaN where an input is not known."""
        model = self.model
        problem = Problem.of(panel, model.target.name, model.horizon, model.base.name)
        told = model.forecast(problem, slice(0, len(panel)))
        if model.target.power:
            told = told + np.log(model.factor)[:, None] / model.target.power
        return told.T

    def band(self, level: float) -> tuple[float, float]:
        """What to add to the uncorrected forecast for a band of this level."""
        return self.model.bands[level]

    def volatility(self, panel: Panel) -> FloatArray:
        """[T, A]: standard deviation per bar of log returns, of a target that is a volatility."""
        model = self.model
        problem = Problem.of(panel, model.target.name, model.horizon, model.base.name)
        found: FloatArray = np.exp(model.forecast(problem, slice(0, len(panel)))).T * np.sqrt(self.return_factor)
        return found

    def save(self, folder: Path) -> None:
        """`folder`/risk/<target>/: forecast.json and weights.safetensors, each whole or not at all."""
        place = folder / FOLDER / self.model.target.name
        told = {**plain(self.model), "return_factor": self.return_factor.tolist()}
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
            found[model.target.name] = RiskForecast(model, np.array(raw["return_factor"], dtype=np.float64))
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

    def volatility(self, panel: Panel) -> FloatArray:
        """[T, A] per bar; where the forecast is not known yet, the scale."""
        found = self.scale.volatility(panel)
        if self.forecast is None:
            return found
        told = self.forecast.volatility(panel)
        return np.where(np.isfinite(told), told, found)

    @property
    def memory_bars(self) -> int:
        """Bars of history that a value needs beyond the features' own."""
        return 0
