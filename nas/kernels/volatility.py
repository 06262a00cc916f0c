"""Realised volatility per bar over a window: from closes, from ranges (Parkinson 1980), from whole candles (Garman and Klass 1980)."""

from __future__ import annotations

import math

import numpy as np

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns
from nas.kernels.moments import rolling_mean, rolling_std
from nas.kernels.pointwise import log_return


@compiled
def _root(x: FloatArray) -> None:
    """In place; a variance estimate below zero (Garman-Klass can give one) counts as zero."""
    columns, bars = x.shape
    for column in range(columns):
        for t in range(bars):
            v = x[column, t]
            x[column, t] = math.sqrt(v) if v > 0.0 else v * 0.0


@compiled
def _candle_variance(
    opening: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, body: float, out: FloatArray
) -> None:
    """Per bar, log(high / low)^2 / 2 - body * log(close / open)^2."""
    columns, bars = out.shape
    for column in range(columns):
        for t in range(bars):
            spread = math.log(high[column, t] / low[column, t])
            value = 0.5 * spread * spread
            if body > 0.0:
                change = math.log(close[column, t] / opening[column, t])
                value -= body * change * change
            out[column, t] = value if math.isfinite(value) else np.nan


def realised_volatility(close: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    """Standard deviation of close-to-close log returns over `window` bars. close: [C, T]."""
    return rolling_std(log_return(close), window, min_periods)


def parkinson(high: FloatArray, low: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    """sqrt(mean(log(high / low)^2) / (4 log 2)) over `window` bars."""
    variance = np.empty(high.shape)
    over_columns(lambda p: _candle_variance(high[p], high[p], low[p], low[p], 0.0, variance[p]), high.shape, None)
    mean = rolling_mean(variance, window, min_periods)
    mean *= 1.0 / (2.0 * math.log(2.0))
    _root(mean)
    return mean


def garman_klass(
    opening: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    window: int,
    min_periods: int | None = None,
) -> FloatArray:
    """sqrt(mean(log(high / low)^2 / 2 - (2 log 2 - 1) log(close / open)^2)) over `window` bars."""
    variance = np.empty(high.shape)
    body = 2.0 * math.log(2.0) - 1.0
    over_columns(lambda p: _candle_variance(opening[p], high[p], low[p], close[p], body, variance[p]), high.shape, None)
    mean = rolling_mean(variance, window, min_periods)
    _root(mean)
    return mean
