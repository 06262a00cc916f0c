"""Per-bar series that targets and their closed forms are made of, [A, T] each, known at the close of the bar."""

from __future__ import annotations

import math

import numpy as np

from data.panel import FloatArray, Panel
from nas import kernels

HOUR_NS = 3_600_000_000_000
LEAST_VARIANCE = 1e-10  # a bar without movement counts as a tenth of a basis point, so that it has a log
EWMA_SPAN_BARS = 48


def bars_of_hours(hours: float, interval_ns: int) -> int:
    """Hours in bars, one at least."""
    return max(1, round(hours * HOUR_NS / interval_ns))


def _columns(panel: Panel, name: str) -> FloatArray:
    return np.ascontiguousarray(panel.field(name).T)


def range_variance(panel: Panel) -> FloatArray:
    """Parkinson's (1980) variance of every bar: log(high / low)^2 / (4 log 2)."""
    spread = kernels.log(_columns(panel, "high")) - kernels.log(_columns(panel, "low"))
    found: FloatArray = np.maximum(spread**2 / (4.0 * math.log(2.0)), LEAST_VARIANCE)
    return found


def returns(panel: Panel) -> FloatArray:
    """Log return of the close."""
    return kernels.log_return(_columns(panel, "close"))


def squared_return(panel: Panel) -> FloatArray:
    """Square of the log return of the close."""
    found: FloatArray = np.maximum(returns(panel) ** 2, LEAST_VARIANCE)
    return found


def turnover(panel: Panel) -> FloatArray:
    """Turnover in quote currency; a bar without trades counts as one unit."""
    found: FloatArray = np.maximum(_columns(panel, "volume") * _columns(panel, "close"), 1.0)
    return found


def future_mean(x: FloatArray, horizon: int) -> FloatArray:
    """Mean of x over bars t + 1 .. t + horizon; NaN where one of them is missing or not there yet. x: [A, T]."""
    out = np.full(x.shape, np.nan)
    if x.shape[1] > horizon:
        out[:, :-horizon] = kernels.rolling_mean(x, horizon)[:, horizon:]
    return out


def log_future_mean(x: FloatArray, horizon: int, power: float) -> FloatArray:
    """Log of `future_mean`, over `power`: of a variance with power 2 the log volatility."""
    found: FloatArray = np.log(future_mean(x, horizon)) / power
    return found


def ewma_variance(panel: Panel) -> FloatArray:
    """Variance of the exponentially weighted returns (span 48 bars), as positions and labels are scaled by; NaN at first."""
    found: FloatArray = kernels.ewm_std(returns(panel), EWMA_SPAN_BARS, 24) ** 2
    return np.maximum(found, LEAST_VARIANCE)
