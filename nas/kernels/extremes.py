"""Rolling minimum and maximum (van Herk 1992, Gil and Werman 1993): tail of the block before and head of this one."""

from __future__ import annotations

import math

import numpy as np

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns, periods


@compiled
def _count(
    v: FloatArray, sign: float, head: FloatArray, head_n: FloatArray, tail: FloatArray, tail_n: FloatArray
) -> None:
    """Largest known values from the front and from the back of a block, with their number."""
    n = len(v)
    highest, count = -np.inf, 0.0
    for k in range(n):
        if math.isfinite(v[k]):
            highest = max(highest, sign * v[k])
            count += 1.0
        head[k], head_n[k] = highest, count
    highest, count = -np.inf, 0.0
    for k in range(n - 1, -1, -1):
        if math.isfinite(v[k]):
            highest = max(highest, sign * v[k])
            count += 1.0
        tail[k], tail_n[k] = highest, count
    tail[n], tail_n[n] = -np.inf, 0.0


@compiled
def _maximum(x: FloatArray, sign: float, window: int, min_periods: int, out: FloatArray) -> None:
    """In one function: a call and a slice more for each block take as long as its comparisons."""
    columns, bars = x.shape
    head, head_n = np.empty(window), np.empty(window)
    # tails of the block before, one bar longer: a window that is all head has an empty tail
    old, old_n = np.empty(window + 1), np.empty(window + 1)
    new, new_n = np.empty(window + 1), np.empty(window + 1)
    for column in range(columns):
        old[:] = -np.inf
        old_n[:] = 0.0
        old_clean = False
        for start in range(0, bars, window):
            v = x[column, start : min(start + window, bars)]
            target = out[column, start : min(start + window, bars)]
            n = len(v)
            new[n] = -np.inf
            front = back = -np.inf
            end = np.uint64(n - 1)  # unsigned: a signed index would be checked for counting from the end
            for k in range(n):  # from the front and from the back at once, so that neither waits for the other
                u = sign * v[k]
                front = u if u > front else front
                head[k] = front
                place = end - np.uint64(k)
                w = sign * v[place]
                back = w if w > back else back
                new[place] = back
            past = old[1:]
            lacking = False
            for k in range(n):
                lacking |= v[k] - v[k] != 0.0  # of what is not finite, the difference is not either
                target[k] = sign * (head[k] if head[k] > past[k] else past[k])
            clean = not lacking
            if not (clean and old_clean):
                _count(v, sign, head, head_n, new, new_n)
                for k in range(n):
                    rest = window - 1.0 - k if old_clean else old_n[k + 1]
                    enough = head_n[k] + rest >= min_periods
                    target[k] = sign * max(head[k], old[k + 1]) if enough else np.nan
            old_clean = clean and n == window
            old, new = new, old
            old_n, new_n = new_n, old_n


def rolling_max(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Largest known value of the last `window` bars."""
    out, least = np.empty(x.shape), periods(window, min_periods)
    over_columns(lambda part: _maximum(x[part], 1.0, window, least, out[part]), x.shape, threads)
    return out


def rolling_min(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Smallest known value of the last `window` bars."""
    out, least = np.empty(x.shape), periods(window, min_periods)
    over_columns(lambda part: _maximum(x[part], -1.0, window, least, out[part]), x.shape, threads)
    return out
