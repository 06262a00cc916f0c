"""From finished tasks to traded strategies: plans and candidates chosen before the test stretch, then Backtrader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from data.panel import FloatArray, InputError, Panel
from nas.baselines import BASELINES
from nas.baselines.own import baseline_of, is_own
from nas.tasks.windows import Window
from strategies.backtest.execution import Backtest, backtest
from strategies.backtest.portfolio import OPTIMISED, Portfolio, book_of
from strategies.backtest.positions import PositionRule
from strategies.backtest.rules import RULES
from strategies.backtest.sensitivity import break_even_bps, daily_sharpe, sensitivity
from strategies.backtest.terms import Account, Costs, Fees, Instrument, Orders
from strategies.walkforward.choice import (
    FLAT,
    HOLD,
    Choice,
    Plan,
    Records,
    Tried,
    plan_returns,
    plans,
    scaled_rule,
    sharpe,
)
from strategies.walkforward.config import RunConfig
from strategies.walkforward.contenders import Candidate, Contender, PolicyOutcome
from strategies.walkforward.risk import directional, holders, sized_by


def asked_for_record(config: RunConfig) -> bool:
    """Whether a window trades only on a record of earlier ones: not where only size is forecast, nor at evidence 1."""
    return directional(config) and config.evidence < 1.0


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


@dataclass(frozen=True, eq=False)
class Stretch:
    """The bars that a run trades, and on what terms. terms: of `trading_terms`. volatility: as of `trade`."""

    config: RunConfig
    panel: Panel
    windows: tuple[Window, ...]
    terms: dict[str, Any]
    rule: PositionRule
    portfolio: Portfolio
    volatility: FloatArray

    @classmethod
    def of(cls, config: RunConfig, panel: Panel, windows: tuple[Window, ...], volatility: FloatArray) -> Stretch:
        terms, rule, portfolio = trading_terms(config, volatility), position_rule(config), portfolio_of(config)
        return cls(config, panel, windows, terms, rule, portfolio, volatility)

    @property
    def start(self) -> int:
        return int(self.windows[0].test.start)

    @property
    def stop(self) -> int:
        return int(self.windows[-1].test.stop)

    def filled(self, value: float) -> FloatArray:
        """[bar, asset] of the stretch."""
        return np.full((self.stop - self.start, len(self.panel.assets)), value)

    def place(self, window: Window) -> slice:
        """Where a window's test bars lie in the stretch."""
        return slice(window.test.start - self.start, window.test.stop - self.start)

    def positions(self, signal: FloatArray, start: int, rule: PositionRule) -> FloatArray:
        """Targets [n, asset] from the portfolio's signal of bars start..."""
        return book_of(self.panel, signal, self.volatility, start, rule, self.portfolio)


@dataclass(eq=False)
class _Booked:
    """What everybody holds, before any account. forecasts, targets: by strategy, targets of every plan tried: by configuration."""

    forecasts: dict[str, FloatArray]
    targets: dict[str, FloatArray]
    chains: dict[str, FloatArray] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    regardless: FloatArray = field(default_factory=lambda: np.empty((0, 0)))


Choices = dict[tuple[str, int], Choice[Candidate]]
REGARDLESS = "regardless"  # what the headline would have held, had no record been asked for


def trade(
    config: RunConfig,
    panel: Panel,
    windows: tuple[Window, ...],
    outcomes: Sequence[PolicyOutcome],
    rivals: Sequence[Contender],
    volatility: FloatArray,
) -> Book:
    """Choose a candidate per strategy and window before its test stretch, then trade every strategy in Backtrader.

    volatility: [T, A] per bar, known at the bar: what positions are sized by. Contenders of windows before the first (rehearsals,
    a file's past) lend their record and are traded by no account.
    """
    stretch = Stretch.of(config, panel, windows, volatility)
    contenders = [each for outcome in outcomes for each in (*outcome.rehearsed, *outcome.contenders)]
    candidates = [judge(config, panel, volatility, contender) for contender in (*contenders, *rivals)]
    names = [*(outcome.strategy for outcome in outcomes), *dict.fromkeys(rival.strategy for rival in rivals)]
    choices = _choose(stretch, candidates, names)
    candidates = [each for each in candidates if each.contender.window.number >= 0]
    booked = _book(stretch, candidates, choices, names)
    if outcomes and asked_for_record(config):  # whether it differs is known only once all windows are over
        booked.targets[REGARDLESS] = booked.regardless
    held = _holders(stretch)
    booked.targets |= {name: targets for name, (_, _, targets) in held.items()}
    booked.targets |= {name: _rule_targets(stretch, name) for name in _rules(config)}
    backtests = {
        name: backtest(panel, targets, start=stretch.start, stop=stretch.stop, name=name, **stretch.terms)
        for name, targets in booked.targets.items()
    }
    titles = _titles(config, outcomes, rivals, {name: (title, told) for name, (title, told, _) in held.items()})
    return _tell(stretch, outcomes, candidates, choices, booked, backtests, titles)


def _choose(stretch: Stretch, candidates: Sequence[Candidate], names: Sequence[str]) -> Choices:
    """Per strategy and window who trades it, window after window: a record grows by the test stretches that are over."""
    day = max(1, round(stretch.panel.bars_per_year / stretch.panel.days_per_year))
    choices: Choices = {}
    for name in names:
        records: Records[Candidate] = Records(stretch.config.evidence, day)
        for window in (*_before(candidates, name), *stretch.windows):
            offered = [(c.key, c, c.trials) for c in _of(candidates, name, window)]
            choice = choices[name, window.number] = records.choose(offered, window.stop.start)
            held = _held(stretch, window, choice.candidate, choice.best)
            records.learn(plan_returns(stretch.panel, held[None], window.test.start, **stretch.terms)[0])
    return choices


def _before(candidates: Sequence[Candidate], name: str) -> list[Window]:
    """Windows before the first, of a strategy whose forecasts go back so far (strategies.walkforward.judged)."""
    mine = {c.contender.window.number: c.contender.window for c in candidates if c.contender.strategy == name}
    return [mine[number] for number in sorted(mine) if number < 0]


def _held(stretch: Stretch, window: Window, candidate: Candidate, plan: Plan) -> FloatArray:
    """Targets [bar, asset] of a plan on the test stretch of a window."""
    signal_of, trained = stretch.portfolio.signal, candidate.contender.trained
    rule = scaled_rule(stretch.rule, signal_of(trained.stop_forecasts), plan)
    return stretch.positions(signal_of(trained.test_forecasts), window.test.start, rule)


def _of(candidates: Sequence[Candidate], name: str, window: Window) -> list[Candidate]:
    """Who competes for one strategy in one window."""
    numbered = [c for c in candidates if c.contender.window.number == window.number]
    return [c for c in numbered if c.contender.strategy == name]


def _book(stretch: Stretch, candidates: Sequence[Candidate], choices: Choices, names: Sequence[str]) -> _Booked:
    """Forecasts and targets of whoever was chosen, and of every trial that was not."""
    booked = _Booked({name: stretch.filled(np.nan) for name in names}, {name: stretch.filled(0.0) for name in names})
    booked.regardless = stretch.filled(0.0)
    for window in stretch.windows:
        place = stretch.place(window)
        for name in names:
            choice = choices[name, window.number]
            booked.forecasts[name][place] = choice.candidate.contender.trained.test_forecasts
            for candidate in _of(candidates, name, window):
                for tried in (*candidate.trials, FLAT_TRIAL):
                    key, selected = (
                        f"{candidate.key}/{tried.plan.name}",
                        candidate is choice.candidate and tried.plan == choice.plan,
                    )
                    if tried.plan != FLAT:
                        held = _held(stretch, window, candidate, tried.plan)
                        booked.chains.setdefault(key, stretch.filled(0.0))[place] = held
                        if selected:
                            booked.targets[name][place] = held
                        if name == names[0] and candidate is choice.candidate and tried.plan == choice.best:
                            booked.regardless[place] = held
                    booked.trials.append(_trial_row(f"{key}/window{window.number}", candidate, tried, selected))
    return booked


def _trial_row(trial: str, candidate: Candidate, tried: Tried, selected: bool) -> dict[str, Any]:
    """One row of the ledger (docs/architecture.md, trials.parquet)."""
    contender, plan = candidate.contender, tried.plan
    report = contender.trained.report
    return {
        "trial": trial,
        "window": contender.window.number,
        "strategy": contender.strategy,
        "kind": contender.kind,
        "variant": contender.variant,
        "architecture": report["architecture"],
        "seed": contender.seed,
        "plan": plan.name,
        "threshold": None if plan == FLAT else plan.threshold,
        "smoothing": plan.smoothing,
        "cost_hurdle": plan.hurdle,
        **{name: report[name] for name in ("parameters", "validation_loss", "validation_correlation")},
        "validation_sharpe": tried.sharpe,
        "selected": selected,
    }


def _holders(stretch: Stretch) -> dict[str, tuple[str, str, FloatArray]]:
    """Where only size is forecast: who holds by other forecasts of it; title, description, targets."""
    if directional(stretch.config):
        return {}
    return holders(stretch.config, stretch.panel, stretch.start, stretch.stop, stretch.rule, stretch.portfolio)


def _rules(config: RunConfig) -> tuple[str, ...]:
    """The benchmark, and the rules that compete."""
    return ("buy_and_hold", *(name for name in config.rules if name != "buy_and_hold"))


def _rule_targets(stretch: Stretch, name: str) -> FloatArray:
    """[bar, asset] that a rule holds."""
    rule, panel = RULES[name], stretch.panel
    signals = [rule.signal(panel, a, **rule.parameters) for a in range(len(panel.assets))]
    signal: FloatArray = np.stack(signals, 1)[stretch.start : stretch.stop]
    if name == "buy_and_hold":  # an equal part of every asset that is listed
        listed = np.logical_or.accumulate(signal > 0, axis=0)
        held: FloatArray = listed / np.maximum(listed.sum(1, keepdims=True), 1)
        return held
    return stretch.positions(stretch.portfolio.signal(signal), stretch.start, replace(stretch.rule, forecast_scale=1.0))


def _tell(
    stretch: Stretch,
    outcomes: Sequence[PolicyOutcome],
    candidates: Sequence[Candidate],
    choices: Choices,
    booked: _Booked,
    backtests: dict[str, Backtest],
    titles: dict[str, dict[str, str]],
) -> Book:
    """The accounts as tables and figures."""
    panel, start, stop = stretch.panel, stretch.start, stretch.stop
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
    titles = {name: told for name, told in titles.items() if name in backtests}
    traded = {name: b.positions for name, b in backtests.items()}
    terms: dict[str, Any] = {"start": start, "stop": stop, **stretch.terms}
    free = {name: term for name, term in terms.items() if name != "costs"}
    return Book(
        backtests,
        _forecast_table(stretch, booked.forecasts),
        pd.DataFrame(booked.trials),
        daily_net_returns(panel, booked.chains, start, **stretch.terms),
        [choices[next(iter(booked.forecasts)), window.number] for window in stretch.windows],
        titles,
        headline,
        policies,
        sensitivity(panel, traded, **terms),
        {name: break_even_bps(panel, targets, **free) for name, targets in traded.items()},
        booked.chains,
    )


def _forecast_table(stretch: Stretch, forecasts: dict[str, FloatArray]) -> pd.DataFrame:
    """Every out-of-sample forecast, with the window that it belongs to (-1: between two)."""
    number = np.full(stretch.stop - stretch.start, -1)
    for window in stretch.windows:
        number[stretch.place(window)] = window.number
    table = long_table(stretch.panel, stretch.start, stretch.stop, forecasts, "forecast")
    table["window"] = np.tile(np.repeat(number, len(stretch.panel.assets)), len(forecasts)).astype(np.int32)
    return table


def _titles(
    config: RunConfig,
    outcomes: Sequence[PolicyOutcome],
    rivals: Sequence[Contender],
    held: Mapping[str, tuple[str, str]],
) -> dict[str, dict[str, str]]:
    """What pages call each strategy, and what it is."""

    def titled(kind: str, title: str, description: str) -> dict[str, str]:
        return {"kind": kind, "title": title, "description": description}

    titles = {}
    for outcome in outcomes:
        policy = outcome.policy.title
        kind, title = (
            ("searched", "Searched network") if outcome.strategy == "searched" else ("policy", f"Policy: {policy}")
        )
        titles[outcome.strategy] = titled(kind, title, f"found by differentiable search; policy: {policy}")
    if not directional(config):
        title, told = (
            f"Hold, sized by {sized_by(config)}",
            "always in the market; the size alone moves, by the forecast of base and networks",
        )
        titles["searched"] = titled("searched", title, told)
    for rival in rivals:
        if rival.strategy in BASELINES or is_own(rival.strategy):
            entry = baseline_of(rival.strategy)
            titles[rival.strategy] = titled(rival.kind, entry.title, entry.description)
        else:
            report = rival.trained.report
            titles[rival.strategy] = titled(rival.kind, report["title"], report["description"])
    titles[REGARDLESS] = titled(
        "policy",
        "Searched, regardless of its record",
        "the same networks and plans, traded in every window although their record did not earn it: for comparison, no verdict reads it",
    )
    titles |= {name: titled("rule", title, told) for name, (title, told) in held.items()}
    for name in _rules(config):
        titles[name] = titled("rule", RULES[name].title, f"{RULES[name].description} Source: {RULES[name].source}.")
    return titles


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
    base, portfolio, terms = position_rule(config), portfolio_of(config), trading_terms(config, volatility)
    start = contender.window.stop.start
    forecasts = portfolio.signal(contender.trained.stop_forecasts)
    every = plans(config.thresholds, config.smoothings, config.cost_hurdles) if directional(config) else (HOLD,)
    books = [
        book_of(panel, forecasts, volatility, start, scaled_rule(base, forecasts, plan), portfolio) for plan in every
    ]
    found = plan_returns(panel, np.stack(books), start, **terms)
    trials = [Tried(plan, own, sharpe(own, panel.bars_per_year)) for plan, own in zip(every, found, strict=True)]
    return Candidate(contender, tuple(trials))


def trading_terms(config: RunConfig, volatility: FloatArray | None = None) -> dict[str, Any]:
    """Costs, account, orders and exchange rules of a run, as `backtest` takes them. InputError where they do not fit.

    volatility: [T, A], by which positions are sized and stops are placed; None where no stop is read.
    """
    try:
        return {
            "costs": costs_of(config),
            "account": Account(
                initial_equity=config.initial_equity,
                leverage=config.account_leverage,
                kind=config.account,
                maintenance_margin=config.maintenance_margin,
                stop_loss=config.stop_loss,
            ),
            "orders": Orders(config.order, config.order_offset_bps, config.order_expiry_bars),
            "instruments": {name: Instrument(**rules) for name, rules in config.instruments.items()},
            "volatility": volatility,
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
