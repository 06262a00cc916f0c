"""Weights of several assets: limits, penalties, weightings; and what each asset contributed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.panel import FloatArray, Panel
from data.simulated import simulate
from nas.features.bank import causal_volatility
from strategies.backtest.contributions import contributions, profits
from strategies.backtest.execution import backtest
from strategies.backtest.portfolio import WEIGHTINGS, Portfolio, allocations, book_of
from strategies.backtest.positions import PositionRule, target_positions

NAMES = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")


def market(bars: int = 900, assets: int = 4, late: int = 0) -> Panel:
    """The last asset is listed `late` bars after the others."""
    start = np.datetime64("2024-01-01", "ns")
    panel = simulate(NAMES[:assets], "60", start=start, end=start + np.timedelta64(bars, "h"))
    values = np.array(panel.values)
    if late:
        values[:late, -1] = np.nan
    return with_values(panel, values)


def with_values(panel: Panel, values: FloatArray, assets: tuple[str, ...] | None = None) -> Panel:
    names = assets or panel.assets
    kept = {name: s for name, s in panel.settlements.items() if name in names}
    return Panel(panel.timestamps, names, panel.fields, values, panel.interval_ns, "test", True, kept)


def noise(panel: Panel, seed: int = 0) -> FloatArray:
    out = np.random.default_rng(seed).normal(size=(len(panel), len(panel.assets)))
    return np.where(np.isfinite(panel.field("close")), out, np.nan)


def book(panel: Panel, forecasts: FloatArray, portfolio: Portfolio, start: int = 0) -> FloatArray:
    rule = PositionRule(threshold=0.5, exit_threshold=0.0, forecast_scale=1.5)
    return book_of(panel, portfolio.signal(forecasts)[start:], causal_volatility(panel), start, rule, portfolio)


def test_one_asset_gets_the_position_rule_bit_for_bit() -> None:
    panel = market(assets=1)
    forecasts, volatility = noise(panel), causal_volatility(panel)
    rule = PositionRule(threshold=0.5, exit_threshold=0.0, forecast_scale=1.5)
    alone = target_positions(forecasts[:, 0], volatility[:, 0], rule, panel.bars_per_year)
    assert np.array_equal(book_of(panel, forecasts, volatility, 0, rule)[:, 0], alone)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_future_of_any_asset_changes_no_weight_before_it(weighting: str) -> None:
    panel, cut = market(), 700
    forecasts = noise(panel)
    portfolio = Portfolio(weighting, gross_limit=1.5, rebalance_bars=50)
    before = book(panel, forecasts, portfolio)
    assert np.abs(before[:cut]).sum() > 0
    for asset in range(4):
        values, later = np.array(panel.values), forecasts.copy()
        values[cut:, asset] *= 1.3
        later[cut:, asset] *= -2.0
        after = book(with_values(panel, values), later, portfolio)
        assert np.array_equal(before[:cut], after[:cut])
        assert not np.array_equal(before[cut:], after[cut:])


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_order_of_the_assets_and_an_unlisted_asset_do_not_matter(weighting: str) -> None:
    panel = market(late=300)
    forecasts = noise(panel)
    portfolio = Portfolio(weighting)
    plain = book(panel, forecasts, portfolio)
    order = [2, 0, 3, 1]
    turned = with_values(panel, panel.values[:, order], tuple(panel.assets[k] for k in order))
    np.testing.assert_allclose(book(turned, forecasts[:, order], portfolio), plain[:, order], atol=1e-6)
    nothing = np.full((len(panel), 1, len(panel.fields)), np.nan)
    wider = with_values(panel, np.concatenate([panel.values, nothing], 1), (*panel.assets, "NEWUSDT"))
    padded = book(wider, np.concatenate([forecasts, nothing[:, :, 0]], 1), portfolio)
    assert np.array_equal(padded[:, :4], plain)
    assert not padded[:, 4].any()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(("equal_risk", "volatility_target", "long_short")),
    st.floats(0.1, 3.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.2),
    st.integers(0, 5),
)
def test_limits_hold_at_every_bar(weighting: str, gross: float, net: float, penalty: float, seed: int) -> None:
    panel = market(bars=200)
    weights = book(panel, noise(panel, seed), Portfolio(weighting, gross, net, penalty))
    assert np.all(np.abs(weights).sum(1) <= gross * (1 + 1e-9))
    assert np.all(np.abs(weights.sum(1)) <= net + 1e-9)


def test_long_short_is_neutral_and_longs_the_better_forecasts() -> None:
    panel = market()
    forecasts = np.tile([3.0, 1.0, 0.9, -1.0], (len(panel), 1))
    weights = book(panel, forecasts, Portfolio("long_short"))[48:]
    assert np.all(weights[:, 0] > 0)
    assert np.all(weights[:, 3] < 0)
    np.testing.assert_allclose(weights.sum(1), 0.0, atol=1e-12)


def test_volatility_target_is_hit_with_correlations() -> None:
    panel = market(bars=4_000)
    forecasts = np.ones((len(panel), 4))
    rule = PositionRule(target_volatility=0.2, max_leverage=10.0)
    weights = book_of(
        panel, forecasts, causal_volatility(panel), 0, rule, Portfolio("volatility_target", turnover_penalty=0.0)
    )
    returns = np.diff(np.log(panel.field("close")), axis=0)
    got = (weights[500:-1] * returns[500:]).sum(1).std() * math.sqrt(panel.bars_per_year)
    assert got == pytest.approx(0.2, rel=0.1)


def test_turnover_penalty_trades_less() -> None:
    panel = market()
    traded = [
        np.abs(np.diff(book(panel, noise(panel), Portfolio("volatility_target", turnover_penalty=p)), axis=0)).sum()
        for p in (0.0, 0.05, 0.2)
    ]
    assert traded[0] > traded[1] > traded[2] > 0


def test_hrp_gives_less_to_the_more_volatile_asset() -> None:
    panel = market()
    shares = allocations(panel, Portfolio("hrp"))
    np.testing.assert_allclose(shares.sum(1), 1.0)
    assert shares[-1, panel.assets.index("SOLUSDT")] < shares[-1, panel.assets.index("BTCUSDT")]


@pytest.mark.parametrize("wrong", [{"weighting": "magic"}, {"gross_limit": -1.0}, {"net_limit": math.nan}])
def test_impossible_portfolios_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Portfolio(**wrong)  # type: ignore[arg-type]


def test_contributions_of_the_assets_add_up_to_the_account() -> None:
    panel, start = market(late=400), 100
    weights = book(panel, noise(panel), Portfolio(), start)
    result = backtest(panel, weights, start=start, stop=len(panel), name="x")
    parts = profits(panel, result, start)
    np.testing.assert_allclose(parts.sum(1)[1:], np.diff(result.equity), atol=1e-9 * result.equity[0])
    table = contributions(panel, result, start)
    assert table["profit"].sum() == pytest.approx(result.equity[-1] - result.equity[0], abs=1e-6)
    assert table["fees"].sum() == pytest.approx(result.trades["fee"].sum())
    assert set(table["asset"]) == set(panel.assets)
    assert len(table) == 4 * table["timestamp"].nunique()


def test_each_asset_must_earn_its_own_cost_before_it_is_entered() -> None:
    panel = market(60, assets=3)
    rule = PositionRule(cost_hurdle=1.0, cost_bps=1.0, asset_cost_bps={panel.assets[1]: 1e4})
    forecasts = np.ones((60, 3))
    weights = book_of(panel, forecasts, np.full((60, 3), 0.01), 0, rule)
    assert (weights[:, [0, 2]] > 0).all()
    assert not weights[:, 1].any()
