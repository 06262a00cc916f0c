"""Logarithm, difference, log return and fractional difference."""

from __future__ import annotations

import math

import numpy as np

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns


@compiled
def _log(x: FloatArray, out: FloatArray) -> None:
    columns, bars = x.shape
    for column in range(columns):
        v, target = x[column], out[column]
        for t in range(bars):
            target[t] = math.log(v[t]) if 0.0 < v[t] < np.inf else np.nan


def log(x: FloatArray, *, threads: int | None = None) -> FloatArray:
    """Natural logarithm; NaN where x is not positive.

    One scalar routine for every position: numpy's vector loops may round differently at the end of an array, which
    would break the bit-identity of prefixes.
    """
    out = np.empty(x.shape)
    over_columns(lambda part: _log(x[part], out[part]), x.shape, threads)
    return out


@compiled
def _difference(x: FloatArray, lag: int, out: FloatArray) -> None:
    columns, bars = x.shape
    for column in range(columns):
        first = min(lag, bars)
        out[column, :first] = np.nan
        now, past, target = x[column, first:], x[column, : bars - first], out[column, first:]
        for t in range(len(target)):
            d = now[t] - past[t]
            target[t] = d if math.isfinite(d) else np.nan


def difference(x: FloatArray, lag: int = 1, *, threads: int | None = None) -> FloatArray:
    """x[t] - x[t - lag]; NaN where either is missing."""
    if lag < 1:
        raise ValueError(f"lag must be at least 1 bar, not {lag}")
    out = np.empty(x.shape)
    over_columns(lambda part: _difference(x[part], lag, out[part]), x.shape, threads)
    return out


def log_return(x: FloatArray, lag: int = 1, *, threads: int | None = None) -> FloatArray:
    """log(x[t] / x[t - lag]), as the difference of the logarithms."""
    return difference(log(x, threads=threads), lag, threads=threads)


def fractional_weights(order: float, width: int) -> FloatArray:
    """Binomial weights of (1 - L)^order, newest first, cut after `width` bars (Lopez de Prado 2018, section 5.4)."""
    weights = np.ones(width)
    for k in range(1, width):
        weights[k] = -weights[k - 1] * (order - k + 1) / k
    return weights


@compiled
def _filter(x: FloatArray, weights: FloatArray, out: FloatArray) -> None:
    columns, bars = x.shape
    width = len(weights)
    chunk = 1024
    for column in range(columns):
        for start in range(0, bars, chunk):
            stop = min(start + chunk, bars)
            target = out[column, start:stop]
            target[:] = 0.0
            begin = max(start, width - 1)
            for t in range(start, min(begin, stop)):
                target[t - start] = np.nan
            if begin >= stop:
                continue
            known = out[column, begin:stop]
            # oldest weight first, one weight over the whole chunk: independent bars, which the compiler vectorises
            for k in range(width - 1, -1, -1):
                past = x[column, begin - k : stop - k]
                w = weights[k]
                for i in range(len(known)):
                    known[i] += w * past[i]
            for i in range(len(known)):
                known[i] = known[i] if math.isfinite(known[i]) else np.nan


def fractional_difference(x: FloatArray, order: float, width: int = 48, *, threads: int | None = None) -> FloatArray:
    """(1 - L)^order with a fixed width of bars: between the series (0) and its difference (1).

    Missing where any of the `width` bars is. The only kernel whose work grows with a width; it is a fixed filter.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1 bar, not {width}")
    out = np.empty(x.shape)
    weights = fractional_weights(order, width)
    over_columns(lambda part: _filter(x[part], weights, out[part]), x.shape, threads)
    return out
