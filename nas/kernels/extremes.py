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
    """Blocks are places in a row, as in `nas.kernels.moments`: a slice of each takes as long as its comparisons."""
    columns, bars = x.shape
    head, head_n = np.empty(window), np.empty(window)
    # tails of the block before and of this one, in turn, each one bar longer: a window that is all head has an empty tail
    tails, tails_n = np.empty(2 * (window + 1)), np.empty(2 * (window + 1))
    one, size, many = np.uint64(1), np.uint64(window), np.uint64(bars)
    for column in range(columns):
        row, target = x[column], out[column]
        tails[:] = -np.inf
        tails_n[:] = 0.0
        old, new = np.uint64(0), size + one
        start = np.uint64(0)
        old_clean = False
        while start < many:
            stop = min(start + size, many)
            n = stop - start
            front = back = -np.inf
            # unsigned: a signed index would be checked for counting from the end
            for step in range(window if n == size else bars % window):  # from the front and from the back at once
                k = np.uint64(step)
                u = sign * row[start + k]
                front = u if u > front else front
                head[k] = front
                place = n - one - k
                w = sign * row[start + place]
                back = w if w > back else back
                tails[new + place] = back
            past = old + one
            lacking = False
            for step in range(window if n == size else bars % window):
                k = np.uint64(step)
                v = row[start + k]
                lacking |= v - v != 0.0  # of what is not finite, the difference is not either
                target[start + k] = sign * (head[k] if head[k] > tails[past + k] else tails[past + k])
            clean = not lacking
            if not (clean and old_clean):
                _count(
                    row[start:stop], sign, head, head_n, tails[new : new + size + one], tails_n[new : new + size + one]
                )
                for step in range(window if n == size else bars % window):
                    k = np.uint64(step)
                    rest = window - 1.0 - step if old_clean else tails_n[past + k]
                    enough = head_n[k] + rest >= min_periods
                    target[start + k] = sign * max(head[k], tails[past + k]) if enough else np.nan
            old_clean = clean and n == size
            old, new = new, old
            start = stop


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
