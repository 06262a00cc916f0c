"""Causal rolling kernels in numba: O(1) work per value whatever the window, float64 inside, NaN-aware.

Every kernel reads x [C, T] (C independent columns, time contiguous) and returns [C, T]; value t reads bars <= t only.

Missing values: NaN and infinities count as missing and are left out of a window; a window with fewer than `min_periods`
values (default: the whole window) gives NaN.

Sums are never carried through the whole history. Time is cut into blocks of one window; a window ending in block b is
tail of block b-1 plus the head of block b, so each sum is two short ones, taken about a value (the anchor) that is
inside the window. No value that has left the window leaves a rounding error behind, and a large offset cancels exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from data.panel import FloatArray

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """numba.njit with the code kept on disk, so that only the first run ever compiles; releases the GIL."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@compiled
def _rolling_moments(
    x: FloatArray, window: int, min_periods: int, mean: FloatArray, std: FloatArray, z: FloatArray
) -> None:
    """Mean, sample standard deviation (ddof 1) and z-score of the newest value, in one pass."""
    columns, bars = x.shape
    tail_n = np.zeros(window + 1)
    tail_1 = np.zeros(window + 1)
    tail_2 = np.zeros(window + 1)
    for column in range(columns):
        tail_n[:] = 0.0
        tail_1[:] = 0.0
        tail_2[:] = 0.0
        tail_anchor = 0.0
        for start in range(0, bars, window):
            stop = min(start + window, bars)
            anchor = n = s1 = s2 = 0.0
            for t in range(start, stop):
                v = x[column, t]
                known = math.isfinite(v)
                if known:
                    if n == 0.0:
                        anchor = v
                    d = v - anchor
                    n += 1.0
                    s1 += d
                    s2 += d * d
                k = t - start + 1
                n_tail = tail_n[k]
                total = n + n_tail
                if total < min_periods or total == 0.0:
                    mean[column, t] = std[column, t] = z[column, t] = np.nan
                    continue
                if n_tail == 0.0:
                    base = anchor
                    shift = s1 / n
                    m2 = s2 - s1 * shift
                elif n == 0.0:
                    base = tail_anchor
                    shift = tail_1[k] / n_tail
                    m2 = tail_2[k] - tail_1[k] * shift
                else:
                    base = anchor
                    head_mean = s1 / n
                    tail_mean = tail_1[k] / n_tail
                    gap = (tail_anchor - anchor) + (tail_mean - head_mean)
                    shift = head_mean + gap * (n_tail / total)
                    m2 = (s2 - s1 * head_mean) + (tail_2[k] - tail_1[k] * tail_mean) + gap * gap * (n * n_tail / total)
                m2 = max(m2, 0.0)
                mean[column, t] = base + shift
                deviation = math.sqrt(m2 / (total - 1.0)) if total > 1.0 else np.nan
                std[column, t] = deviation
                if not known or total < 2.0:
                    z[column, t] = np.nan
                elif deviation > 0.0:
                    z[column, t] = ((v - base) - shift) / deviation
                else:
                    z[column, t] = 0.0
            if stop - start == window:
                tail_anchor = n = s1 = s2 = 0.0
                for k in range(window - 1, -1, -1):
                    v = x[column, start + k]
                    if math.isfinite(v):
                        if n == 0.0:
                            tail_anchor = v
                        d = v - tail_anchor
                        n += 1.0
                        s1 += d
                        s2 += d * d
                    tail_n[k] = n
                    tail_1[k] = s1
                    tail_2[k] = s2


def rolling_moments(
    x: FloatArray, window: int, min_periods: int | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, sample standard deviation and z-score over the last `window` bars; a constant window has z-score 0."""
    mean, std, z = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    _rolling_moments(x, window, window if min_periods is None else min_periods, mean, std, z)
    return mean, std, z


@compiled
def _rolling_rank(x: FloatArray, window: int, min_periods: int, out: FloatArray) -> None:
    columns, bars = x.shape
    for column in range(columns):
        for t in range(bars):
            v = x[column, t]
            first = max(t - window + 1, 0)
            below = 0
            known = 0
            for i in range(first, t + 1):
                u = x[column, i]
                below += int(u < v) + int(u <= v)
                known += int(math.isfinite(u))
            if known < min_periods or not math.isfinite(v):
                out[column, t] = np.nan
            else:
                out[column, t] = (below + 1) / 2


def rolling_rank(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    """Rank of the newest value among the last `window` (1 = smallest; ties share the average rank)."""
    out = np.empty_like(x)
    _rolling_rank(x, window, window if min_periods is None else min_periods, out)
    return out


@compiled
def _ewm(x: FloatArray, decay: float, min_periods: int, mean: FloatArray, std: FloatArray, z: FloatArray) -> None:
    """The distance to the mean is carried instead of the mean: delta[t] = x[t] - x[t-1] + (1 - gain) delta[t-1], so
    that a large offset never enters the recurrence."""
    columns, bars = x.shape
    for column in range(columns):
        weight = weight_squared = distance = variance = last = 0.0
        seen = 0
        for t in range(bars):
            v = x[column, t]
            weight *= decay
            weight_squared *= decay * decay
            known = math.isfinite(v)
            if known:
                weight += 1.0
                weight_squared += 1.0
                gain = 1.0 / weight
                delta = (v - last) + distance if seen else 0.0
                distance = (1.0 - gain) * delta
                variance = (1.0 - gain) * (variance + gain * delta * delta)
                last = v
                seen += 1
            if seen < min_periods or seen == 0:
                mean[column, t] = std[column, t] = z[column, t] = np.nan
                continue
            mean[column, t] = last - distance
            freedom = weight * weight - weight_squared
            deviation = math.sqrt(variance * weight * weight / freedom) if seen > 1 else np.nan
            std[column, t] = deviation
            if not known or seen < 2:
                z[column, t] = np.nan
            else:
                z[column, t] = distance / deviation if deviation > 0.0 else 0.0


def ewm_moments(x: FloatArray, span: float, min_periods: int = 2) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Exponentially weighted mean, standard deviation (bias corrected) and z-score of the newest value.

    Weights (1 - 2 / (span + 1))^age, as in pandas `ewm(span=span, adjust=True, ignore_na=False)`.
    """
    mean, std, z = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    _ewm(x, 1.0 - 2.0 / (span + 1.0), min_periods, mean, std, z)
    return mean, std, z


@compiled
def _difference(x: FloatArray, lag: int, out: FloatArray) -> None:
    columns, bars = x.shape
    for column in range(columns):
        for t in range(bars):
            out[column, t] = x[column, t] - x[column, t - lag] if t >= lag else np.nan


def difference(x: FloatArray, lag: int = 1) -> FloatArray:
    """x[t] - x[t - lag]."""
    out = np.empty_like(x)
    _difference(x, lag, out)
    return out


@compiled
def _log(x: FloatArray, out: FloatArray) -> None:
    columns, bars = x.shape
    for column in range(columns):
        for t in range(bars):
            v = x[column, t]
            out[column, t] = math.log(v) if v > 0.0 else np.nan


def log(x: FloatArray) -> FloatArray:
    """Natural logarithm; NaN where x is not positive.

    One scalar routine for every position: numpy's vector loops may round differently at the end of an array, which
    would break the bit-identity of prefixes.
    """
    out = np.empty_like(x)
    _log(x, out)
    return out
