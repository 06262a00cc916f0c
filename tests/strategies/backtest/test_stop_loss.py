"""A protective stop in both accounts: where it is, what it costs, what happens after it, and that it reads nothing of the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from data.panel import CANDLE_FIELDS, FloatArray, Panel
from nas.features.bank import causal_volatility
from strategies.backtest.accounting import account_for
from strategies.backtest.execution import Backtest, backtest
from strategies.backtest.terms import Account, Costs, Instrument, stop_distance, stop_distances

HOUR = 3_600_000_000_000
FREE = Costs(0.0, 0.0, 0.0)


def panel_of(rows: list[tuple[float, float, float, float]]) -> Panel:
    """Of (open, high, low, close) after 200 bars of a random walk that ends at 100."""
    rng = np.random.default_rng(5)
    before = np.cumsum(rng.normal(0, 0.01, 200))
    close = 100 * np.exp(before - before[-1])
    opens = np.concatenate([[close[0]], close[:-1]])
    calm = np.stack([opens, np.maximum(opens, close), np.minimum(opens, close), close], 1)
    values = np.column_stack([np.vstack([calm, rows]), np.ones(200 + len(rows))])[:, None, :]
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(len(values)) * np.timedelta64(HOUR, "ns")
    return Panel(stamps, ("A",), CANDLE_FIELDS, values, HOUR, "test")


def run(panel: Panel, targets: list[float], stop_loss: float, costs: Costs = FREE, **more: Any) -> Backtest:
    """Of the bars after the walk, in both accounts, which must agree."""
    start, stop = 199, 199 + len(targets)
    every: dict[str, Any] = {"start": start, "stop": stop, "costs": costs, **more,
                             "account": Account(1_000.0, rebalance_band=9.0, stop_loss=stop_loss)}  # fmt: skip
    column = np.array(targets)[:, None]
    ours, second = backtest(panel, column, name="x", **every), account_for(panel, column, **every)
    np.testing.assert_allclose(second.equity, ours.equity, rtol=1e-9)
    np.testing.assert_allclose(second.holdings, ours.holdings, rtol=1e-9)
    return ours


FALL = [(100.0, 101.0, 99.0, 100.0), (100.0, 100.0, 50.0, 60.0), (60.0, 61.0, 59.0, 60.0), (60.0, 61.0, 59.0, 60.0)]


def distance_at_start(panel: Panel, stop_loss: float) -> float:
    return float(stop_distances(panel, 199, 200, stop_loss)[0, 0])


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_stop_closes_at_its_price_and_the_symbol_stays_flat_until_the_target_leaves_the_side(side: float) -> None:
    up = [
        (100.0, 101.0, 99.0, 100.0),
        (100.0, 200.0, 100.0, 190.0),
        (190.0, 191.0, 189.0, 190.0),
        (190.0, 191.0, 189.0, 190.0),
    ]
    panel = panel_of(FALL if side > 0 else up)
    distance = distance_at_start(panel, 2.0)
    assert 0.05 < distance < 0.2
    result = run(panel, [side, side, side, side, side], 2.0)
    kinds = result.trades[["kind", "size", "price"]].to_numpy().tolist()
    assert [k[0] for k in kinds] == ["fill", "stop"]
    assert kinds[1][2] == pytest.approx(100 * (1 - side * distance))
    assert result.holdings[-1, 0] == 0
    assert result.equity[-1] == pytest.approx(1_000 * (1 - distance))
    assert list(run(panel, [side, side, side, 0.5 * side, side], 2.0).trades["kind"]) == ["fill", "stop"]
    again = run(panel, [side, side, side, -side, -side], 2.0).trades
    assert list(again["kind"]) == ["fill", "stop", "fill"], "the other side may be entered"
    after = run(panel, [side, side, 0.0, side, side], 2.0).trades
    assert list(after["kind"]) == ["fill", "stop", "fill"], "so may the same one after the target was flat"


def test_without_a_stop_nothing_changes() -> None:
    panel = panel_of(FALL)
    assert list(run(panel, [1.0] * 5, 0.0).trades["kind"]) == ["fill"]


def test_a_gap_beyond_the_stop_fills_at_the_open_and_costs_are_charged() -> None:
    panel = panel_of([(100.0, 101.0, 99.0, 100.0), (70.0, 71.0, 69.0, 70.0), (70.0, 71.0, 69.0, 70.0)])
    costs = Costs(10.0, 2.0, 20.0)
    trades = run(panel, [1.0, 1.0, 1.0, 1.0], 1.0, costs).trades
    (stop,) = trades[trades["kind"] == "stop"].to_dict("records")
    assert stop["price"] == pytest.approx(70.0 * 0.998)
    assert stop["fee"] == pytest.approx(-stop["size"] * stop["price"] * 1e-3)
    assert stop["slippage"] == pytest.approx(-stop["size"] * 70.0 * 0.002)


def test_the_stop_follows_the_average_entry_and_lies_on_the_grid() -> None:
    rows = [
        (100.0, 100.0, 100.0, 100.0),
        (110.0, 110.0, 110.0, 110.0),
        (110.0, 110.0, 110.0, 110.0),
        (110.0, 110.0, 60.0, 60.0),
    ]
    panel = panel_of(rows)
    rules = {"A": Instrument(tick=0.5)}
    result = run(panel, [0.5, 1.0, 1.0, 1.0, 1.0], 1.0, instruments=rules)
    fills = result.trades[result.trades["kind"] == "fill"]
    entry = (fills["size"] * fills["price"]).sum() / fills["size"].sum()
    distance = float(stop_distances(panel, 200, 201, 1.0)[0, 0])  # of the second order
    (price,) = result.trades.loc[result.trades["kind"] == "stop", "price"]
    assert price == np.floor(entry * (1 - distance) / 0.5) * 0.5


def test_a_stop_before_the_liquidation_price_saves_what_is_left_and_one_beyond_it_does_not() -> None:
    panel = panel_of(FALL)
    for stop_loss, kind in ((1.0, "stop"), (50.0, "liquidation")):
        start, column = 199, np.full((5, 1), 5.0)
        every: dict[str, Any] = {"start": start, "stop": start + 5, "costs": FREE,
                                 "account": Account(1_000.0, rebalance_band=9.0, stop_loss=stop_loss)}  # fmt: skip
        result = backtest(panel, column, name="x", **every)
        assert list(result.trades["kind"])[:2] == ["fill", kind]
        np.testing.assert_allclose(account_for(panel, column, **every).equity, result.equity, rtol=1e-9)


def test_a_stop_reads_nothing_of_the_future() -> None:
    panel = panel_of(FALL)
    rng = np.random.default_rng(1)
    targets: FloatArray = np.round(rng.normal(0, 1, (204, 1)), 1)
    every: dict[str, Any] = {"start": 0, "account": Account(1_000.0, stop_loss=0.5)}
    whole = backtest(panel, targets, stop=204, name="x", **every)
    for cut in (60, 120, 201):
        values = np.array(panel.values)
        values[cut:] *= np.exp(rng.normal(0, 0.5, (204 - cut, 1, 1)))
        other = Panel(panel.timestamps, panel.assets, panel.fields, values, HOUR, "test")
        changed = backtest(other, targets, stop=204, name="x", **every)
        assert changed.equity[:cut].tolist() == whole.equity[:cut].tolist()
        assert stop_distances(other, 0, cut, 0.5).tolist() == stop_distances(panel, 0, cut, 0.5).tolist()


def test_stops_are_as_far_as_the_volatility_says_that_was_known_when_the_order_was_decided() -> None:
    panel = panel_of(FALL)
    rng = np.random.default_rng(2)
    targets: FloatArray = np.round(rng.normal(0, 1, (204, 1)), 1)
    known = rng.uniform(0.0, 0.02, (204, 1))
    every: dict[str, Any] = {"start": 0, "stop": 204, "account": Account(1_000.0, stop_loss=0.5)}
    whole = backtest(panel, targets, name="x", volatility=known, **every)
    assert whole.equity.tolist() != backtest(panel, targets, name="x", **every).equity.tolist()
    for cut in (60, 120, 201):
        later = known.copy()
        later[cut:] = rng.uniform(0.0, 0.02, (204 - cut, 1))
        changed = backtest(panel, targets, name="x", volatility=later, **every)
        # an order decided at the close of bar cut - 1 fills in bar cut, with that bar's distance
        assert changed.equity[: cut + 1].tolist() == whole.equity[: cut + 1].tolist()
        assert changed.equity.tolist() != whole.equity.tolist() or cut == 201
    of_mine = run(panel, [1.0, 1.0, 1.0, 1.0], 2.0, volatility=np.full((204, 1), 0.01))
    (stopped,) = of_mine.trades.loc[of_mine.trades["kind"] == "stop", "price"]
    assert stopped == pytest.approx(100.0 * (1.0 - stop_distance(2.0, 0.01, HOUR)), rel=1e-12)


def test_paper_trading_and_backtest_have_one_distance() -> None:
    panel = panel_of(FALL)
    volatility = float(causal_volatility(panel)[199, 0])
    assert stop_distance(2.0, volatility, HOUR) == distance_at_start(panel, 2.0)
    assert stop_distance(2.0, float("nan"), HOUR) == 0.0
    with pytest.raises(ValueError, match="stop_loss"):
        Account(stop_loss=-1.0)
