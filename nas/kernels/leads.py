"""Who leads whom: the score of every pair, lag and state. Unlike the other kernels not a series but a statistic of one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray
from nas.kernels.compiling import compiled

Flags = npt.NDArray[np.bool_]


@compiled
def _scores(
    returns: FloatArray, counted: Flags, least_bars: int, least_alone: float, clip: float, out: FloatArray
) -> None:
    assets, bars = returns.shape
    own, now, before, news = np.empty(bars), np.empty(bars), np.empty(bars), np.empty(bars)
    for i in range(assets):
        for j in range(assets):
            if i == j:
                continue
            for state in range(len(counted)):
                for lag in range(1, out.shape[3] + 1):
                    n = 0
                    oo, oy, ol, on = 0.0, 0.0, 0.0, 0.0
                    for t in range(lag, bars):
                        if not counted[state, t]:
                            continue
                        o, y, b, w = returns[i, t - lag], returns[i, t], returns[j, t - lag], returns[j, t]
                        if not math.isfinite(o + y + b + w):
                            continue
                        own[n], now[n], before[n], news[n] = o, y, b, w
                        oo += o * o
                        oy += o * y
                        ol += o * b
                        on += o * w
                        n += 1
                    if n < least_bars:
                        continue
                    size = max(oo, 1e-12)
                    slope_y, slope_l, slope_n = oy / size, ol / size, on / size
                    total, square, nn, ny, nl = 0.0, 0.0, 0.0, 0.0, 0.0
                    for k in range(n):
                        y = now[k] - slope_y * own[k]
                        b = before[k] - slope_l * own[k]
                        w = news[k] - slope_n * own[k]
                        now[k], before[k], news[k] = y, b, w
                        nn += w * w
                        ny += w * y
                        nl += w * b
                        product = min(max(y, -clip), clip) * b
                        total += product
                        square += product * product
                    spread = math.sqrt(square)
                    if spread <= 1e-9 or abs(total) < least_alone * spread:
                        continue
                    alone = total
                    size = max(nn, 1e-12)
                    slope_y, slope_l = ny / size, nl / size
                    total, square = 0.0, 0.0
                    for k in range(n):
                        product = min(max(now[k] - slope_y * news[k], -clip), clip) * (before[k] - slope_l * news[k])
                        total += product
                        square += product * product
                    spread = math.sqrt(square)
                    if spread > 1e-9 and total * alone > 0.0:
                        out[i, j, state, lag - 1] = total / spread


def lead_scores(
    returns: FloatArray, counted: Flags, most_lag: int, *, least_bars: int, least_alone: float, clip: float
) -> FloatArray:
    """[follower, leader, state, lag]: standard errors by which the leader's return of `lag` bars before moves the follower's.

    returns: [asset, bar]. counted: [state, bar], which bars of a follower count. At least `least_bars` known in both; 0 elsewhere and
    where the score without `news`, the leader's return of the follower's bar, is below `least_alone` or of the other sign. `clip`: size
    beyond which the follower's returns count as it. `nas.network.links.evidence` says what it is for; the tests hold the plain formula.
    """
    out = np.zeros((len(returns), len(returns), len(counted), most_lag))
    _scores(np.ascontiguousarray(returns), np.ascontiguousarray(counted), least_bars, least_alone, clip, out)
    return out
