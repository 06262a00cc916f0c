"""Choices made before a window is traded, on stop stretches only (never on test bars): which network trades, by which plan, or none.

A plan says how forecasts become orders. All plans of all candidates are tried on the stop stretch (the last half of validation)
of the window; a plan's record is its net returns there and on the stop stretches of all earlier windows, each bar counted once.
The best plan trades only if what this way of choosing earned on earlier *test* stretches, which none of its choices had seen, is
unlikely to be luck; otherwise the strategy stays flat (docs/decisions/111-evidence-is-a-rate.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Generic, TypeVar

import numpy as np

from data.panel import FloatArray, Panel
from strategies.backtest.accounting import accounts_for
from strategies.backtest.positions import PositionRule, smoothed
from strategies.backtest.terms import Account, Costs

C = TypeVar("C")


@dataclass(frozen=True)
class Plan:
    """How forecasts become positions.

    threshold: |forecast| that enters, in standard deviations of the forecasts of the stop stretch (inf: never).
    smoothing: the forecast is averaged (exponentially) over this many horizons.
    hurdle:    the expected move must be this many times the cost of a round trip.
    always:    of a run that forecasts no direction: in the market at full size all of the time, whatever its record.
    """

    threshold: float
    smoothing: float = 0.0
    hurdle: float = 0.0
    always: bool = False

    @property
    def name(self) -> str:
        if self.always:
            return "hold"
        if math.isinf(self.threshold):
            return "flat"
        return f"threshold{self.threshold:g}-smoothing{self.smoothing:g}-hurdle{self.hurdle:g}"

    @property
    def words(self) -> str:
        """What pages call it.

        Examples
        --------
        >>> Plan(0.5, 2.0, 1.0).words
        'enter beyond 0.5 standard deviations of the forecast averaged over 2 horizons, where the move pays 1 round trip'
        """
        if self.always or math.isinf(self.threshold):
            return "always in the market" if self.always else "stay flat"
        averaged = f" averaged over {self.smoothing:g} horizons" if self.smoothing else ""
        paid = f", where the move pays {self.hurdle:g} round trip{'s' * (self.hurdle != 1)}" if self.hurdle else ""
        return f"enter beyond {self.threshold:g} standard deviations of the forecast{averaged}{paid}"


FLAT = Plan(math.inf)
HOLD = Plan(0.0, always=True)


def plans(thresholds: Sequence[float], smoothings: Sequence[float], hurdles: Sequence[float]) -> tuple[Plan, ...]:
    """Every combination, the most cautious first, so that of equal records the one that trades least is chosen."""
    found = [Plan(*each) for each in itertools.product(thresholds, smoothings, hurdles)]
    return tuple(sorted(found, key=lambda plan: (-plan.threshold, -plan.hurdle, -plan.smoothing)))


@dataclass(frozen=True, eq=False)
class Tried:
    """One plan on the stop stretch of one window. returns: [bar] of the account, after costs and funding."""

    plan: Plan
    returns: FloatArray
    sharpe: float


@dataclass(frozen=True, eq=False)
class Choice(Generic[C]):
    """What trades a window.

    best: the plan with the best record on stop stretches. by_luck: how likely a way of choosing without skill shows a record as good as
    the one on the earlier test stretches (1 before there is one). needed: how likely it may be. record: blocks of that record.
    """

    candidate: C
    plan: Plan
    best: Plan
    by_luck: float
    needed: float
    record: int

    @property
    def why_flat(self) -> str:
        """In one sentence; empty where the window trades."""
        if self.plan != FLAT:
            return ""
        if self.needed >= 1.0:
            return "the window stays flat: no plan earned anything on its validation bars"
        if not self.record:
            return (
                "the window stays flat: no unseen day of earlier windows tells yet whether such choices earn anything"
            )
        earned, asked = (_errors(chance) for chance in (self.by_luck, self.needed))
        return (
            f"the window stays flat: plans chosen like its best one earned {earned:.1f} standard errors on {self.record} earlier unseen "
            f"days, luck shows {asked:.1f} once in {1.0 / self.needed:.0f}"
        )


def _errors(chance: float) -> float:
    """Standard errors that luck alone shows or exceeds with this probability."""
    return -NormalDist().inv_cdf(min(max(chance, 1e-9), 1.0 - 1e-9))


class Records(Generic[C]):
    """Two records of one strategy, window after window. Which plan is best: by the stop-stretch returns of every configuration (key,
    plan). Whether it may trade: by what the plans chosen so far earned on the test stretches that came after, where no training stopped, no
    weight of an architecture moved and no plan was chosen: `learn` tells them, whether they traded or not.

    rate: share of windows that may trade where no plan has skill; 1 asks only that the best plan earned anything on validation.
    block: bars of the record that count as one observation (a day).
    """

    def __init__(self, rate: float, block: int = 1) -> None:
        self.rate = rate
        self.block = block
        self._stop: dict[tuple[str, Plan], tuple[FloatArray, int]] = {}
        self._unseen: list[FloatArray] = []

    def choose(self, candidates: Sequence[tuple[str, C, Sequence[Tried]]], start: int = 0) -> Choice[C]:
        """Choose among the (configuration key, candidate, its trials) of the next window in time, and remember them.

        start: first bar of its stop stretch; bars of earlier ones from there on are not counted again.
        """
        entries = []
        for key, candidate, trials in candidates:
            for tried in trials:
                past, stop = self._stop.get((key, tried.plan), (np.empty(0), start))
                known = np.concatenate([past[: len(past) - max(0, stop - start)], tried.returns])
                self._stop[key, tried.plan] = known, start + len(tried.returns)
                entries.append((_record(known), candidate, tried.plan))
        record, candidate, plan = max(entries, key=lambda entry: entry[0])
        blocks = in_blocks(np.concatenate([np.empty(0), *self._unseen]), self.block)
        by_luck = luck_of(blocks)
        trades = plan.always or (by_luck <= self.rate if self.rate < 1.0 else record > 0.0)
        return Choice(candidate, plan if trades else FLAT, plan, by_luck, self.rate, int(np.count_nonzero(blocks)))

    def learn(self, returns: FloatArray) -> None:
        """What the best plan of the last choice earned on the test stretch of its window, per bar: for the windows after it."""
        self._unseen.append(returns)


def _record(returns: FloatArray) -> float:
    """Mean return in standard errors; 0 where nothing was earned or lost."""
    deviation = float(returns.std())
    return 0.0 if deviation < 1e-12 else float(returns.mean() / deviation * math.sqrt(len(returns)))


def in_blocks(returns: FloatArray, size: int) -> FloatArray:
    """Sums over so many bars, the last one shorter: what hangs together within them is one observation."""
    return np.add.reduceat(returns, np.arange(0, len(returns), max(1, size))) if len(returns) else returns


EXACT = 12  # blocks up to which every assignment of signs is counted


def luck_of(blocks: FloatArray) -> float:
    """P-value of a sum under random signs: how likely returns as large, of either sign with equal chance, add up to as much.

    The magnitudes are kept, so that neither fat tails nor spells of volatility matter. Every assignment up to EXACT blocks that
    moved; above, the normal limit of the self-normalised sum, which errs to the safe side in the tail (Efron 1969). 1 where nothing moved.

    Examples
    --------
    >>> import numpy as np
    >>> luck_of(np.array([1.0, 2.0, 3.0]))  # one of eight assignments
    0.125
    """
    moved = blocks[np.abs(blocks) > 1e-12]
    if not len(moved):
        return 1.0
    if len(moved) > EXACT:
        return 1.0 - NormalDist().cdf(float(moved.sum() / math.sqrt(float(moved @ moved))))
    sums = np.zeros(1)
    for size in np.abs(moved):
        sums = np.concatenate([sums - size, sums + size])
    return float(np.mean(sums >= moved.sum() - 1e-9 * float(np.abs(moved).max())))


def net_returns(
    panel: Panel, targets: FloatArray, start: int, costs: Costs, account: Account, **rest: Any
) -> FloatArray:
    """Per bar, the return of an account that trades `targets` [n, asset] from bar `start` on, after costs and funding: [n].

    0 once the account has nothing left. rest: orders and instruments, as of `strategies.backtest.execution.backtest`.
    """
    alone: FloatArray = plan_returns(panel, targets[None], start, costs, account, **rest)[0]
    return alone


def plan_returns(
    panel: Panel, plans: FloatArray, start: int, costs: Costs, account: Account, **rest: Any
) -> FloatArray:
    """`net_returns` of many plans [P, n, asset] over the same bars: [P, n]."""
    stop = start + plans.shape[1]
    equity = accounts_for(panel, plans, start=start, stop=stop, costs=costs, account=account, **rest)
    before = np.concatenate([np.full((len(plans), 1), account.initial_equity), equity[:, :-1]], axis=1)
    result: FloatArray = np.where(before > 0, equity / np.where(before > 0, before, 1.0) - 1.0, 0.0)
    return result


def sharpe(returns: FloatArray, bars_per_year: float) -> float:
    """Annualised Sharpe ratio; 0 where nothing was traded."""
    deviation = float(returns.std())
    return 0.0 if deviation < 1e-12 else float(returns.mean() / deviation * np.sqrt(bars_per_year))


def scaled_rule(base: PositionRule, forecasts: FloatArray, plan: Plan) -> PositionRule:
    """`base` by `plan`, in units of the forecasts' own spread: full size at 1.5 standard deviations; a held side is kept until
    the forecast turns against it.

    forecasts: [n, asset] of the stop stretch.
    """
    if plan.always:
        return replace(base, threshold=0.0, exit_threshold=0.0, forecast_scale=0.0, smoothing_bars=0.0, cost_hurdle=0.0)
    span = plan.smoothing * base.horizon_bars
    values = np.stack([smoothed(forecasts[:, a], span) for a in range(forecasts.shape[1])], 1)
    known = values[np.isfinite(values)]
    spread = float(known.std()) if len(known) else 0.0
    if plan == FLAT or spread < 1e-12:
        return replace(base, threshold=1e9, exit_threshold=None)  # a constant forecast says nothing: stay flat
    return replace(
        base,
        threshold=plan.threshold * spread,
        exit_threshold=0.0,
        forecast_scale=1.5 * spread,
        smoothing_bars=span,
        cost_hurdle=plan.hurdle,
    )
