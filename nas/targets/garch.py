"""GARCH(1,1) with Student's t and EGARCH, fitted by `arch` on what is known at every refit, run on with those numbers.

Bollerslev (1986), Nelson (1991). The variance of the next `horizon` bars is the mean of the bars' forecasts; of EGARCH the path of the
expected log variance, whose mean is the lower one: the bias factor that every method gets from earlier bars sees to its level.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from data.panel import FloatArray, Panel
from nas.kernels.compiling import compiled
from nas.targets import series

PERCENT = 100.0  # arch's optimiser wants returns of about one
LONGEST_FIT_BARS = 8_760
KINDS = ("garch", "egarch")


@compiled
def _garch(r: FloatArray, omega: float, alpha: float, beta: float, horizon: int, start: float, out: FloatArray) -> None:
    persistence = alpha + beta
    level = omega / (1.0 - persistence) if persistence < 0.999999 else 0.0
    share = horizon if persistence >= 0.999999 else (1.0 - persistence**horizon) / (1.0 - persistence)
    variance = start
    for t in range(len(r)):
        variance = omega + alpha * r[t] * r[t] + beta * variance  # of bar t + 1
        if persistence >= 0.999999:
            out[t] = variance + omega * (horizon - 1) / 2.0
        else:
            out[t] = level + (variance - level) * share / horizon


@compiled
def _egarch(
    r: FloatArray,
    omega: float,
    alpha: float,
    gamma: float,
    beta: float,
    size: float,
    horizon: int,
    start: float,
    out: FloatArray,
) -> None:
    log_variance = math.log(start)
    for t in range(len(r)):
        z = r[t] / math.exp(0.5 * log_variance)
        log_variance = omega + alpha * (abs(z) - size) + gamma * z + beta * log_variance
        log_variance = min(max(log_variance, -30.0), 30.0)
        ahead, total = log_variance, 0.0
        for _ in range(horizon):
            total += math.exp(ahead)
            ahead = omega + beta * ahead
        out[t] = total / horizon


def forecast(kind: str, panel: Panel, horizon: int, reach: int, refits: Sequence[int]) -> FloatArray:
    """Log volatility per bar of the next `horizon` bars, [A, T], NaN before the first refit. kind: garch or egarch.

    A refit at bar b fits the returns of bars < b, at most a year of hours of them; `reach` is for the signature of every rival.
    """
    from arch import arch_model  # slow to import, and only needed here

    returns = PERCENT * series.returns(panel)
    out = np.full(returns.shape, np.nan)
    edges = [*refits, returns.shape[1]]
    for asset, r in enumerate(returns):
        for k, begin in enumerate(refits):
            known = r[max(0, begin - LONGEST_FIT_BARS) : begin]
            known = known[np.isfinite(known)]
            if len(known) < 500:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a fit that did not converge is used all the same, as its user would
                model = arch_model(
                    known,
                    mean="Zero",
                    vol="GARCH" if kind == "garch" else "EGARCH",
                    p=1,
                    o=int(kind == "egarch"),
                    q=1,
                    dist="t",
                )
                p = model.fit(disp="off", show_warning=False).params
            begin_run = max(0, begin - 1_000)  # the start is forgotten by then
            part = np.nan_to_num(r[begin_run : edges[k + 1]])
            path, start = np.empty(len(part)), float(known.var())
            if kind == "garch":
                _garch(part, p["omega"], p["alpha[1]"], p["beta[1]"], horizon, start, path)
            else:
                size = math.sqrt(2.0 / math.pi)
                _egarch(part, p["omega"], p["alpha[1]"], p["gamma[1]"], p["beta[1]"], size, horizon, start, path)
            out[asset, begin : edges[k + 1]] = 0.5 * np.log(np.maximum(path[begin - begin_run :], 1e-12)) - math.log(
                PERCENT
            )
    return out
