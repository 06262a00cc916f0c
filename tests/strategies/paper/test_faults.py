"""One test per named fault of requests, orders and fills: what must hold afterwards is always `rig.check()`, and more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from strategies.paper.orders import placement
from strategies.paper.orders.connection import Unavailable
from strategies.paper.orders.exchange import Exchange, Order
from strategies.paper.orders.risk import Limits
from strategies.paper.trader import RECONCILING, RUNNING
from tests.strategies.paper.rig import SYMBOL, Rig, rest_order

Make = Callable[..., Rig]
CREATE, POSITIONS, WALLET = "/v5/order/create", "/v5/position/list", "/v5/account/wallet-balance"
CANCEL = "/v5/order/cancel"


def fault(_name: str, _expected: str) -> Callable[[Any], Any]:
    """Marks a row of the table in docs/paper-trading.md (read by tests.strategies.paper.table)."""
    return lambda test: test


#: kind of the answer to order/create -> (fault, expected)
ANSWERS = {
    "drop": ("answer to an order lost after it was accepted", "looked up by orderLinkId; one order, not sent again"),
    "hang": ("answer to an order hangs, then the connection breaks", "looked up; one order, not sent again"),
    "half": ("half of the JSON of an answer to an order", "looked up; one order, not sent again"),
    "not_json": ("HTML with HTTP 200 instead of JSON", "looked up; one order, not sent again"),
    "empty": ("empty answer to an order", "looked up; one order, not sent again"),
    "wrong_shape": ("answer of an unknown shape", "looked up; one order, not sent again"),
    "reset": (
        "connection reset before the order was taken",
        "looked up, unknown there, sent again under the same id; one order",
    ),
    "http_403": ("HTTP 403 (IP limit)", "ambiguous: looked up first, then sent again under the same id; one order"),
    "http_429": ("HTTP 429", "ambiguous: looked up first, then sent again under the same id; one order"),
    "http_500": ("HTTP 500", "ambiguous: looked up first, then sent again under the same id; one order"),
    "http_502_html": ("HTTP 502 with HTML", "ambiguous: looked up first, then sent again under the same id; one order"),
    "http_503": ("HTTP 503 (maintenance)", "ambiguous: looked up first, then sent again under the same id; one order"),
    "code_10000": (
        "retCode 10000 (server timeout)",
        "ambiguous: looked up first, then sent again under the same id; one order",
    ),
    "code_10002": ("retCode 10002 (clock)", "looked up first, then sent again under the same id; one order"),
    "code_10006": (
        "retCode 10006 (rate), reset stamp ahead",
        "no retry inside pybit; looked up, sent again; one order",
    ),
    "code_10006_past": (
        "retCode 10006, reset stamp in the past",
        "no ValueError out of pybit; looked up, sent again; one order",
    ),
    "code_10016": (
        "retCode 10016 (server error, maintenance)",
        "looked up first, then sent again under the same id; one order",
    ),
    "code_10018": ("retCode 10018 (IP rate)", "looked up first, then sent again under the same id; one order"),
}
TAKEN = ("drop", "hang", "half", "not_json", "empty", "wrong_shape")  # the exchange has the order


@pytest.mark.parametrize("kind", ANSWERS)
def test_answer_to_an_order(rig: Make, kind: str) -> None:
    r = rig()
    r.bar()
    r.fault(kind, CREATE, seconds=0.05)
    row = r.bar()
    (order,) = r.orders_of(row["open_ms"])
    assert order["status"] == "filled"
    assert order["sends"] == (1 if kind in TAKEN else 2)
    calls = [c.body["orderLinkId"] for c in r.world.calls(CREATE)]
    assert calls.count(order["link_id"]) == order["sends"], "pybit sent it again by itself"
    r.bar()
    r.settle()
    r.check()


@fault("every answer is lost for a while", "nothing else is sent until the order's fate is known; then traded on")
def test_exchange_answers_nothing(rig: Make) -> None:
    r = rig()
    r.bar()
    r.fault("drop", "/v5/order/*", times=None)
    r.tick()
    r.act(3)
    assert r.trader.status == RECONCILING
    assert len(r.orders_of(r.newest_ms)) == 1
    r.world.faults.clear()
    r.bar()
    assert r.trader.status == RUNNING
    r.settle()
    r.check()


@fault(
    "order accepted, answer lost, and REST does not show it yet",
    "sent again under the same id; 110072: the existing order is adopted",
)
def test_late_in_rest(rig: Make) -> None:
    r = rig()
    r.bar()
    r.hide_orders_until_second_send()
    r.fault("drop", CREATE)
    row = r.bar()
    (order,) = r.orders_of(row["open_ms"])
    assert (order["status"], order["sends"]) == ("filled", 2)
    assert any("exists already: adopted" in text for text in r.events("order"))
    r.settle()
    r.check()


@fault(
    "an order called a duplicate that the exchange does not have",
    "looked up for a minute, between bars too; then it counts as lost and trading goes on",
)
def test_a_twin_that_is_not_there(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    r = rig()
    r.bar()
    r.trader.timing = replace(r.trader.timing, look_s=0.0)
    r.fault("code_110072", CREATE)
    row = r.bar()
    assert "has not closed yet" in row["note"]
    r.trader.step()  # a look between bars
    assert (r.trader.status, "exists, says the exchange" in r.trader.why) == (RECONCILING, True)
    monkeypatch.setattr(placement, "SHOWN_MS", 0)
    r.act()
    assert r.orders_of(row["open_ms"])[0]["status"] == "lost"
    assert "filled" in r.bar()["note"]
    assert r.trader.status == RUNNING
    r.settle()
    r.check()


@fault(
    "an order called lost is sent again with another side or a smaller quantity, and the first sending was taken",
    "taken over as it was sent first; what is left is found anew",
)
@pytest.mark.parametrize(("side", "qty"), [("Buy", "0.3"), ("Sell", "0.5")])
def test_an_earlier_sending_is_taken_over_as_it_was(rig: Make, side: str, qty: str) -> None:
    r = rig()
    r.bar()
    desk, first = r.trader.desk, Order("p-again", SYMBOL, "Buy", Decimal("0.5"))
    r.private.lag_s = r.private.match_s = 1e6
    r.fault("drop", CREATE, times=None)
    assert desk.place(first, r.newest_ms, 1.0) == "unknown"
    assert desk.look_up("p-again") == "lost"
    r.world.faults.clear()
    with r.world.lock:
        ticket = r.exchange.by_link["p-again"]
        ticket.visible_at = 0.0
        r.exchange.match(ticket)
    with pytest.raises(Unavailable, match=r"as it was sent before: Buy 0\.5"):
        desk.place(replace(first, side=side, qty=Decimal(qty)), r.newest_ms, 1.0)
    row = r.journal.intent("p-again")
    assert (row["side"], row["qty"], row["status"], row["filled"]) == ("Buy", "0.5", "filled", "0.5")


@fault("the cancelling of a resting order is refused", "asked again, with growing pauses, while it is open")
def test_a_cancel_is_asked_again(rig: Make) -> None:
    r = rig()
    r.bar()
    link = rest_order(r)
    r.fault("code_110043", CANCEL, times=3)  # a code that says there is nothing to change
    state = r.trader.desk.cancel(link)
    assert state is not None
    assert (state.status, len(r.world.calls(CANCEL))) == ("Cancelled", 4)


@fault("retCode 110007 (balance)", "one try per bar, no retry loop; traded on at the next bar")
def test_balance_too_low(rig: Make) -> None:
    r = rig()
    r.bar()
    r.fault("code_110007", CREATE)
    row = r.bar()
    assert len(r.orders_of(row["open_ms"])) == 1
    assert r.orders_of(row["open_ms"])[0]["status"] == "rejected"
    assert r.trader.status == RUNNING
    assert "filled" in r.bar()["note"]
    r.settle()
    r.check()


@fault("retCode 10001 (parameters)", "given up for this bar, said in the journal")
def test_parameters_refused(rig: Make) -> None:
    r = rig()
    r.fault("code_10001", CREATE)
    row = r.bar()
    assert "refused: retCode 10001" in row["note"]
    r.bar()
    r.settle()
    r.check()


@fault("retCode 110017: reduce-only exit, but the position is gone", "asked again what is held; treated as closed")
def test_reduce_only_when_flat(rig: Make) -> None:
    r = rig()
    r.bar()
    held = r.exchange.account.size(SYMBOL)
    real = r.trader.books.agree

    # the position goes between the look and the order: somebody was faster
    def agree(until: int) -> Any:
        out = real(until)
        if r.exchange.account.size(SYMBOL):
            with r.world.lock:
                r.exchange.by_hand(SYMBOL, "Sell" if held > 0 else "Buy", str(abs(held)))
        return out

    r.trader.books.foreign = "adopt"
    r.trader.books.agree = agree  # type: ignore[method-assign]
    r.tick()
    r.trader._fetch()
    r.trader._decide(r.journal.last_decision())
    r.journal._db.execute("UPDATE decisions SET target = 0 WHERE open_ms = ?", (r.newest_ms,))
    row = r.act()
    assert "nothing to reduce, the position is 0" in row["note"]
    r.trader.books.agree = real  # type: ignore[method-assign]
    r.settle()
    r.check()


@fault("quantity below the minimum after rounding (110094, 10001)", "skipped before sending, logged")
def test_too_small(rig: Make) -> None:
    r = rig(private={"wallet": Decimal("4")})
    row = r.bar()
    assert not r.world.calls(CREATE)
    assert row["note"].startswith("skipped") or row["note"] == "already there"
    r.check()


@fault("partial fill, the rest cancelled", "the fills are kept; the next bar goes on from what is held")
def test_partial_fill(rig: Make) -> None:
    r = rig()
    r.exchange.liquidity = Decimal("0.010")
    row = r.bar()
    (order,) = r.orders_of(row["open_ms"])
    assert (order["status"], order["filled"]) == ("cancelled", "0.01")
    r.exchange.liquidity = None
    r.bar()
    r.settle()
    r.check()


@fault("no liquidity at all", "nothing is held, nothing is lost; tried again at the next bar")
def test_empty_book(rig: Make) -> None:
    r = rig()
    before = len(r.exchange.fills)
    r.exchange.liquidity = Decimal(0)
    row = r.bar()
    assert "0 of" in row["note"]
    assert len(r.exchange.fills) == before
    r.exchange.liquidity = None
    r.bar()
    assert len(r.exchange.fills) > before
    r.settle()
    r.check()


@fault("fills come late after the acknowledgement", "waited for; no second order meanwhile")
def test_late_match(rig: Make) -> None:
    r = rig()
    r.private.match_s = 0.1
    row = r.bar()
    assert [o["status"] for o in r.orders_of(row["open_ms"])] == ["filled"]
    r.settle()
    r.check()


@fault("an order does not close in time", "no new order until it has; cancelled at the next bar, its fills kept")
def test_order_stays_open(rig: Make) -> None:
    r = rig()
    r.trader.desk.settle_s = 0.02
    r.private.match_s = 0.15
    row = r.bar()
    assert "has not closed yet" in row["note"]
    r.private.match_s = 0.0
    r.trader.desk.settle_s = 1.0
    r.bar()
    r.settle()
    r.check()


@fault("price far from the close decided on", "order skipped (collar), said in the journal")
def test_collar(rig: Make) -> None:
    r = rig(limits=Limits(drawdown=0.99, daily_loss=0.99, collar_bps=0.0001))
    r.clock.advance(3_000_000)
    r.tick()
    row = r.act()
    assert "beyond the collar" in row["note"]
    r.check()


@fault("limit orders: the price runs away", "re-priced under new ids, the rest by market; fills kept")
def test_limit_orders(rig: Make) -> None:
    r = rig(limit_orders=True)
    row = r.bar()
    kinds = [o["kind"] for o in r.orders_of(row["open_ms"])]
    assert kinds[0] == "Limit"
    assert len({o["link_id"] for o in r.orders_of(row["open_ms"])}) == len(kinds)
    assert "filled" in row["note"]
    r.settle()
    r.check()


@fault("the answer to a cancel is lost", "the order's fate is looked up; fills that were faster are kept")
def test_cancel_lost(rig: Make) -> None:
    r = rig(limit_orders=True)
    r.fault("drop", CANCEL, times=2)
    r.bar()
    r.settle()
    r.check()


@fault("hedge mode: a change of side", "one side closed reduce-only under its index, then the other opened")
def test_hedge(rig: Make) -> None:
    r = rig(hedge=True, private={"hedge": True})
    r.bar(6)
    indices = {o["position_idx"] for o in r.journal.rows("SELECT position_idx FROM intents")}
    assert indices == {1, 2}
    assert r.trader.status == RUNNING
    sizes = [h.size for h in r.exchange.account.holdings.values() if h.size]
    assert len(sizes) == 1, "never both sides at once"
    known = {e.exec_id for e in r.journal.executions()}
    assert known == {f.exec_id for f in r.exchange.fills}


def test_pybit_never_repeats_a_post(rig: Make) -> None:
    """Whatever pybit's defaults become: its own retries stay off."""
    session = Exchange(None)._session
    assert session.max_retries == 1
    assert not session.force_retry
    assert not session.retry_codes & {10002, 10006, 10000, 10016}
