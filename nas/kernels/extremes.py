"""Rolling minimum and maximum (van Herk 1992, Gil and Werman 1993): tail of the block before and head of this one."""

from __future__ import annotations

import math

import numpy as np

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns, periods


@compiled
def _maximum(x: FloatArray, sign: float, window: int, min_periods: int, out: FloatArray) -> None:
    columns, bars = x.shape
    head, head_n = np.empty(window), np.empty(window)
    tail, tail_n = np.empty(window + 1), np.empty(window + 1)
    for column in range(columns):
        tail[:] = -np.inf
        tail_n[:] = 0.0
        tail_clean = False
        for start in range(0, bars, window):
            v = x[column, start : min(start + window, bars)]
            target = out[column, start : min(start + window, bars)]
            n = len(v)
            highest = -np.inf
            zero = 0.0
            for k in range(n):
                u = sign * v[k]
                zero += u - u  # stays 0 while everything is finite
                highest = u if u > highest else highest
                head[k] = highest
            clean = zero == 0.0
            if clean and tail_clean:
                for k in range(n):
                    target[k] = sign * (head[k] if head[k] > tail[k + 1] else tail[k + 1])
            else:
                highest = -np.inf
                count = 0.0
                for k in range(n):
                    if math.isfinite(v[k]):
                        highest = max(highest, sign * v[k])
                        count += 1.0
                    head[k], head_n[k] = highest, count
                for k in range(n):
                    rest = window - 1.0 - k if tail_clean else tail_n[k + 1]
                    enough = head_n[k] + rest >= min_periods
                    target[k] = sign * max(head[k], tail[k + 1]) if enough else np.nan
            highest = -np.inf
            if clean:
                for k in range(n - 1, -1, -1):
                    u = sign * v[k]
                    highest = u if u > highest else highest
                    tail[k] = highest
            else:
                count = 0.0
                for k in range(n - 1, -1, -1):
                    if math.isfinite(v[k]):
                        highest = max(highest, sign * v[k])
                        count += 1.0
                    tail[k], tail_n[k] = highest, count
                tail_n[n] = 0.0
            tail_clean = clean


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
