"""From finished tasks to traded strategies: thresholds and candidates chosen before the test stretch, then Backtrader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from data.panel import FloatArray, InputError, Panel
from nas.baselines import BASELINES
from nas.features import causal_volatility
from nas.tasks import Task, TaskResult
from nas.windows import Window
from strategies.choice import net_returns, scaled_rule, sharpe, targets_of
from strategies.config import RunConfig
from strategies.execution import Account, Backtest, Costs, backtest
from strategies.positions import PositionRule
from strategies.rules import RULES


@dataclass(frozen=True, eq=False)
class Candidate:
    """One finished task with what its window allows to know before the test stretch: threshold by validation Sharpe."""

    task: Task
    result: TaskResult
    scores: tuple[tuple[float, float], ...]  # (threshold, net Sharpe on the stop stretch)
    threshold: float

    @property
    def score(self) -> float:
        return max(s for _, s in self.scores)


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


def trade(
    config: RunConfig, panel: Panel, windows: tuple[Window, ...], tasks: list[Task], results: list[TaskResult]
) -> Book:
    volatility = causal_volatility(panel)
    start, stop = windows[0].test.start, windows[-1].test.stop
    costs = Costs(taker_fee_bps=config.taker_fee_bps, slippage_bps=config.slippage_bps)
    account = Account(initial_equity=config.initial_equity)
    base = PositionRule(target_volatility=config.target_volatility, max_leverage=config.max_leverage, no_trade_band=0.1)
    cost_bps = config.taker_fee_bps + config.slippage_bps
    shape = (stop - start, len(panel.assets))

    candidates = [
        _judge(config, panel, volatility, task, result, base, cost_bps)
        for task, result in zip(tasks, results, strict=True)
    ]
    targets: dict[str, FloatArray] = {}
    forecasts: dict[str, FloatArray] = {}
    chosen: list[Candidate] = []
    trial_rows: list[dict[str, Any]] = []
    chains: dict[str, FloatArray] = {}
    titles: dict[str, dict[str, str]] = {
        "searched": {
            "kind": "searched",
            "title": "Searched network",
            "description": "found by differentiable search on each window",
        }
    }
    for name in config.baselines:
        titles[name] = {"kind": "network", "title": BASELINES[name].title, "description": BASELINES[name].description}
    for name in ("searched", *config.baselines):
        targets[name], forecasts[name] = np.zeros(shape), np.full(shape, np.nan)
    for window in windows:
        mine = [c for c in candidates if c.task.window.number == window.number]
        searched = [c for c in mine if c.task.kind == "searched"]
        best = max(searched, key=lambda c: c.score)
        chosen.append(best)
        place = slice(window.test.start - start, window.test.stop - start)
        for candidate in mine:
            task = candidate.task
            name = "searched" if task.kind == "searched" else task.variant
            selected = candidate is best or task.kind == "network"
            for threshold, score in candidate.scores:
                rule = scaled_rule(base, candidate.result.stop_forecasts, threshold)
                book = targets_of(panel, candidate.result.test_forecasts, volatility, window.test.start, rule)
                key = f"{name}/{task.variant}/seed{task.seed}/threshold{threshold:g}"
                chains.setdefault(key, np.zeros(shape))[place] = book
                if selected and threshold == candidate.threshold:
                    targets[name][place], forecasts[name][place] = book, candidate.result.test_forecasts
                report = candidate.result.report
                trial_rows.append(
                    {
                        "trial": f"{key}/window{window.number}",
                        "window": window.number,
                        "strategy": name,
                        "kind": task.kind,
                        "variant": task.variant,
                        "architecture": report["architecture"],
                        "seed": task.seed,
                        "threshold": threshold,
                        "parameters": report["parameters"],
                        "validation_loss": report["validation_loss"],
                        "validation_correlation": report["validation_correlation"],
                        "validation_sharpe": score,
                        "selected": bool(selected and threshold == candidate.threshold),
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
            targets[name] = targets_of(panel, signal, volatility, start, PositionRule(
                target_volatility=config.target_volatility, max_leverage=config.max_leverage, no_trade_band=0.1, forecast_scale=1.0
            ))  # fmt: skip
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
            "sharpe": _daily_sharpe(b),
            "trades": int((b.trades["kind"] == "fill").sum()),
        }
        for name, b in backtests.items()
    }
    number = np.full(shape[0], -1)
    for window in windows:
        number[window.test.start - start : window.test.stop - start] = window.number
    table = long_table(panel, start, stop, forecasts, "forecast")
    table["window"] = np.tile(np.repeat(number, shape[1]), len(forecasts)).astype(np.int32)
    return Book(backtests, table, pd.DataFrame(trial_rows), trial_returns, chosen, titles, headline)


def _judge(
    config: RunConfig,
    panel: Panel,
    volatility: FloatArray,
    task: Task,
    result: TaskResult,
    base: PositionRule,
    cost_bps: float,
) -> Candidate:
    scores = []
    for threshold in config.thresholds:
        rule = scaled_rule(base, result.stop_forecasts, threshold)
        book = targets_of(panel, result.stop_forecasts, volatility, task.window.stop.start, rule)
        scores.append(
            (threshold, sharpe(net_returns(panel, book, task.window.stop.start, cost_bps), panel.bars_per_year))
        )
    return Candidate(task, result, tuple(scores), max(scores, key=lambda item: item[1])[0])


def _daily_sharpe(result: Backtest) -> float:
    days = pd.DatetimeIndex(result.timestamps).floor("D")
    daily = pd.Series(result.equity).groupby(days).last().pct_change().dropna()
    deviation = float(daily.std())
    return 0.0 if len(daily) < 2 or deviation < 1e-12 else float(daily.mean() / deviation * np.sqrt(365))


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
