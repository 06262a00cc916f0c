"""From finished tasks to traded strategies: plans and candidates chosen before the test stretch, then Backtrader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from data.panel import FloatArray, InputError, Panel
from nas.baselines import BASELINES
from nas.tasks.windows import Window
from strategies.backtest.execution import Backtest, backtest
from strategies.backtest.portfolio import OPTIMISED, Portfolio, book_of
from strategies.backtest.positions import PositionRule
from strategies.backtest.rules import RULES
from strategies.backtest.sensitivity import break_even_bps, daily_sharpe, sensitivity
from strategies.backtest.terms import Account, Costs, Fees, Instrument, Orders
from strategies.walkforward.choice import FLAT, HOLD, Choice, Records, Tried, plan_returns, plans, scaled_rule, sharpe
from strategies.walkforward.config import RunConfig
from strategies.walkforward.contenders import Candidate, Contender, PolicyOutcome
from strategies.walkforward.risk import directional, holders, sized_by


@dataclass(eq=False)
class Book:
    """Everything the run folder is written from; and trial_targets, per configuration what it held: [bar, asset] (no file has it)."""

    backtests: dict[str, Backtest]
    forecasts: pd.DataFrame
    trials: pd.DataFrame
    trial_returns: pd.DataFrame
    chosen: list[Choice[Candidate]]
    kinds: dict[str, dict[str, str]]
    headline: dict[str, dict[str, float]]
    policies: list[dict[str, Any]]
    sensitivity: pd.DataFrame
    break_even_bps: dict[str, float | None]
    trial_targets: dict[str, FloatArray]


def trade(
    config: RunConfig,
    panel: Panel,
    windows: tuple[Window, ...],
    outcomes: Sequence[PolicyOutcome],
    rivals: Sequence[Contender],
    volatility: FloatArray,
) -> Book:
    """Choose a candidate per strategy and window before its test stretch, then trade every strategy in Backtrader.

    volatility: [T, A] per bar, known at the bar: what positions are sized by.
    """
    start, stop = windows[0].test.start, windows[-1].test.stop
    terms = trading_terms(config)
    base, portfolio = position_rule(config), portfolio_of(config)
    shape = (stop - start, len(panel.assets))

    candidates = [
        judge(config, panel, volatility, contender) for outcome in outcomes for contender in outcome.contenders
    ]
    candidates += [judge(config, panel, volatility, contender) for contender in rivals]
    targets: dict[str, FloatArray] = {}
    forecasts: dict[str, FloatArray] = {}
    chosen: list[Choice[Candidate]] = []
    records: dict[str, Records[Candidate]] = {}
    trial_rows: list[dict[str, Any]] = []
    chains: dict[str, FloatArray] = {}
    titles: dict[str, dict[str, str]] = {}
    for outcome in outcomes:
        titles[outcome.strategy] = {
            "kind": "searched" if outcome.strategy == "searched" else "policy",
            "title": "Searched network" if outcome.strategy == "searched" else f"Policy: {outcome.policy.title}",
            "description": f"found by differentiable search; policy: {outcome.policy.title}",
        }
    if not directional(config):
        titles["searched"] |= {
            "title": f"Hold, sized by {sized_by(config)}",
            "description": "always in the market; the size alone moves, by the forecast of base and networks",
        }
    networks = config.baselines if directional(config) else ()
    for name in networks:
        titles[name] = {"kind": "network", "title": BASELINES[name].title, "description": BASELINES[name].description}
    for name in (*[outcome.strategy for outcome in outcomes], *networks):
        targets[name], forecasts[name] = np.zeros(shape), np.full(shape, np.nan)
    for window in windows:
        mine = [c for c in candidates if c.contender.window.number == window.number]
        place = slice(window.test.start - start, window.test.stop - start)
        for name in targets:
            compared = [c for c in mine if c.contender.strategy == name]
            record = records.setdefault(name, Records(config.evidence))
            choice = record.choose([(c.key, c, c.trials) for c in compared])
            forecasts[name][place] = choice.candidate.contender.trained.test_forecasts
            if name == "searched":
                chosen.append(choice)
            for candidate in compared:
                trained = candidate.contender.trained
                for tried in (*candidate.trials, FLAT_TRIAL):
                    plan, key = tried.plan, f"{candidate.key}/{tried.plan.name}"
                    selected = candidate is choice.candidate and plan == choice.plan
                    if plan != FLAT:
                        rule = scaled_rule(base, portfolio.signal(trained.stop_forecasts), plan)
                        signal = portfolio.signal(trained.test_forecasts)
                        book = book_of(panel, signal, volatility, window.test.start, rule, portfolio)
                        chains.setdefault(key, np.zeros(shape))[place] = book
                        if selected:
                            targets[name][place] = book
                    trial_rows.append(
                        {
                            "trial": f"{key}/window{window.number}",
                            "window": window.number,
                            "strategy": name,
                            "kind": candidate.contender.kind,
                            "variant": candidate.contender.variant,
                            "architecture": trained.report["architecture"],
                            "seed": candidate.contender.seed,
                            "plan": plan.name,
                            "threshold": None if plan == FLAT else plan.threshold,
                            "smoothing": plan.smoothing,
                            "cost_hurdle": plan.hurdle,
                            "parameters": trained.report["parameters"],
                            "validation_loss": trained.report["validation_loss"],
                            "validation_correlation": trained.report["validation_correlation"],
                            "validation_sharpe": tried.sharpe,
                            "selected": selected,
                        }
                    )
    if not directional(config):
        for name, (title, told, held) in holders(config, panel, start, stop, base, portfolio).items():
            targets[name], titles[name] = held, {"kind": "rule", "title": title, "description": told}
    for name in ("buy_and_hold", *[r for r in config.rules if r != "buy_and_hold"]):
        rule_ = RULES[name]
        signal = np.stack([rule_.signal(panel, a, **rule_.parameters) for a in range(shape[1])], 1)[start:stop]
        if name == "buy_and_hold":  # an equal part of every asset that is listed
            listed = np.logical_or.accumulate(signal > 0, axis=0)
            targets[name] = listed / np.maximum(listed.sum(1, keepdims=True), 1)
        else:
            signal = portfolio.signal(signal)
            targets[name] = book_of(panel, signal, volatility, start, replace(base, forecast_scale=1.0), portfolio)
        titles[name] = {
            "kind": "rule",
            "title": rule_.title,
            "description": f"{rule_.description} Source: {rule_.source}.",
        }
    backtests = {
        name: backtest(panel, book, start=start, stop=stop, name=name, **terms) for name, book in targets.items()
    }
    trial_returns = daily_net_returns(panel, chains, start, **terms)
    headline = {
        name: {
            "return": float(b.equity[-1] / b.equity[0] - 1.0),
            "sharpe": daily_sharpe(b.timestamps, b.equity, panel.days_per_year),
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
    stretch: dict[str, Any] = {"start": start, "stop": stop, **terms}
    return Book(
        backtests,
        table,
        pd.DataFrame(trial_rows),
        trial_returns,
        chosen,
        titles,
        headline,
        policies,
        sensitivity(panel, traded, **stretch),
        {
            name: break_even_bps(panel, book, **{k: v for k, v in stretch.items() if k != "costs"})
            for name, book in traded.items()
        },
        chains,
    )


def daily_net_returns(panel: Panel, targets: dict[str, FloatArray], start: int, **terms: Any) -> pd.DataFrame:
    """Per day (UTC) the sum of the net returns of every configuration's targets; index `timestamp`. terms: of `trading_terms`."""
    returns = plan_returns(panel, np.stack(list(targets.values())), start, **terms)
    bars = pd.DataFrame(dict(zip(targets, returns, strict=True)))
    days = pd.DatetimeIndex(panel.close_times[start : start + len(bars)]).tz_localize("UTC").floor("D")
    found = bars.groupby(days).sum()
    found.index.name = "timestamp"
    return found


FLAT_TRIAL = Tried(FLAT, np.zeros(1), 0.0)


def judge(config: RunConfig, panel: Panel, volatility: FloatArray, contender: Contender) -> Candidate:
    """Try every plan for a contender on the stop stretch of its window."""
    base, portfolio, terms = position_rule(config), portfolio_of(config), trading_terms(config)
    start = contender.window.stop.start
    forecasts = portfolio.signal(contender.trained.stop_forecasts)
    every = plans(config.thresholds, config.smoothings, config.cost_hurdles) if directional(config) else (HOLD,)
    books = [
        book_of(panel, forecasts, volatility, start, scaled_rule(base, forecasts, plan), portfolio) for plan in every
    ]
    found = plan_returns(panel, np.stack(books), start, **terms)
    trials = [Tried(plan, own, sharpe(own, panel.bars_per_year)) for plan, own in zip(every, found, strict=True)]
    return Candidate(contender, tuple(trials))


def trading_terms(config: RunConfig) -> dict[str, Any]:
    """Costs, account, orders and exchange rules of a run, as `backtest` takes them. InputError where they do not fit."""
    try:
        return {
            "costs": costs_of(config),
            "account": Account(
                initial_equity=config.initial_equity,
                leverage=config.account_leverage,
                kind=config.account,
                maintenance_margin=config.maintenance_margin,
            ),
            "orders": Orders(config.order, config.order_offset_bps, config.order_expiry_bars),
            "instruments": {name: Instrument(**rules) for name, rules in config.instruments.items()},
        }
    except ValueError as error:
        raise InputError(str(error)) from None


def costs_of(config: RunConfig) -> Costs:
    """What trading costs in this run, asset by asset. ValueError where a cost makes no sense."""
    return Costs(
        config.taker_fee_bps,
        config.maker_fee_bps,
        config.slippage_bps,
        config.slippage_model,
        fees={asset: Fees(**own) for asset, own in config.fees.items()},
    )


def position_rule(config: RunConfig) -> PositionRule:
    """How forecasts become positions in this run, before the plans of each window. InputError for what no rule can be."""
    try:
        costs = costs_of(config)
        return PositionRule(
            target_volatility=config.target_volatility,
            max_leverage=config.max_leverage,
            no_trade_band=config.no_trade_band,
            cost_bps=config.taker_fee_bps + config.slippage_bps,
            horizon_bars=config.horizon[0],
            allow_short=config.account != "spot",
            asset_cost_bps={asset: costs.fees_bps(asset)[0] + config.slippage_bps for asset in costs.fees},
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def portfolio_of(config: RunConfig) -> Portfolio:
    """How the account is shared between the assets of this run. InputError where that does not fit."""
    try:
        portfolio = Portfolio(config.weighting, config.gross_limit, config.net_limit, config.turnover_penalty)
    except ValueError as error:
        raise InputError(str(error)) from None
    if portfolio.weighting in ("volatility_target", *OPTIMISED) and config.target_volatility <= 0:
        raise InputError(f"weighting {portfolio.weighting} needs a target_volatility above 0, e.g. 0.3")
    if len(config.symbol) < 2 and portfolio.weighting != "equal_risk":
        raise InputError(
            f"weighting {portfolio.weighting} needs several assets, this run has {', '.join(config.symbol)}; "
            "give --symbol BTCUSDT,ETHUSDT or leave --weighting out"
        )
    return portfolio


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
