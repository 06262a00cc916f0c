"""Bars that did not exist cannot be traded: filled gaps, halts, delistings. Two accounts and hand arithmetic agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from data.assembly import build_panel
from data.panel import CANDLE_FIELDS, Panel, Settlements
from strategies.backtest.accounting import account_for
from strategies.backtest.execution import Account, Backtest, Costs, Orders, backtest
from tests.strategies.backtest.test_accounting import wild_market, wild_targets

HOUR = 3_600_000_000_000
FREE = Costs(0.0, 0.0, 0.0)
NAN = float("nan")


def market(*columns: Sequence[float], volumes: Sequence[float] | None = None, **rest: Any) -> Panel:
    """One asset per column: open = high = low = close = its price; NaN is no bar."""
    prices = np.array(columns, dtype=float).T
    values = np.repeat(prices[:, :, None], 5, axis=2)
    values[:, :, 4] = 10.0 if volumes is None else np.array(volumes)[:, None]
    stamps = np.datetime64("2025-01-01", "ns") + np.arange(len(prices)) * np.timedelta64(HOUR, "ns")
    names = tuple(f"A{a}" for a in range(len(columns)))
    return Panel(stamps, names, CANDLE_FIELDS, values, HOUR, "test", **rest)


def halted(before: int = 5, halt: int = 5, after: int = 5, volume: float = 0.0) -> Panel:
    """100, a halt, then 60."""
    volumes = [10.0] * before + [volume] * halt + [10.0] * after
    return market([100.0] * (before + halt) + [60.0] * after, volumes=volumes)


def both(panel: Panel, targets: Sequence[Sequence[float]] | Sequence[float], **how: Any) -> Backtest:
    """Backtrader's account; the fast one must be the same."""
    book = np.array(targets, dtype=float).reshape(len(panel), -1)
    every = {"start": 0, "stop": len(panel), "costs": FREE, **how}
    result = backtest(panel, book, name="x", **every)
    second = account_for(panel, book, **every)
    np.testing.assert_allclose(second.equity, result.equity, rtol=1e-12)
    np.testing.assert_allclose(second.holdings, result.holdings, rtol=1e-12)
    return result


def hours(result: Backtest) -> list[int]:
    return [stamp.hour for stamp in result.trades["timestamp"]]


def test_long_through_a_halt_takes_the_whole_fall() -> None:
    result = both(halted(), [1.0] * 15)
    assert result.equity[-1] == pytest.approx(60_000.0)
    assert hours(result) == [1]


def test_what_is_sold_before_a_halt_fills_after_it() -> None:
    """Without the rule the exit fills inside the halt at 100 and nothing is lost."""
    result = both(halted(), [1.0] * 4 + [0.0] * 11)
    assert hours(result) == [1, 10]
    assert result.equity[-1] == pytest.approx(60_000.0)
    inside = both(halted(volume=3.0), [1.0] * 4 + [0.0] * 11)
    assert inside.equity[-1] == pytest.approx(100_000.0)  # the same prices with volume are bars like others


def test_what_is_bought_before_a_halt_fills_at_the_price_after_it() -> None:
    result = both(halted(), [0.0] * 4 + [1.0] * 11)
    assert hours(result)[0] == 10
    assert result.trades["price"].iloc[0] == 60.0
    assert result.equity[-1] == pytest.approx(100_000.0)


@pytest.mark.parametrize("kind", ["market", "limit", "stop"])
@pytest.mark.parametrize("share", [float("inf"), 0.5])
def test_no_order_of_any_kind_fills_in_an_outage(kind: str, share: float) -> None:
    rng = np.random.default_rng(5)
    panel = wild_market(11, 200, 1, 0.02)
    values = panel.values.copy()
    values[60:83] = [*[values[59, 0, 3]] * 4, 0.0]
    values[150:] = np.nan_to_num(values[150:], nan=100.0)
    panel = Panel(panel.timestamps, panel.assets, panel.fields, values, HOUR, "test")
    targets = rng.choice([-1.0, 0.0, 1.0], (200, 1))
    result = both(panel, targets, orders=Orders(kind, 5.0, 0, share), costs=Costs())
    opens = panel.timestamps.tolist().index(panel.timestamps[60].tolist())
    inside = panel.timestamps[opens : opens + 23]
    fills = result.trades["timestamp"].dt.tz_localize(None).to_numpy()
    assert len(fills) > 20
    assert not np.isin(fills, inside).any()


def test_funding_is_paid_through_a_halt_at_the_last_price() -> None:
    stamps = np.datetime64("2025-01-01", "ns") + np.array([2, 6]) * np.timedelta64(HOUR, "ns")
    panel = halted()
    panel = Panel(
        panel.timestamps, panel.assets, panel.fields, panel.values, HOUR, "test",
        settlements={"A0": Settlements(stamps, np.array([0.01, 0.02]))},
    )  # fmt: skip
    result = both(panel, [1.0] * 15, account=Account(rebalance_band=9.0))
    # bought at 100 for 100,000; 1% of 100,000 at 02:00 and 2% of 100,000 inside the halt; then 1,000 units fall by 40
    assert result.trades["funding"].sum() == pytest.approx(-3_000.0)
    assert result.equity[-1] == pytest.approx(100_000 - 3_000 - 40_000)


def test_a_settlement_a_moment_late_falls_to_who_holds_then() -> None:
    """At 04:00:00.001 the position opened at 04:00 pays; at 04:00:00 the one held before."""
    for late_ns, paid in ((0, 0.0), (1_000_000, -1_000.0)):
        stamp = np.array([np.datetime64("2025-01-01T04", "ns") + np.timedelta64(late_ns, "ns")])
        settlements = {"A0": Settlements(stamp, np.array([0.01]))}
        panel = market([100.0] * 8, settlements=settlements)
        result = both(panel, [0.0] * 3 + [1.0] * 5)
        assert result.trades["funding"].sum() == pytest.approx(paid)


def test_only_the_covered_part_of_the_funding_is_paid() -> None:
    stamps = np.datetime64("2025-01-01", "ns") + np.array([2, 4, 20]) * np.timedelta64(HOUR, "ns")
    rates = np.array([0.01, NAN, 0.5])
    panel = market([100.0] * 8, [50.0] * 8, settlements={"A1": Settlements(stamps, rates)})
    result = both(panel, [[1.0, 1.0]] * 8)
    assert result.trades.loc[result.trades["kind"] == "funding", "asset"].tolist() == ["A1"]
    assert result.equity[-1] == pytest.approx(99_000.0)


def test_a_delisted_asset_is_closed_at_its_last_price_at_cost() -> None:
    panel = market([100.0] * 10, [10.0, 10.0, 10.0, 8.0, *[NAN] * 6])
    costs = Costs(10.0, 0.0, 20.0)
    result = both(panel, [[0.0, 1.0]] * 10, costs=costs, account=Account(rebalance_band=9.0))
    # 10,000 units bought at 10.02, sold at 8 * 0.998, 10 bp of both
    bought, sold = 10_000 * 10.02, 10_000 * 8 * 0.998
    assert list(result.trades["kind"]) == ["fill", "delisting"]
    assert result.equity[-1] == pytest.approx(100_000 - bought + sold - (bought + sold) * 1e-3)
    assert result.holdings[3:, 1].tolist() == [0.0] * 7
    assert len(set(result.equity[3:])) == 1


def test_an_order_for_what_is_delisted_is_void_and_margin_is_free_again() -> None:
    panel = market([100.0] * 10, [10.0] * 4 + [NAN] * 6)
    result = both(panel, [[0.0, 1.0]] * 4 + [[1.0, 1.0]] * 6, account=Account(kind="cash"))
    assert result.holdings[-1].tolist() == [1_000.0, 0.0]


def test_a_delisting_takes_no_more_than_there_is() -> None:
    account = Account(leverage=10.0, maintenance_margin=0.0, liquidation_fee=0.0)
    for side in (1.0, -1.0):
        column = [10.0, 10.0, 10.0 + 0.98 * -side, 10.0 + 0.98 * -side, NAN, NAN]
        panel = market([100.0] * 6, column)
        result = both(panel, [[0.0, 10.0 * side]] * 6, costs=Costs(0.0, 0.0, 500.0), account=account)
        assert result.equity[-1] >= 0.0


def test_the_end_of_the_history_is_no_delisting() -> None:
    result = both(market([100.0] * 5, [10.0] * 5), [[0.5, 0.5]] * 5)
    assert set(result.trades["kind"]) == {"fill"}
    assert result.holdings[-1].tolist() == [500.0, 5_000.0]


def test_halts_ahead_change_nothing_before_them() -> None:
    compared = 0
    for seed in range(40):
        panel = wild_market(seed, 40, 3, 0.05)
        targets = wild_targets(seed, panel, 1.0, 2)
        values = panel.values.copy()
        values[25:] = np.nan_to_num(values[24:25, :, 3:4], nan=5.0) * np.array([1, 1, 1, 1, 0.0])
        changed = Panel(
            panel.timestamps, panel.assets, panel.fields, values, HOUR, "test", settlements=panel.settlements
        )
        assert np.array_equal(panel.traded[:25], changed.traded[:25])
        if min(panel.ends) < 24:  # what ends is closed at its last bar, which only what follows can say
            continue
        compared += 1
        before, after = (account_for(each, targets, start=0, stop=40).equity[:24] for each in (panel, changed))
        assert np.array_equal(before, after)
    assert compared > 10


def test_filled_gaps_are_not_traded_and_quiet_bars_with_volume_are() -> None:
    import pandas as pd

    index = pd.DatetimeIndex(["2025-01-01 00:00", "2025-01-01 01:00", "2025-01-01 04:00", "2025-01-01 05:00"])
    table = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 5.0), index=index).assign(volume=1.0)
    panel = build_panel({"A": table}, HOUR, source="test", fill_gaps=True)
    assert panel.traded[:, 0].tolist() == [True, True, False, False, True, True]
