"""Ridge regression on winsorised columns: fitted at once, refitted causally, saved as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray, InputError

CLIP_DEVIATIONS = 4.0  # columns, and what is forecast, are held to so many deviations of what was fitted
RIDGE = 0.1  # share of the rows added to every variance: columns of overlapping spans are nearly collinear (docs/decisions/090)
ROWS_PER_COLUMN = 10  # fewer known rows than this a column: nothing is fitted


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A fitted regression. mean, deviation, coefficients: [K], the coefficients of standardised, clipped columns.

    low, high: what a forecast is held to. residual: standard deviation of what the fit left, in the label's unit.
    """

    mean: FloatArray
    deviation: FloatArray
    coefficients: FloatArray
    intercept: float
    low: float
    high: float
    residual: float

    def forecast(self, x: FloatArray) -> FloatArray:
        """[T] from columns [K, T]; NaN where a column is not known."""
        scaled = np.clip((x - self.mean[:, None]) / self.deviation[:, None], -CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        # one sum per bar in a fixed order: a bar's forecast is the same bits however many bars are asked for
        out: FloatArray = np.clip(np.einsum("kt,k->t", scaled, self.coefficients) + self.intercept, self.low, self.high)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "mean": self.mean.tolist(), "deviation": self.deviation.tolist(), "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept, "low": self.low, "high": self.high, "residual": self.residual,
        }  # fmt: skip

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> ClosedForm:
        """What `to_dict` made. KeyError where a key is missing."""
        mean, deviation, coefficients = (
            np.array(raw[name], dtype=np.float64) for name in ("mean", "deviation", "coefficients")
        )
        intercept, low, high, residual = (float(raw[name]) for name in ("intercept", "low", "high", "residual"))
        return ClosedForm(mean, deviation, coefficients, intercept, low, high, residual)


def known_rows(x: FloatArray, y: FloatArray, bars: Sequence[slice]) -> npt.NDArray[np.int64]:
    """Bars of `bars` at which all columns and the label are known. x: [K, T], y: [T]."""
    places = np.concatenate([np.arange(part.start, part.stop) for part in bars])
    found: npt.NDArray[np.int64] = places[np.isfinite(y[places]) & np.isfinite(x[:, places]).all(0)]
    return found


def fit(x: FloatArray, y: FloatArray, bars: slice | Sequence[slice], ridge: float = RIDGE) -> ClosedForm:
    """Least squares of y [T] on columns x [K, T] over `bars`, with a small ridge. InputError where too few bars are known."""
    parts = (bars,) if isinstance(bars, slice) else bars
    rows = known_rows(x, y, parts)
    if len(rows) < ROWS_PER_COLUMN * len(x):
        raise InputError(
            f"{len(rows)} bars with every column and the label known are too few for {len(x)} columns: "
            f"{ROWS_PER_COLUMN * len(x)} are needed; give more history"
        )
    a, b = x[:, rows], y[rows]
    mean, deviation = a.mean(1), a.std(1)
    deviation = np.where(deviation > 1e-9 * (1.0 + np.abs(mean)), deviation, 1.0)
    a = np.clip((a - mean[:, None]) / deviation[:, None], -CLIP_DEVIATIONS, CLIP_DEVIATIONS)
    middle, spread = float(b.mean()), float(b.std())
    low, high = middle - CLIP_DEVIATIONS * spread, middle + CLIP_DEVIATIONS * spread
    b = np.clip(b, low, high)
    centre = a.mean(1)
    a -= centre[:, None]
    middle = float(b.mean())
    gram = a @ a.T + ridge * len(rows) * np.eye(len(a))
    coefficients = np.linalg.solve(gram, a @ (b - middle))
    left = b - middle - coefficients @ a
    intercept = middle - float(coefficients @ centre)
    return ClosedForm(mean, deviation, coefficients, intercept, low, high, max(float(left.std()), 1e-9))


def scaled_by_constant(x: FloatArray, y: FloatArray, bars: slice | Sequence[slice]) -> ClosedForm:
    """The forecast x [1, T] times a constant, on the log: only the level is fitted."""
    rows = known_rows(x, y, (bars,) if isinstance(bars, slice) else bars)
    if not len(rows):
        raise InputError("no bar with a known label to fit a level to; give more history")
    left = y[rows] - x[0, rows]
    one = np.ones(1)
    # 1e9 deviations: a factor holds nothing back
    return ClosedForm(np.zeros(1), one * 1e9, one * 1e9, float(left.mean()), -1e9, 1e9, max(float(left.std()), 1e-9))
