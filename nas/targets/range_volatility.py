"""Volatility from the ranges of the bars ahead: more independent labels and less noise than squared returns."""

from __future__ import annotations

import numpy as np

from data.panel import FloatArray, Panel
from nas.targets import series
from nas.targets.target import Target, target


def naive(panel: Panel, horizon: int) -> FloatArray:
    """Log of the volatility that positions are scaled by today: EWMA of 48 squared returns."""
    found: FloatArray = 0.5 * np.log(series.ewma_variance(panel))
    return found


RANGE = target(
    Target(
        "range", "Range volatility", "volatility from the ranges of the bars ahead (Parkinson 1980)", "log volatility per bar",
        lambda panel, horizon: series.log_future_mean(series.range_variance(panel), horizon, 2.0), lambda horizon: horizon,
        ("high", "low", "close"), naive, "EWMA(48) x constant", series.range_variance, ("harxl", "harx", "har"),
        rivals=("garch", "egarch", "boosting"), power=2.0,
    )
)  # fmt: skip
