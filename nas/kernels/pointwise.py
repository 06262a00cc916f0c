"""Logarithm, difference, log return and fractional difference."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns

IntArray = npt.NDArray[np.int64]


# fdlibm's e_log.c, as musl arranges it: x = 2^k m with m in [sqrt(1/2), sqrt(2)), log m by an odd series of s = f / (2 + f), f = m - 1.
# Plain additions, products and one division: the compiler takes several bars at once, and every processor gives the same bits.
BLOCK = 512
SMALLEST = 2.2250738585072014e-308  # what lies below is not normal and has no exponent of its own
ONE, MANTISSA = 0x3FF0000000000000, 0x000FFFFFFFFFFFFF
LOW = 0x3FE6A09E00000000  # sqrt(1/2), its upper half
SHIFTED = 0x4330000000000000  # an integer below 2^52 in the low bits of this is the number 2^52 + integer
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
L1, L2, L3, L4 = 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01
L5, L6, L7 = 1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01


@compiled
def _logs(v: FloatArray, bits: IntArray, parts: IntArray, numbers: FloatArray, target: FloatArray) -> None:
    """At most BLOCK logarithms. bits: v's own. parts: [2, BLOCK] to work in, numbers: the same bits as floats."""
    n = len(v)
    exponent, mantissa = parts[0, :n], parts[1, :n]
    for i in range(n):
        u = bits[i] + np.int64(ONE - LOW)
        exponent[i] = ((u >> np.int64(52)) & np.int64(0x7FF)) | np.int64(SHIFTED)
        mantissa[i] = (u & np.int64(MANTISSA)) + np.int64(LOW)
    k, m = numbers[0, :n], numbers[1, :n]
    strange = False
    for i in range(n):
        power = k[i] - (4503599627370496.0 + 1023.0)
        f = m[i] - 1.0
        half = 0.5 * f * f
        s = f / (2.0 + f)
        z = s * s
        w = z * z
        rest = z * (L1 + w * (L3 + w * (L5 + w * L7))) + w * (L2 + w * (L4 + w * L6))
        y = s * (half + rest) + power * LN2_LOW - half + f + power * LN2_HIGH
        target[i] = y if SMALLEST <= v[i] < np.inf else np.nan
        strange |= 0.0 < v[i] < SMALLEST
    if strange:
        for i in range(n):
            if 0.0 < v[i] < SMALLEST:
                target[i] = math.log(v[i])


@compiled
def _log(x: FloatArray, bits: IntArray, out: FloatArray) -> None:
    columns, bars = x.shape
    parts = np.empty((2, BLOCK), np.int64)
    numbers = parts.view(np.float64)
    for column in range(columns):
        v, u, target = x[column], bits[column], out[column]
        for start in range(0, bars, BLOCK):
            stop = min(start + BLOCK, bars)
            _logs(v[start:stop], u[start:stop], parts, numbers, target[start:stop])


def log(x: FloatArray, *, threads: int | None = None) -> FloatArray:
    """Natural logarithm, within one unit of the last place; NaN where x is not positive. The bits of a value depend on nothing else."""
    x, out = np.ascontiguousarray(x, dtype=np.float64), np.empty(x.shape)
    bits = x.view(np.int64)
    over_columns(lambda part: _log(x[part], bits[part], out[part]), x.shape, threads)
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


@compiled
def _log_return(x: FloatArray, bits: IntArray, lag: int, out: FloatArray) -> None:
    columns, bars = x.shape
    parts = np.empty((2, BLOCK), np.int64)
    numbers = parts.view(np.float64)
    # logarithms of the last `lag` bars and of the block: what is read again is still in the cache
    logs = np.empty(lag + BLOCK)
    for column in range(columns):
        v, u = x[column], bits[column]
        logs[:] = np.nan
        for start in range(0, bars, BLOCK):
            stop = min(start + BLOCK, bars)
            n = stop - start
            now, past, target = logs[lag : lag + n], logs[:n], out[column, start:stop]
            _logs(v[start:stop], u[start:stop], parts, numbers, now)
            for i in range(n):
                target[i] = now[i] - past[i]
            for i in range(lag):
                logs[i] = logs[i + n]


def log_return(x: FloatArray, lag: int = 1, *, threads: int | None = None) -> FloatArray:
    """log(x[t] / x[t - lag]), as the difference of the logarithms."""
    if lag < 1:
        raise ValueError(f"lag must be at least 1 bar, not {lag}")
    x, out = np.ascontiguousarray(x, dtype=np.float64), np.empty(x.shape)
    bits = x.view(np.int64)
    over_columns(lambda part: _log_return(x[part], bits[part], lag, out[part]), x.shape, threads)
    return out


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
