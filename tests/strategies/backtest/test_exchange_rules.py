"""Liquidation, limit and stop orders, lots, ticks, expiry, shares of volume, account kinds and slippage, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.panel import CANDLE_FIELDS, InputError, Panel
from strategies.backtest.accounting import account_for
from strategies.backtest.execution import Backtest, backtest
from strategies.backtest.sensitivity import break_even_bps, sensitivity
from strategies.backtest.terms import NO_RULES, Account, Costs, Instrument, Orders

HOUR = 3_600_000_000_000
FREE = Costs(taker_fee_bps=0.0, maker_fee_bps=0.0, slippage_bps=0.0)
Bar = tuple[float, float, float, float]


def panel_of(*bars: Bar, volume: float = 1_000.0, spread: list[float] | None = None) -> Panel:
    values = np.array([[(*bar, volume, *([] if spread is None else [spread[k]]))] for k, bar in enumerate(bars)])
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(len(bars)) * np.timedelta64(HOUR, "ns")
    fields = CANDLE_FIELDS if spread is None else (*CANDLE_FIELDS, "spread")
    return Panel(stamps, ("A",), fields, values, HOUR, "test")


def flat(*prices: float) -> list[Bar]:
    return [(p, p, p, p) for p in prices]


def run(
    panel: Panel,
    targets: list[float],
    costs: Costs = FREE,
    account: Account = Account(1_000.0),
    orders: Orders = Orders(),
    rule: Instrument | None = None,
) -> Backtest:
    """Through Backtrader; the second account must say the same."""
    column = np.array(targets)[:, None]
    every = {
        "start": 0, "stop": len(panel), "costs": costs, "account": account, "orders": orders,
        "instruments": NO_RULES if rule is None else {"A": rule},
    }  # fmt: skip
    result = backtest(panel, column, name="test", **every)
    second = account_for(panel, column, **every)
    np.testing.assert_allclose(second.equity, result.equity, rtol=1e-12, atol=1e-9)
    return result


def kinds(result: Backtest) -> list[str]:
    return [str(kind) for kind in result.trades["kind"]]


MARGIN = Account(1_000.0, leverage=10.0, maintenance_margin=0.05, liquidation_fee=0.01)


def test_a_long_is_liquidated_where_its_bar_takes_equity_to_the_maintenance_margin() -> None:
    panel = panel_of(*flat(100, 100), (98, 98, 70, 90), *flat(90, 90))
    result = run(panel, [5.0, 5.0, 0.0, 0.0, 0.0], account=MARGIN)
    # 50 units at 100. Equity 1000 - 50 (100 - p) meets 5% of 50 p where 47.5 p = 4000: p = 84.2105
    price = 4_000 / 47.5
    row = result.trades.iloc[1]
    assert kinds(result) == ["fill", "liquidation"]
    assert row["price"] == pytest.approx(price)
    assert row["size"] == -50
    assert row["fee"] == pytest.approx(0.01 * 50 * price)
    assert result.equity[2:] == pytest.approx([1_000 - 50 * (100 - price) - 0.5 * price] * 3)
    assert result.holdings[2:, 0].tolist() == [0, 0, 0]


def test_a_short_is_liquidated_in_a_rise() -> None:
    panel = panel_of(*flat(100, 100), (100, 130, 100, 110), *flat(110))
    result = run(panel, [-5.0, -5.0, 0.0, 0.0], account=MARGIN)
    # 1000 - 50 (p - 100) = 0.05 x 50 p: 52.5 p = 6000
    assert result.trades["price"].iloc[1] == pytest.approx(6_000 / 52.5)
    assert result.trades["size"].iloc[1] == 50


def test_a_gap_beyond_bankruptcy_leaves_nothing_and_no_debt_and_no_more_orders() -> None:
    panel = panel_of(*flat(100, 100, 60, 60, 90, 90))
    result = run(panel, [5.0] * 6, account=MARGIN, costs=Costs(0.0, 0.0, 10.0))
    assert kinds(result) == ["fill", "liquidation"]
    assert result.equity[2:].tolist() == [0, 0, 0, 0]
    assert result.trades["price"].iloc[1] == pytest.approx(
        100.1 - 1_000 / 50
    )  # not at 60: the loss ends where equity does
    assert (result.trades["fee"] >= 0).all()
    # taken over at the price where equity is zero, fee and slippage included: the ledger still adds up
    money = -(result.trades["size"] * result.trades["price"]).sum() - result.trades["fee"].sum()
    assert money == pytest.approx(-1_000)


def test_a_bar_that_stops_short_of_the_margin_liquidates_nothing() -> None:
    panel = panel_of(*flat(100, 100), (98, 98, 84.3, 90), *flat(90))
    assert kinds(run(panel, [5.0, 5.0, 5.0, 5.0], account=MARGIN))[:1] == ["fill"]
    assert "liquidation" not in kinds(run(panel, [5.0, 5.0, 5.0, 5.0], account=MARGIN))


def test_a_limit_order_fills_only_where_a_bar_trades_through_it_and_pays_the_maker_fee() -> None:
    orders = Orders("limit", offset_bps=100)
    costs = Costs(taker_fee_bps=50, maker_fee_bps=10, slippage_bps=30)
    touched = panel_of(*flat(100), (100, 101, 99, 100), *flat(100))
    assert kinds(run(touched, [1.0, 1.0, 1.0], costs, orders=orders)) == []
    through = panel_of(*flat(100), (100, 101, 98.9, 100), *flat(100))
    result = run(through, [1.0, 1.0, 1.0], costs, Account(1_000.0, rebalance_band=1.0), orders)
    row = result.trades.iloc[0]
    # 10 units at the limit 99, no slippage, 10 bps of 990
    assert (row["price"], row["size"], row["slippage"]) == (99, 10, 0)
    assert row["fee"] == pytest.approx(0.99)
    assert result.equity[-1] == pytest.approx(1_000 + 10 - 0.99)


def test_a_limit_order_gets_no_better_price_than_its_own_when_the_market_opens_beyond_it() -> None:
    result = run(panel_of(*flat(100), (95, 96, 94, 95)), [1.0, 1.0], orders=Orders("limit", offset_bps=100))
    assert result.trades["price"].tolist() == [99]


def test_a_stop_order_waits_for_its_price_and_pays_the_open_where_the_market_jumps_over_it() -> None:
    orders, costs = Orders("stop", offset_bps=100), Costs(0.0, 0.0, 100.0)
    for bar, price in (((100, 102, 99, 100), 101), ((105, 106, 104, 105), 105)):
        result = run(panel_of(*flat(100), bar), [1.0, 1.0], costs, orders=orders)
        assert result.trades["price"].tolist() == [pytest.approx(price * 1.01)]
    assert kinds(run(panel_of(*flat(100), (100, 100.9, 99, 100)), [1.0, 1.0], costs, orders=orders)) == []


def test_an_order_expires_after_its_bars() -> None:
    # the rebalance band keeps the strategy from sending the same target again
    panel = panel_of(*flat(100, 100, 100), (100, 100, 90, 100))
    account = Account(1_000.0, rebalance_band=9.0)
    for expiry, filled in ((0, True), (3, True), (2, False)):
        orders = Orders("limit", offset_bps=100, expiry_bars=expiry)
        assert bool(kinds(run(panel, [1.0] * 4, account=account, orders=orders))) == filled


def test_an_order_takes_its_share_of_a_bars_volume_and_the_rest_waits() -> None:
    panel = panel_of(*flat(100, 100, 100, 100), volume=40.0)
    account = Account(1_000.0, rebalance_band=9.0)
    result = run(panel, [1.0] * 4, account=account, orders=Orders(volume_share=0.1))
    assert result.trades["size"].tolist() == [4, 4, 2]
    assert result.holdings[:, 0].tolist() == [0, 4, 8, 10]


def test_sizes_are_whole_lots_prices_whole_ticks_against_the_order_and_small_orders_are_not_sent() -> None:
    rule = Instrument(lot=0.3, tick=0.5, minimum_notional=100.0)
    costs = Costs(0.0, 0.0, 10.0)
    result = run(panel_of(*flat(100, 100, 100, 100)), [1.0, 0.95, 0.0, 0.0], costs, rule=rule)
    # 10 units -> 33 lots of 0.3; 100.1 -> 100.5. The change to 0.95 is below 100. A position may always be closed whole: 99.9 -> 99.5
    assert result.trades["size"].tolist() == pytest.approx([9.9, -9.9])
    assert result.trades["price"].tolist() == pytest.approx([100.5, 99.5])
    assert result.holdings[-1, 0] == 0


def test_spot_holds_no_shorts_and_pays_in_full_and_cash_may_be_short_once() -> None:
    panel = panel_of(*flat(100, 100, 110))
    spot, cash = Account(1_000.0, kind="spot"), Account(1_000.0, kind="cash")
    assert run(panel, [-1.0] * 3, account=spot).equity.tolist() == [1_000, 1_000, 1_000]
    assert run(panel, [3.0] * 3, account=spot).holdings[1, 0] == 10
    assert run(panel, [-3.0] * 3, account=cash).holdings[1, 0] == -10


def test_slippage_follows_the_spread_that_was_recorded_before_the_fill() -> None:
    panel = panel_of(*flat(100, 100, 100), spread=[0.002, 0.04, 0.0])
    costs = Costs(0.0, 0.0, slippage_bps=1.0, slippage_model="spread")
    # half of the 20 bps known at the close of bar 0; the 400 of the bar of the fill are not known yet
    assert run(panel, [1.0, 1.0, 1.0], costs).trades["price"].tolist() == [pytest.approx(100.1)]
    with pytest.raises(InputError, match="recorded order books"):
        run(panel_of(*flat(100, 100)), [1.0, 1.0], costs)


def test_slippage_by_volatility_reads_no_bar_of_the_fill_or_later() -> None:
    rng = np.random.default_rng(0)
    prices = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 80)))
    costs = Costs(slippage_model="volatility", volatility_share=0.1)
    whole = costs.slippage(panel_of(*flat(*prices)), 0, 80)
    prices[60:] *= rng.uniform(0.5, 2.0, 20)
    changed = costs.slippage(panel_of(*flat(*prices)), 0, 80)
    assert np.array_equal(whole[:61], changed[:61])
    assert not np.array_equal(whole[61], changed[61])
    assert whole[40:60].mean() == pytest.approx(0.1 * 0.01, rel=0.5)


@pytest.mark.parametrize("targets", [[], [0.0] * 5, [np.nan] * 5, [1.0, 0.0, 0.0, 0.0, 0.0], [9.0] * 5])
def test_odd_cases_give_finite_figures(targets: list[float]) -> None:
    """One bar, no trade, no forecast, one trade, bankrupt."""
    panel = panel_of(*flat(100, 100, 60, 60, 60))
    book = np.array(targets if targets else [1.0])[:, None]
    stretch = {"start": 0, "stop": len(book), "account": MARGIN}
    table = sensitivity(panel, {"odd": book}, costs=Costs(), **stretch)
    assert np.isfinite(table[["return", "sharpe"]].to_numpy()).all()
    assert break_even_bps(panel, np.nan_to_num(book), **stretch) is None
    result = backtest(panel, book, name="odd", costs=Costs(), **stretch)
    assert np.isfinite(result.equity).all()
    assert np.all(result.equity >= 0)


def test_an_account_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no account"):
        Account(kind="margin")
    with pytest.raises(ValueError, match="below the initial margin"):
        Account(leverage=100.0, maintenance_margin=0.02)
    with pytest.raises(ValueError, match="no order kind"):
        Orders("iceberg")
    with pytest.raises(ValueError, match="no slippage model"):
        Costs(slippage_model="none")


def test_backtesting_py_agrees_on_a_plain_case() -> None:
    """A third party: the public package backtesting.py, all-in long and flat with a fee, filled at the next open."""
    backtesting = pytest.importorskip("backtesting", reason="the test dependency backtesting is not installed")
    rng = np.random.default_rng(4)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 200)))
    opens = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, 0.002, 200))
    bars = [(o, max(o, c), min(o, c), c) for o, c in zip(opens, close, strict=True)]
    side = np.repeat(rng.integers(0, 2, 20), 10).astype(float)
    side[:10] = side[-10:] = 0.0  # backtesting.py decides nothing on the first bar
    units = 3.0

    class Follow(backtesting.Strategy):  # type: ignore[misc,name-defined]
        def init(self) -> None:
            pass

        def next(self) -> None:
            wanted = side[len(self.data) - 1]
            if wanted and not self.position:
                self.buy(size=int(units))
            elif not wanted and self.position:
                self.position.close()

    frame = pd.DataFrame(np.array(bars), columns=["Open", "High", "Low", "Close"])
    frame.index = pd.date_range("2024-01-01", periods=200, freq="h")
    frame["Volume"] = 1_000.0
    done = backtesting.Backtest(frame, Follow, cash=1_000.0, commission=0.001, trade_on_close=False).run()
    theirs = done["_equity_curve"]["Equity"].to_numpy()

    # the same whole units here: targets that come to exactly `units` at each decision, held without rebalancing
    panel = panel_of(*bars)
    cash, held, targets = 1_000.0, 0.0, []
    for t in range(200):
        if t and targets[-1][1] != held:  # the order of the last close fills at this open
            change = targets[-1][1] - held
            cash -= change * opens[t] + abs(change) * opens[t] * 0.001
            held = targets[-1][1]
        wish = units * side[t]
        equity = cash + held * close[t]
        targets.append((wish * close[t] / equity if wish != held else None, wish))
    column, last = [], 0.0
    for share, _ in targets:
        last = last if share is None else share
        column.append(last)
    ours = run(panel, column, Costs(10.0, 10.0, 0.0), Account(1_000.0, rebalance_band=9.0))
    assert len(ours.trades) == 8  # four round trips
    np.testing.assert_allclose(ours.equity, theirs, rtol=1e-9)
