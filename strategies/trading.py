"""From finished tasks to traded strategies: thresholds and candidates chosen before the test stretch, then Backtrader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data.panel import FloatArray, InputError, Panel
from nas.baselines import BASELINES
from nas.features import causal_volatility
from nas.tasks import TaskResult
from nas.windows import Window
from strategies.choice import net_returns, scaled_rule, sharpe, targets_of
from strategies.config import RunConfig
from strategies.execution import Account, Backtest, Costs, backtest
from strategies.positions import PositionRule
from strategies.rules import RULES
from strategies.sensitivity import break_even_bps, daily_sharpe, sensitivity

if TYPE_CHECKING:
    from strategies.policies import PolicyOutcome


@dataclass(frozen=True, eq=False)
class Contender:
    """One trained network that may trade one window for one strategy.

    found: the search that gave its architecture (None for hand-designed networks); it may be of an earlier window.
    """

    strategy: str
    kind: str
    window: Window
    variant: str
    seed: int
    trained: TaskResult
    found: TaskResult | None = None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A contender with what its window allows to know before the test stretch: threshold by validation Sharpe."""

    contender: Contender
    scores: tuple[tuple[float, float], ...]  # (threshold, net Sharpe on the stop stretch)
    threshold: float

    @property
    def score(self) -> float:
        return max(s for _, s in self.scores)

    @property
    def key(self) -> str:
        """The configuration this candidate belongs to, the same in every window."""
        return f"{self.contender.strategy}/{self.contender.variant}/seed{self.contender.seed}"


@dataclass(eq=False)
class Book:
    """Everything the run folder is written from."""

    backtests: dict[str, Backtest]
    forecasts: pd.DataFrame
    trials: pd.DataFrame
    trial_returns: pd.DataFrame
    chosen: list[Candidate]
    kinds: dict[str, dict[str, str]]
    headline: dict[str, dict[str, float]]
    policies: list[dict[str, Any]]
    sensitivity: pd.DataFrame
    break_even_bps: dict[str, float | None]


def trade(
    config: RunConfig,
    panel: Panel,
    windows: tuple[Window, ...],
    outcomes: Sequence[PolicyOutcome],
    rivals: Sequence[Contender],
) -> Book:
    """Choose a candidate per strategy and window before its test stretch, then trade every strategy in Backtrader."""
    volatility = causal_volatility(panel)
    start, stop = windows[0].test.start, windows[-1].test.stop
    costs = Costs(taker_fee_bps=config.taker_fee_bps, slippage_bps=config.slippage_bps)
    account = Account(initial_equity=config.initial_equity)
    base = position_rule(config)
    cost_bps = config.taker_fee_bps + config.slippage_bps
    shape = (stop - start, len(panel.assets))

    candidates = [
        judge(config, panel, volatility, contender) for outcome in outcomes for contender in outcome.contenders
    ]
    candidates += [judge(config, panel, volatility, contender) for contender in rivals]
    targets: dict[str, FloatArray] = {}
    forecasts: dict[str, FloatArray] = {}
    chosen: list[Candidate] = []
    trial_rows: list[dict[str, Any]] = []
    chains: dict[str, FloatArray] = {}
    titles: dict[str, dict[str, str]] = {}
    for outcome in outcomes:
        titles[outcome.strategy] = {
            "kind": "searched" if outcome.strategy == "searched" else "policy",
            "title": "Searched network" if outcome.strategy == "searched" else f"Policy: {outcome.policy.title}",
            "description": f"found by differentiable search; policy: {outcome.policy.title}",
        }
    for name in config.baselines:
        titles[name] = {"kind": "network", "title": BASELINES[name].title, "description": BASELINES[name].description}
    for name in (*[outcome.strategy for outcome in outcomes], *config.baselines):
        targets[name], forecasts[name] = np.zeros(shape), np.full(shape, np.nan)
    for window in windows:
        mine = [c for c in candidates if c.contender.window.number == window.number]
        place = slice(window.test.start - start, window.test.stop - start)
        for name in targets:
            best = max((c for c in mine if c.contender.strategy == name), key=lambda c: c.score)
            if name == "searched":
                chosen.append(best)
            for candidate in mine:
                if candidate.contender.strategy != name:
                    continue
                trained = candidate.contender.trained
                for threshold, score in candidate.scores:
                    rule = scaled_rule(base, trained.stop_forecasts, threshold)
                    book = targets_of(panel, trained.test_forecasts, volatility, window.test.start, rule)
                    key = f"{candidate.key}/threshold{threshold:g}"
                    selected = candidate is best and threshold == candidate.threshold
                    chains.setdefault(key, np.zeros(shape))[place] = book
                    if selected:
                        targets[name][place], forecasts[name][place] = book, trained.test_forecasts
                    trial_rows.append(
                        {
                            "trial": f"{key}/window{window.number}",
                            "window": window.number,
                            "strategy": name,
                            "kind": candidate.contender.kind,
                            "variant": candidate.contender.variant,
                            "architecture": trained.report["architecture"],
                            "seed": candidate.contender.seed,
                            "threshold": threshold,
                            "parameters": trained.report["parameters"],
                            "validation_loss": trained.report["validation_loss"],
                            "validation_correlation": trained.report["validation_correlation"],
                            "validation_sharpe": score,
                            "selected": selected,
                        }
                    )
    for name in ("buy_and_hold", *[r for r in config.rules if r != "buy_and_hold"]):
        if name not in RULES:
            raise InputError(f"no rule {name!r}; there are {', '.join(RULES)}")
        rule_ = RULES[name]
        signal = np.stack([rule_.signal(panel, a, **rule_.parameters) for a in range(shape[1])], 1)[start:stop]
        if name == "buy_and_hold":
            targets[name] = signal / shape[1]
        else:
            targets[name] = targets_of(panel, signal, volatility, start, replace(base, forecast_scale=1.0))
        titles[name] = {"kind": "rule", "title": rule_.title, "description": rule_.description}
    backtests = {
        name: backtest(panel, book, start=start, stop=stop, name=name, costs=costs, account=account)
        for name, book in targets.items()
    }
    days = pd.DatetimeIndex(panel.close_times[start:stop]).tz_localize("UTC").floor("D")
    trial_returns = (
        pd.DataFrame({key: net_returns(panel, book, start, cost_bps) for key, book in chains.items()})
        .groupby(days)
        .sum()
    )
    trial_returns.index.name = "timestamp"
    headline = {
        name: {
            "return": float(b.equity[-1] / b.equity[0] - 1.0),
            "sharpe": daily_sharpe(b.timestamps, b.equity),
            "trades": int((b.trades["kind"] == "fill").sum()),
        }
        for name, b in backtests.items()
    }
    policies = [
        {
            "name": outcome.policy.name,
            "title": outcome.policy.title,
            "strategy": outcome.strategy,
            "searches": sum(d.searched for d in outcome.decisions),
            "windows": len(outcome.decisions),
            "median_score": float(np.median([c.score for c in candidates if c.contender.strategy == outcome.strategy])),
            **headline[outcome.strategy],
        }
        for outcome in outcomes
    ]
    number = np.full(shape[0], -1)
    for window in windows:
        number[window.test.start - start : window.test.stop - start] = window.number
    table = long_table(panel, start, stop, forecasts, "forecast")
    table["window"] = np.tile(np.repeat(number, shape[1]), len(forecasts)).astype(np.int32)
    traded = {name: b.positions for name, b in backtests.items()}
    stretch: dict[str, Any] = {"start": start, "stop": stop, "account": account}
    return Book(
        backtests,
        table,
        pd.DataFrame(trial_rows),
        trial_returns,
        chosen,
        titles,
        headline,
        policies,
        sensitivity(panel, traded, costs=costs, **stretch),
        {name: break_even_bps(panel, book, **stretch) for name, book in traded.items()},
    )


def judge(config: RunConfig, panel: Panel, volatility: FloatArray, contender: Contender) -> Candidate:
    """Choose the threshold of a contender on the stop stretch of its window."""
    base = position_rule(config)
    start = contender.window.stop.start
    forecasts = contender.trained.stop_forecasts
    scores = []
    for threshold in config.thresholds:
        book = targets_of(panel, forecasts, volatility, start, scaled_rule(base, forecasts, threshold))
        returns = net_returns(panel, book, start, config.taker_fee_bps + config.slippage_bps)
        scores.append((threshold, sharpe(returns, panel.bars_per_year)))
    return Candidate(contender, tuple(scores), max(scores, key=lambda item: item[1])[0])


def position_rule(config: RunConfig) -> PositionRule:
    """How forecasts become positions in this run, before the thresholds of each window."""
    return PositionRule(target_volatility=config.target_volatility, max_leverage=config.max_leverage, no_trade_band=0.1)


def long_table(panel: Panel, start: int, stop: int, columns: dict[str, FloatArray], value: str) -> pd.DataFrame:
    """strategy -> [n, asset] as one long table."""
    stamps = pd.DatetimeIndex(panel.timestamps[start:stop]).tz_localize("UTC")
    n, assets = stop - start, len(panel.assets)
    return pd.DataFrame(
        {
            "timestamp": np.tile(np.repeat(np.asarray(stamps), assets), len(columns)),
            "asset": list(panel.assets) * (n * len(columns)),
            "strategy": np.repeat(np.array(list(columns), dtype=object), n * assets),
            value: np.concatenate([array.ravel() for array in columns.values()]),
        }
    )
