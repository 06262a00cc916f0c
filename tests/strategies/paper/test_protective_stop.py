"""A protective stop at the exchange: there from the first fill, moved with the position, put back, gone with it; the backtest's stop."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from strategies.backtest.execution import backtest
from strategies.backtest.terms import Account, Costs, stop_distance
from strategies.paper.trader import HALTED, RUNNING
from tests.strategies.paper.rig import HOUR_MS, SYMBOL, Rig, rest_order
from tests.strategies.paper.test_faults import CREATE, fault

Make = Callable[..., Rig]
HOUR_NS = 3_600_000_000_000
STOP = "/v5/position/trading-stop"


def holding(r: Rig, symbol: str = SYMBOL) -> Any:
    return r.exchange.account.holding(symbol, 0)


def expected(r: Rig) -> Decimal:
    h = holding(r)
    rows = r.journal.rows(
        "SELECT open_ms, volatility FROM decisions WHERE note LIKE '%filled%' ORDER BY open_ms DESC LIMIT 1"
    )
    distance = stop_distance(r.trader.stop_loss, rows[0]["volatility"], HOUR_NS)
    side = 1 if h.size > 0 else -1
    rules = r.trader.orders.rules.instruments[SYMBOL]
    return Decimal(rules.round_price(float(h.average) * (1 - side * distance), up=side < 0))


def watch(r: Rig) -> list[tuple[Decimal, Decimal]]:
    """(size, stop) of the position at every execution of an order from now on."""
    seen: list[tuple[Decimal, Decimal]] = []
    real = r.exchange.publish

    def publish(topic: str, rows: list[Any]) -> None:
        if topic == "position":
            seen.extend((holding(r, s).size, holding(r, s).stop) for s in rows)
        real(topic, rows)

    r.exchange.publish = publish
    return seen


def shake(r: Rig, low: float = 1.0, high: float = 1.0) -> None:
    """The next bar reaches this far from its open, as factors."""
    candles = r.world.market.base(SYMBOL)
    at = int(candles.opens_ms.searchsorted(r.clock.now_ms(), side="right")) - 1
    candles.low[at] = min(candles.low[at], round(candles.open[at] * low, 1))
    candles.high[at] = max(candles.high[at], round(candles.open[at] * high, 1))


def against(r: Rig) -> None:
    shake(r, low=0.3) if holding(r).size > 0 else shake(r, high=3.0)


@fault(
    "a protective stop (--stop-loss)",
    "comes with the order, then lies at the average entry; never a position without one",
)
def test_a_position_has_its_stop_from_its_first_fill_on(rig: Make) -> None:
    r = rig(first=False, stop_loss=3.0)
    seen = watch(r)
    r.act()
    assert holding(r).size
    for _ in range(12):
        r.bar()
        if holding(r).size:
            assert holding(r).stop == expected(r)
    held = [(size, stop) for size, stop in seen if size]
    assert held
    assert all(stop for _, stop in held), "a position without a stop"
    entries = [c.body for c in r.world.calls(CREATE) if not c.body["reduceOnly"]]
    assert all(
        body["stopLoss"] and body["slTriggerBy"] == "MarkPrice" and body["tpslMode"] == "Full" for body in entries
    )
    assert r.trader.status == RUNNING
    r.settle()
    r.check()


@fault("a stop removed or moved by hand, or an answer about it lost", "put back at the next look at the account, said")
def test_a_stop_is_put_back(rig: Make) -> None:
    r = rig(stop_loss=3.0)
    r.bar(2)
    for hand in (Decimal(0), holding(r).stop * Decimal("0.9").quantize(Decimal("0.1"))):
        before = holding(r).size
        with r.world.lock:
            r.exchange.set_stop(SYMBOL, 0, hand)
        r.fault("drop", STOP)
        r.bar()
        assert holding(r).stop == expected(r), before
        assert r.trader.status == RUNNING


@pytest.mark.parametrize("away", [False, True])
@fault(
    "the stop is hit, while it runs or while it is away (SIGKILL)",
    "booked as ours, no halt; flat until the target leaves the side",
)
def test_a_stop_that_is_hit(rig: Make, away: bool) -> None:
    r = rig(stop_loss=3.0)
    r.bar(2)
    side = 1 if holding(r).size > 0 else -1
    if away:
        r.crash()
    against(r)
    r.tick()
    if away:
        r.start()
    row = r.act()
    assert any("stop hit" in text for text in r.events("stop_hit"))
    assert r.trader.status == RUNNING
    assert "stop hit" in dict(r.alerts), "a person is told"
    for _ in range(15):
        if float(row["target"]) * side <= 0:
            break
        assert holding(r).size == 0, "no entry on the side it was stopped out on"
        row = r.bar()
    r.bar(10)
    assert any(float(f.qty) for f in r.exchange.fills[-3:]), "trading goes on"
    assert r.trader.status != HALTED
    r.settle()
    r.check()


@fault(
    "the exchange refuses a stop: the price is beyond it already",
    "the position is closed instead, said; an order that rests goes with it",
)
def test_a_stop_beyond_the_price(rig: Make) -> None:
    r = rig(stop_loss=3.0)
    r.bar()
    link = rest_order(r)
    side = 1 if holding(r).size > 0 else -1
    assert side
    r.journal.set(**{f"stop_distance:{SYMBOL}": "-0.5"})  # on the wrong side of the price
    r.trader.stops.hold(SYMBOL, r.trader.books.held(SYMBOL)[1])
    assert holding(r).size == 0
    assert r.journal.intent(link)["status"] == "cancelled"
    assert any("closed instead" in text for _, text in r.alerts)
    r.settle()
    r.check()


def test_the_stop_is_a_conditional_order_that_is_not_foreign_and_goes_with_the_position(rig: Make) -> None:
    r = rig(stop_loss=3.0)
    r.bar()
    shown = r.trader.exchange.open_orders(SYMBOL)
    assert [order.stop_loss for order in shown] == [True]
    r.trader._doubt = "a look"
    r.trader.step()
    assert r.trader.status == RUNNING
    r.trader.kill_file.write_text("stop flatten\n")
    assert r.trader.run() == 0
    assert (holding(r).size, holding(r).stop) == (0, 0)
    assert r.trader.exchange.open_orders(SYMBOL) == []


def test_a_halt_for_what_a_person_traded_leaves_the_turned_position_with_its_stop(rig: Make) -> None:
    """Turning the position takes its stop with it, and halted is no reason to be without one."""
    r = rig(stop_loss=3.0)
    r.bar()
    size = holding(r).size
    assert size
    with r.world.lock:
        r.exchange.by_hand(SYMBOL, "Sell" if size > 0 else "Buy", str(2 * abs(size)))
    assert holding(r).size == -size
    assert not holding(r).stop
    r.bar()
    assert r.trader.status == HALTED
    assert holding(r).stop
    assert (holding(r).stop > holding(r).average) == (size > 0)


def test_without_it_a_persons_stop_is_left_alone_and_foreign(rig: Make) -> None:
    r = rig()
    r.bar()
    h = holding(r)
    with r.world.lock:
        r.exchange.set_stop(SYMBOL, 0, Decimal(round(float(h.average) * (0.5 if h.size > 0 else 1.5))))
    r.trader._doubt = "a look"
    r.trader.step()
    assert holding(r).stop
    assert not r.world.calls(STOP)
    assert (r.trader.status, "not ours" in r.trader.why) == (HALTED, True)


def test_the_backtest_stops_out_at_the_same_bars(rig: Make) -> None:
    r = rig(stop_loss=0.6, bars=980)
    r.bar(160)
    r.settle()
    r.check()
    hits = [e for e in r.journal.executions() if e.link_id == "stop-loss"]
    live = [((e.time_ms - r.first_ms) // HOUR_MS, e.side) for e in hits]
    rows = r.journal.rows("SELECT open_ms, target FROM decisions ORDER BY open_ms")
    first = (rows[0]["open_ms"] - r.first_ms) // HOUR_MS
    targets = np.array([[row["target"]] for row in rows])
    book = backtest(
        r.panel, targets, start=first, stop=first + len(rows), name="x", costs=Costs(5.5, 2.0, 0.0),
        account=Account(100_000.0, stop_loss=0.6),
    )  # fmt: skip
    stops = book.trades[book.trades["kind"] == "stop"]
    opens = r.panel.timestamps.astype("datetime64[ms]").astype(np.int64)
    at = [int((t.value // 1_000_000 - opens[0]) // HOUR_MS) for t in stops["timestamp"]]
    batch = list(zip(at, ["Sell" if size < 0 else "Buy" for size in stops["size"]], strict=True))
    assert len(live) >= 5
    assert batch == live
