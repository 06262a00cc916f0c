"""Turnover of the bars ahead: how much can be traded, and when."""

from __future__ import annotations

import numpy as np

from data.panel import FloatArray, Panel
from nas import kernels
from nas.targets import series
from nas.targets.target import Target, target


def _naive(panel: Panel, horizon: int) -> FloatArray:
    found: FloatArray = np.log(kernels.ewm_mean(series.turnover(panel), series.EWMA_SPAN_BARS, 24))
    return found


VOLUME = target(
    Target(
        "volume", "Volume", "turnover per bar of the bars ahead", "log turnover per bar, quote currency",
        lambda panel, horizon: series.log_future_mean(series.turnover(panel), horizon, 1.0), lambda horizon: horizon,
        ("high", "low", "close", "volume"), _naive, "EWMA(48) x constant", series.turnover, ("harxl", "harx", "har"),
        rivals=("boosting",), power=1.0,
    )
)  # fmt: skip
