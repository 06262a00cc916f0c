"""How far the price may move: quantiles of the return of the bars ahead, a volatility forecast times conformal factors.

On these markets no network beats a factor of the volatility at the 5% quantile (docs/evidence.md names the pilot), so the factors are
what validation says: one-sided split conformal prediction (Vovk et al. 2005), exact where scaled returns are exchangeable, measured
where they are not.
"""

from __future__ import annotations

import numpy as np

from data.panel import FloatArray, Panel
from nas.targets.scores import known

LEVELS = (0.01, 0.05, 0.95, 0.99)


def moves(panel: Panel, horizon: int) -> FloatArray:
    """[A, T]: log return from the open after bar t over `horizon` bars; reads horizon + 1 bars ahead, NaN where they are not known."""
    log_open = np.log(panel.field("open").T)
    out = np.full(log_open.shape, np.nan)
    if log_open.shape[1] > horizon + 1:
        out[:, : -horizon - 1] = log_open[:, horizon + 1 :] - log_open[:, 1:-horizon]
    return out


def conformal_factor(scaled: FloatArray, level: float) -> float:
    """The factor below which a share `level` of scaled returns is to lie, on the safe side of the sample; infinite where it is too small.

    >>> import numpy as np
    >>> conformal_factor(np.arange(1.0, 100.0), 0.05), conformal_factor(np.arange(1.0, 10.0), 0.01)
    (5.0, -inf)
    """
    values = np.sort(scaled[np.isfinite(scaled)])
    if level < 0.5:
        place = int(np.floor(level * (len(values) + 1) + 1e-9)) - 1
        return float(values[place]) if place >= 0 else float("-inf")
    place = int(np.ceil(level * (len(values) + 1) - 1e-9)) - 1
    return float(values[place]) if place < len(values) else float("inf")


def pinball(move: FloatArray, quantile: FloatArray, level: float) -> float:
    """Mean quantile loss (Koenker and Bassett 1978), in the unit of the moves."""
    where = known(move, quantile)
    miss = (move - quantile)[where]
    return float(np.mean(np.maximum(level * miss, (level - 1.0) * miss))) if len(miss) else float("nan")


def judged(before: FloatArray, moved: FloatArray, after: FloatArray, came: FloatArray) -> list[dict[str, float]]:
    """Per level: factor from volatilities `before` and what `moved`, share of what `came` below it with volatilities `after`, pinball.

    All [A, bars]; volatilities are of the same horizon as the moves.
    """
    found = []
    for level in LEVELS:
        factor = conformal_factor(moved / before, level)
        quantile = factor * after
        where = known(quantile, came)
        below = float(np.mean((came < quantile)[where])) if where.any() else float("nan")
        found.append({"level": level, "factor": factor, "below": below, "pinball": pinball(came, quantile, level)})
    return found
