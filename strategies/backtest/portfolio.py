"""Positions of several assets -> one book of weights under gross and net limits. Beside `positions`, which knows one asset.

Every step is causal and bar by bar: what is decided at the close of bar t reads bars up to t. With one asset the book is the
position rule's own, bit for bit, unless a limit binds.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass, replace

import numba
import numpy as np

from data.panel import FloatArray, Panel
from strategies.backtest.positions import PositionRule, target_positions

WEIGHTINGS = ("equal_risk", "volatility_target", "long_short", "mean_risk", "hrp")
OPTIMISED = ("mean_risk", "hrp")
COVARIANCE_SPAN_BARS = 168
LEAST_KNOWN_BARS = 24  # of a pair's returns before its covariance counts
STEADYING = 0.02  # turnover penalty of weightings whose weights move with every new covariance


@dataclass(frozen=True)
class Portfolio:
    """Who gets how much of the account. `weighting`:

    equal_risk         every listed asset gets an equal part of the account and is sized by its own volatility;
    volatility_target  the same, then the whole book is scaled so that its volatility, correlations included, is the target;
    long_short         forecasts count relative to their mean over the assets; net exposure is held at zero;
    mean_risk, hrp     parts by skfolio's minimum-risk or hierarchical risk parity portfolio of the last `estimation_bars`,
                       anew every `rebalance_bars`; then scaled to the volatility target.

    gross_limit:      most sum |weight| (None: the rule's max_leverage).
    net_limit:        most |sum of weights|; what is beyond is cut from the larger side (None: no limit, 0 for long_short).
    turnover_penalty: per unit of weight traded; a weight moves only until half its squared distance to the wanted one is worth less
                      than the penalty: it stops this far before it (None: 0, or 0.02 where weights follow a covariance).

    Examples
    --------
    >>> import numpy as np
    >>> from strategies import Portfolio
    >>> Portfolio("long_short").signal(np.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """

    weighting: str = "equal_risk"
    gross_limit: float | None = None
    net_limit: float | None = None
    turnover_penalty: float | None = None
    rebalance_bars: int = 168
    estimation_bars: int = 720

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"no weighting {self.weighting!r}; there are {', '.join(WEIGHTINGS)}")
        for name in ("gross_limit", "net_limit", "turnover_penalty"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, not {value}")
        if self.rebalance_bars < 1 or self.estimation_bars < 48:
            raise ValueError("rebalance_bars must be at least 1 and estimation_bars at least 48")

    @property
    def penalty(self) -> float:
        """The turnover penalty that holds: as given, or the weighting's own."""
        if self.turnover_penalty is not None:
            return self.turnover_penalty
        return STEADYING if self.weighting in ("volatility_target", *OPTIMISED) else 0.0

    def limits(self, rule: PositionRule) -> tuple[float, float]:
        """(gross, net)."""
        gross = rule.max_leverage if self.gross_limit is None else self.gross_limit
        net = (0.0 if self.weighting == "long_short" else math.inf) if self.net_limit is None else self.net_limit
        return gross, net

    def signal(self, forecasts: FloatArray) -> FloatArray:
        """[n, A]: the forecasts as the position rule sees them; NaN where not known, or where there is nothing to compare with."""
        if self.weighting != "long_short":
            return forecasts
        forecasts = np.ascontiguousarray(forecasts)  # sums over assets must not depend on how the bars lie in memory
        known = np.isfinite(forecasts)
        count = known.sum(1, keepdims=True)
        mean = np.where(known, forecasts, 0.0).sum(1, keepdims=True) / np.maximum(count, 1)
        relative: FloatArray = np.where(known & (count > 1), forecasts - mean, np.nan)
        return relative


def book_of(
    panel: Panel,
    signal: FloatArray,
    volatility: FloatArray,
    start: int,
    rule: PositionRule,
    portfolio: Portfolio = Portfolio(),
    others: int = 0,
) -> FloatArray:
    """Targets [n, A] (fraction of equity) from signals [n, A] of bars start.. of the panel.

    volatility: [T, A] causal, per bar, of the whole panel. others: assets of the account that are not in this panel and count
    as listed. ValueError where a volatility target is needed and the rule has none.
    """
    n = len(signal)
    optimised = portfolio.weighting in OPTIMISED
    aims = portfolio.weighting == "volatility_target" or optimised
    if aims and rule.target_volatility <= 0.0:
        raise ValueError(f"weighting {portfolio.weighting} needs a target_volatility above 0")
    each = replace(rule, target_volatility=0.0) if optimised else rule
    part = volatility[start : start + n]
    columns = [
        target_positions(signal[:, a], part[:, a], each.of(asset), panel.bars_per_year)
        for a, asset in enumerate(panel.assets)
    ]
    wanted = np.stack(columns, 1)
    if optimised:
        wanted = wanted * allocations(panel, portfolio)[start : start + n]
    else:
        listed = np.isfinite(panel.field("close")[start : start + n]).sum(1, keepdims=True) + others
        wanted = wanted / np.maximum(listed, 1)
    gross, net = portfolio.limits(rule)
    if aims:
        close = panel.field("close")[: start + n]
        returns = np.diff(np.log(close), axis=0, prepend=np.nan)
        aim = rule.target_volatility / math.sqrt(panel.bars_per_year)
        wanted = _scaled(wanted, returns, start, aim, gross)
    out: FloatArray = _held(wanted, gross, net, portfolio.penalty)
    return out


@functools.lru_cache(maxsize=4)
def allocations(panel: Panel, portfolio: Portfolio) -> FloatArray:
    """[T, A]: parts of the account by skfolio, each row summing to 1, from the returns of the bars up to its own.

    Before enough is known, and for assets that are not listed through the whole estimation: equal parts of what is listed, the
    rest shared by the optimiser.
    """
    close = panel.field("close")
    returns = np.diff(np.log(close), axis=0, prepend=np.nan)
    listed = np.isfinite(close)
    out = np.zeros(close.shape)
    for first in range(0, len(panel), portfolio.rebalance_bars):
        known = returns[max(0, first + 1 - portfolio.estimation_bars) : first + 1]
        now = listed[first]
        share = now / max(1, int(now.sum()))
        usable = np.flatnonzero(np.isfinite(known).all(0) & (known.std(0) > 1e-9)) if len(known) >= 48 else np.array([])
        if len(usable) > 1:
            share[usable] = _fitted(portfolio.weighting, known[:, usable]) * share[usable].sum()
        out[first : first + portfolio.rebalance_bars] = share
    return np.where(listed, out, 0.0)


#: digest of returns -> parts: paper trading asks for the same estimations again at every bar
_FITTED: dict[bytes, FloatArray] = {}


def _fitted(weighting: str, returns: FloatArray) -> FloatArray:
    """[A]: parts that sum to 1, by skfolio's portfolio of these returns [T, A]."""
    # takes seconds to load, for two of the weightings
    from skfolio.optimization import HierarchicalRiskParity, MeanRisk

    key = hashlib.sha256(f"{weighting} {returns.shape}".encode() + returns.tobytes()).digest()
    if key not in _FITTED:
        model = MeanRisk() if weighting == "mean_risk" else HierarchicalRiskParity()
        model.fit(returns / returns.std())  # in units that the solver's tolerances are made for
        _FITTED[key] = np.asarray(model.weights_)
    return _FITTED[key]


@numba.njit(cache=True)
def _scaled(wanted: FloatArray, returns: FloatArray, start: int, aim: float, gross: float) -> FloatArray:
    """Each row scaled to the volatility `aim` per bar by an exponential covariance of the returns so far; at most `gross`."""
    n, assets = wanted.shape
    out = np.zeros((n, assets))
    covariance = np.zeros((assets, assets))
    seen = np.zeros((assets, assets))
    weight = 2.0 / (COVARIANCE_SPAN_BARS + 1.0)
    for t in range(start + n):
        for a in range(assets):
            x = returns[t, a]
            if math.isnan(x):
                continue
            for b in range(a + 1):
                y = returns[t, b]
                if math.isnan(y):
                    continue
                seen[a, b] += 1.0
                covariance[a, b] += max(weight, 1.0 / seen[a, b]) * (x * y - covariance[a, b])
                covariance[b, a], seen[b, a] = covariance[a, b], seen[a, b]
        if t < start:
            continue
        row = wanted[t - start]
        variance, total = 0.0, 0.0
        for a in range(assets):
            total += abs(row[a])
            for b in range(assets):
                if seen[a, b] >= LEAST_KNOWN_BARS:
                    variance += row[a] * row[b] * covariance[a, b]
        if total == 0.0 or variance <= 0.0:
            continue
        factor = min(aim / math.sqrt(variance), gross / total)
        for a in range(assets):
            if seen[a, a] >= LEAST_KNOWN_BARS:
                out[t - start, a] = row[a] * factor
    return out


@numba.njit(cache=True)
def _held(wanted: FloatArray, gross: float, net: float, penalty: float) -> FloatArray:
    """The wanted weights within the limits, approached no further than the turnover penalty lets it pay."""
    n, assets = wanted.shape
    out = np.empty((n, assets))
    held = np.zeros(assets)
    for t in range(n):
        now = wanted[t].copy()
        _limit(now, gross, net)
        if penalty > 0.0:
            for a in range(assets):
                move = now[a] - held[a]
                # minimum of (w - wanted)^2 / 2 + penalty |w - held|; what is to be left is left whole
                if now[a] != 0.0:
                    now[a] = held[a] + math.copysign(max(abs(move) - penalty, 0.0), move)
            _limit(now, gross, net)
        held = now
        for a in range(assets):  # an array assigned to a row takes as long to compile as all the rest
            out[t, a] = now[a]
    return out


@numba.njit(cache=True)
def _limit(weights: FloatArray, gross: float, net: float) -> None:
    """In place: the larger side down until |net| fits, then everything until gross fits. Untouched where both do."""
    up, down = 0.0, 0.0
    for w in weights:
        if w > 0.0:
            up += w
        else:
            down -= w
    if abs(up - down) > net:
        larger, kept = max(up, down), min(up, down) + net
        sign = 1.0 if up > down else -1.0
        for a in range(len(weights)):
            if weights[a] * sign > 0.0:
                weights[a] *= kept / larger
        up, down = (kept, down) if up > down else (up, kept)
    if up + down > gross * (1.0 + 1e-12):
        factor = gross / (up + down)
        for a in range(len(weights)):
            weights[a] *= factor
