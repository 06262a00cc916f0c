"""Choices made before a window is traded, on stop stretches only (never on test bars): which network trades, by which plan, or none.

A plan says how forecasts become orders. All plans of all candidates are tried on the stop stretch (the last half of validation)
of the window; a plan's record is its net returns there and on the stop stretches of all earlier windows. The best record trades
only if it beats what the best of as many worthless plans would show by luck; otherwise the strategy stays flat.
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
    """What trades a window. evidence: standard errors by which the record of the best plan beat zero; needed: by luck alone."""

    candidate: C
    plan: Plan
    best: Plan
    evidence: float
    needed: float


class Records(Generic[C]):
    """The stop-stretch returns of every configuration (key, plan), window after window, of one strategy."""

    def __init__(self, strictness: float) -> None:
        self.strictness = strictness
        self._past: dict[tuple[str, Plan], list[FloatArray]] = {}

    def choose(self, candidates: Sequence[tuple[str, C, Sequence[Tried]]]) -> Choice[C]:
        """Choose among the (configuration key, candidate, its trials) of the next window in time, and remember them."""
        entries = [
            (_evidence([*self._past.get((key, tried.plan), ()), tried.returns]), candidate, tried.plan)
            for key, candidate, trials in candidates
            for tried in trials
        ]
        evidence, candidate, plan = max(entries, key=lambda entry: entry[0])
        needed = self.strictness * expected_maximum(len(entries))
        for key, _, trials in candidates:
            for tried in trials:
                self._past.setdefault((key, tried.plan), []).append(tried.returns)
        trades = plan.always or evidence > max(needed, 0.0)
        return Choice(candidate, plan if trades else FLAT, plan, evidence, needed)


def _evidence(parts: Sequence[FloatArray]) -> float:
    """Mean return in standard errors; 0 where nothing was earned or lost."""
    returns = np.concatenate(parts)
    deviation = float(returns.std())
    return 0.0 if deviation < 1e-12 else float(returns.mean() / deviation * math.sqrt(len(returns)))


def expected_maximum(trials: int) -> float:
    """Expected best of `trials` independent standard normal draws, as in Bailey and Lopez de Prado (2014), equation 6."""
    if trials < 2:
        return 0.0
    normal, gamma = NormalDist(), 0.5772156649015329
    return (1 - gamma) * normal.inv_cdf(1 - 1 / trials) + gamma * normal.inv_cdf(1 - 1 / (trials * math.e))


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
