"""The deepest fall of the close within the bars ahead: where a stop has to stand."""

from __future__ import annotations

import numpy as np

from data.panel import FloatArray, Panel
from nas.targets import range_volatility, series
from nas.targets.target import Target, target

LEAST = 1e-4  # a stretch that never falls counts as one basis point, so that it has a log


def _label(panel: Panel, horizon: int) -> FloatArray:
    """Log of the deepest fall from the highest close since bar t, over bars t .. t + horizon."""
    close = np.log(panel.field("close").T)
    out = np.full(close.shape, np.nan)
    stop = close.shape[1] - horizon
    if stop > 0:
        peak, deepest = close[:, :stop].copy(), np.zeros((len(close), stop))
        for k in range(1, horizon + 1):
            later = close[:, k : k + stop]
            peak = np.maximum(peak, later)
            deepest = np.maximum(deepest, peak - later)
        out[:, :stop] = np.log(np.maximum(-np.expm1(-deepest), LEAST))
    return out


DRAWDOWN = target(
    Target(
        "drawdown", "Drawdown", "deepest fall from the highest close of the bars ahead", "log of a share of the price",
        _label, lambda horizon: horizon, ("high", "low", "close"),
        lambda panel, horizon: range_volatility.naive(panel, horizon) + 0.5 * np.log(horizon), "EWMA(48) x constant",
        series.range_variance, ("harxl", "harx", "har"), rivals=("boosting",), power=1.0,
    )
)  # fmt: skip
