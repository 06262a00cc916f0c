"""Two accounts written apart, Backtrader's and the vectorised one, must agree to 1e-9 on paths, orders and rules made by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.panel import CANDLE_FIELDS, FloatArray, Panel, Settlements
from strategies.backtest.accounting import account_for, accounts_for
from strategies.backtest.contributions import contributions
from strategies.backtest.execution import Backtest, backtest
from strategies.backtest.sensitivity import break_even_bps, sensitivity
from strategies.backtest.terms import Account, Costs, Fees, Instrument, Orders
from tests.strategies.backtest.reference_account import reference_account

HOUR = 3_600_000_000_000


def wild_market(seed: int, bars: int, assets: int, volatility: float) -> Panel:
    """Random candles with gaps, bars that are missing, halts, delistings, whole prices and settlements at, between and beside the opens."""
    rng = np.random.default_rng(seed)
    values = np.empty((bars, assets, 5))
    for a in range(assets):
        close = 100 * np.exp(np.cumsum(rng.normal(0, volatility, bars)))
        gaps = np.exp(rng.normal(0, volatility, bars) * (rng.random(bars) < 0.2))
        opens = np.concatenate([[100.0], close[:-1]]) * gaps
        if rng.random() < 0.5:
            close, opens = np.maximum(np.round(close), 1), np.maximum(np.round(opens), 1)
        reach = np.exp(np.abs(rng.normal(0, volatility / 2, (2, bars))))
        high, low = np.maximum(opens, close) * reach[0], np.minimum(opens, close) / reach[1]
        values[:, a] = np.stack([opens, high, low, close, rng.exponential(50, bars)], 1)
        if rng.random() < 0.3:
            values[: rng.integers(0, bars), a] = np.nan
        values[rng.random(bars) < 0.05, a] = np.nan
        if rng.random() < 0.4:  # a halt: the last close again and again, without volume
            at, length = rng.integers(1, bars + 1), rng.integers(1, 8)
            values[at : at + length, a] = [*[values[at - 1, a, 3]] * 4, 0.0]
        values[rng.random(bars) < 0.02, a, 4] = 0.0  # no volume, yet a price that moved: not a halt
        if rng.random() < 0.2:  # delisted
            values[rng.integers(0, bars) + 1 :, a] = np.nan
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(bars) * np.timedelta64(HOUR, "ns")
    settlements = {}
    for a in range(assets):
        at = np.sort(rng.choice(2 * bars, max(1, bars // 3), replace=False)) * (HOUR // 2)
        settlements[f"A{a}"] = Settlements(stamps[0] + at.astype("timedelta64[ns]"), rng.normal(0, 0.003, len(at)))
    names = tuple(f"A{a}" for a in range(assets))
    return Panel(stamps, names, CANDLE_FIELDS, values, HOUR, "test", settlements=settlements)


def wild_targets(seed: int, panel: Panel, size: float, hold: int) -> FloatArray:
    rng = np.random.default_rng(seed + 1)
    drawn = np.round(rng.normal(0, size, (len(panel), len(panel.assets))), 1)
    held: FloatArray = drawn[np.arange(len(panel)) // hold * hold]
    return held


RULES = st.builds(Instrument, st.sampled_from([0.0, 0.01, 0.1]), st.sampled_from([0.0, 0.01, 0.5]), st.just(5.0))
SITUATION = {
    "seed": st.integers(0, 10_000),
    "bars": st.integers(1, 50),
    "assets": st.integers(1, 5),
    "volatility": st.sampled_from([0.005, 0.05, 0.3]),
    "size": st.sampled_from([0.5, 2.0, 10.0]),
    "hold": st.integers(1, 6),
    "costs": st.builds(
        Costs,
        st.sampled_from([0.0, 5.5, 50.0]),
        st.sampled_from([0.0, 2.0]),
        st.sampled_from([0.0, 1.0, 30.0]),
        st.sampled_from(["fixed", "volatility"]),
        fees=st.dictionaries(
            st.sampled_from(["A0", "A1", "A2", "A3", "A4"]),
            st.builds(Fees, st.sampled_from([None, 0.0, 10.0, 200.0]), st.sampled_from([None, 0.0, 7.0])),
        ),
    ),
    "account": st.builds(
        Account,
        st.just(1_000.0),
        st.sampled_from([1.0, 3.0, 20.0]),
        st.sampled_from([0.0, 0.1]),
        st.sampled_from(["perpetual", "perpetual", "cash", "spot"]),
        st.sampled_from([0.0, 0.005, 0.04]),
        stop_loss=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    ),
    "orders": st.builds(
        Orders,
        st.sampled_from(["market", "limit", "stop"]),
        st.sampled_from([0.0, 10.0, 100.0]),
        st.sampled_from([0, 1, 3]),
        st.sampled_from([float("inf"), 0.01, 0.1]),
    ),
    "rules": RULES,
}


def traded(
    seed: int, bars: int, assets: int, volatility: float, size: float, hold: int, rules: Instrument, **how: Any
) -> tuple[Panel, FloatArray, Backtest, dict[str, Any]]:
    panel = wild_market(seed, bars, assets, volatility)
    targets = wild_targets(seed, panel, size, hold)
    every = {"start": 0, "stop": bars, "instruments": dict.fromkeys(panel.assets, rules), **how}
    if seed % 2:  # stops by another volatility than the accounts' own
        every["volatility"] = np.random.default_rng(seed).uniform(0.0, 2.0 * volatility, (bars, assets))
    return panel, targets, backtest(panel, targets, name="wild", **every), every


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(**SITUATION)  # type: ignore[arg-type]
def test_both_accounts_agree(**situation: Any) -> None:
    panel, targets, result, every = traded(**situation)
    second = account_for(panel, targets, **every)
    # relative to the equity there was: below 1e-9 of the initial equity nothing is left to compare
    np.testing.assert_allclose(second.equity, result.equity, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(second.holdings, result.holdings, rtol=1e-9, atol=1e-9)
    third = reference_account(panel, targets, **every)
    np.testing.assert_allclose(second.equity, third.equity, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(second.holdings, third.holdings, rtol=1e-9, atol=1e-9)
    for name in ("turnover", "paid", "funding"):
        assert getattr(second, name) == pytest.approx(getattr(third, name), rel=1e-9, abs=1e-9)
    filled = result.trades[result.trades["kind"] != "funding"]
    assert second.turnover == pytest.approx((filled["size"].abs() * filled["price"]).sum(), rel=1e-9)
    assert second.funding == pytest.approx(result.trades["funding"].sum(), rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(**SITUATION)  # type: ignore[arg-type]
def test_profit_and_loss_adds_up_and_equity_is_cash_plus_positions(**situation: Any) -> None:
    panel, _, result, _ = traded(**situation)
    closes = panel.field("close")
    last = pd.DataFrame(closes).ffill().fillna(0.0).to_numpy()
    np.testing.assert_allclose(result.equity, result.cash + (result.holdings * last).sum(1), rtol=1e-9, atol=1e-6)
    # from the ledger alone: money out for what was bought, in for what was sold, fees, funding, and what is still held
    trades = result.trades
    money = -(trades["size"] * trades["price"]).sum() - trades["fee"].sum() + trades["funding"].sum()
    held = (result.holdings[-1] * last[-1]).sum()
    assert result.equity[-1] - 1_000.0 == pytest.approx(money + held, rel=1e-9, abs=1e-6)
    for a, asset in enumerate(panel.assets):
        assert trades.loc[trades["asset"] == asset, "size"].sum() == pytest.approx(result.holdings[-1, a], abs=1e-6)
    assert np.all(result.equity >= -1e-9)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(**SITUATION, plans=st.integers(1, 40), threads=st.integers(1, 3))  # type: ignore[arg-type]
def test_many_plans_at_once_are_the_same_to_the_bit(plans: int, threads: int, **situation: Any) -> None:
    seed, bars, size, hold = (situation.pop(name) for name in ("seed", "bars", "size", "hold"))
    panel = wild_market(seed, bars, situation.pop("assets"), situation.pop("volatility"))
    every = {"start": 0, "stop": bars, "instruments": dict.fromkeys(panel.assets, situation.pop("rules")), **situation}
    targets = np.stack([wild_targets(seed + k, panel, size, hold) for k in range(plans)])
    targets[:, :: max(1, bars // 3)] = np.nan  # flat
    base = every.pop("costs")
    costs = [base.times(k % 3) for k in range(plans)]
    alone = np.stack([account_for(panel, t, costs=c, **every).equity for t, c in zip(targets, costs, strict=True)])
    kept = np.arange(bars)[:: max(1, bars // 5)]
    assert np.array_equal(accounts_for(panel, targets, costs=costs, threads=threads, **every), alone)
    assert np.array_equal(accounts_for(panel, targets, costs=costs, kept=kept, **every), alone[:, kept])


def test_many_plans_check_what_they_are_given() -> None:
    panel = wild_market(3, 20, 2, 0.01)
    with pytest.raises(ValueError, match="plans, bars, assets"):
        accounts_for(panel, np.zeros((20, 2)), start=0, stop=20)
    with pytest.raises(ValueError, match="expected \\(bars, assets\\) = \\(20, 2\\)"):
        accounts_for(panel, np.zeros((4, 20, 1)), start=0, stop=20)
    with pytest.raises(ValueError, match="2 costs for 4 plans"):
        accounts_for(panel, np.zeros((4, 20, 2)), start=0, stop=20, costs=[Costs(), Costs()])
    assert accounts_for(panel, np.zeros((0, 20, 2)), start=0, stop=20).shape == (0, 20)


def test_plans_of_bars_ahead_change_nothing_before_them() -> None:
    panel = wild_market(4, 60, 2, 0.02)
    plans = np.stack([wild_targets(k, panel, 1.0, 2) for k in range(8)])
    changed = plans.copy()
    changed[:, 30:] = -changed[:, 30:]
    before, after = (accounts_for(panel, each, start=0, stop=60)[:, :31] for each in (plans, changed))
    assert np.array_equal(before, after)


def test_each_asset_pays_its_own_fee_and_the_others_the_accounts() -> None:
    panel = wild_market(7, 40, 3, 0.01)
    targets = wild_targets(7, panel, 0.5, 3)
    costs = Costs(5.0, 2.0, 0.0, fees={"A1": Fees(20.0), "A2": Fees(maker_fee_bps=1.0)})
    for kind, due in (("market", (5.0, 20.0, 5.0)), ("limit", (2.0, 2.0, 1.0))):
        every = {"start": 0, "stop": 40, "costs": costs, "orders": Orders(kind)}
        result = backtest(panel, targets, name="fees", **every)
        fills = result.trades[result.trades["kind"] == "fill"]
        paid = (fills["fee"] / (fills["size"].abs() * fills["price"]) * 1e4).groupby(fills["asset"])
        for asset, bps in zip(panel.assets, due, strict=True):
            assert paid.get_group(asset).to_numpy() == pytest.approx(bps)
        apart = contributions(panel, result, 0).groupby("asset")["fees"].sum()
        every_fee = result.trades.loc[result.trades["asset"] == "A1", "fee"]
        assert apart["A1"] == pytest.approx(every_fee.sum())
        np.testing.assert_allclose(account_for(panel, targets, **every).equity, result.equity, rtol=1e-9)
    assert costs.times(2.0).fees_bps("A1") == (40.0, 4.0)
    assert costs.times(2.0).fees_bps("A2") == (10.0, 2.0)


def test_break_even_cost_is_where_the_gain_is_spent() -> None:
    prices = [100.0, 100.0, 110.0, 110.0, 110.0]
    values = np.repeat(np.array(prices)[:, None, None], 5, axis=2)
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(5) * np.timedelta64(HOUR, "ns")
    panel = Panel(stamps, ("A",), CANDLE_FIELDS, values, HOUR, "test")
    targets = np.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
    # bought at 100 and sold at 110: gain 10 of 210 traded
    account = Account(1_000.0)
    assert break_even_bps(panel, targets, start=0, stop=5, account=account) == pytest.approx(10 / 210 * 1e4, abs=0.1)
    assert break_even_bps(panel, -targets, start=0, stop=5, account=account) is None
    assert break_even_bps(panel, 0 * targets, start=0, stop=5, account=account) is None


def test_sensitivity_at_todays_costs_is_the_backtest_and_more_cost_earns_less() -> None:
    panel = wild_market(3, 300, 1, 0.01)
    targets = wild_targets(3, panel, 0.5, 4)
    costs, account = Costs(), Account(1_000.0, rebalance_band=10.0)
    table = sensitivity(panel, {"wild": targets}, start=0, stop=300, costs=costs, account=account)
    assert list(table.columns) == ["strategy", "cost_multiple", "delay_bars", "return", "sharpe"]
    assert len(table) == 8
    at = table.set_index(["cost_multiple", "delay_bars"])["return"]
    done = backtest(panel, targets, start=0, stop=300, name="wild", costs=costs, account=account)
    assert at[(1.0, 0)] == pytest.approx(done.equity[-1] / 1_000 - 1, rel=1e-9)
    assert at[(0.0, 0)] > at[(1.0, 0)] > at[(2.0, 0)] > at[(4.0, 0)]
    late = backtest(
        panel, np.vstack([0 * targets[:1], targets[:-1]]), start=0, stop=300, name="late", costs=costs, account=account
    )
    assert at[(1.0, 1)] == pytest.approx(late.equity[-1] / 1_000 - 1, rel=1e-9)
