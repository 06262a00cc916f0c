"""One test per named fault of requests, orders and fills: what must hold afterwards is always `rig.check()`, and more."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from strategies.exchange import Exchange
from strategies.live import HALTED, RECONCILING, RUNNING
from strategies.risk import Limits
from tests.exchange.rig import SYMBOL, Rig

Make = Callable[..., Rig]
CREATE, POSITIONS, WALLET = "/v5/order/create", "/v5/position/list", "/v5/account/wallet-balance"


def fault(_name: str, _expected: str) -> Callable[[Any], Any]:
    """Marks a row of the table in docs/paper-trading.md (read by tests.exchange.table)."""
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


@fault("retCode 10003 for good (key unknown)", "halted with the reason; nothing is sent")
def test_key_refused(rig: Make) -> None:
    r = rig()
    r.bar()
    r.fault("code_10003", "/v5/*", times=None)
    r.tick()
    r.act(3)
    assert r.trader.status == HALTED
    assert "refuses the keys" in r.trader.why
    assert r.halts == [r.trader.why]


@fault("retCode 10004 for good (signature)", "halted with the reason; nothing is sent")
def test_signature_refused(rig: Make) -> None:
    r = rig()
    r.bar()
    r.fault("code_10004", "/v5/*", times=None)
    r.tick()
    r.act(3)
    assert r.trader.status == HALTED
    assert "10004" in r.trader.why


@fault("retCode 10004 once on a read", "asked again; no halt")
def test_one_bad_signature(rig: Make) -> None:
    r = rig()
    r.fault("code_10004", POSITIONS)
    row = r.bar()
    assert row["acted"]
    assert r.trader.status == RUNNING
    r.settle()
    r.check()


@fault("position query fails", "never treated as flat: nothing is sent until it answers")
def test_position_query_fails(rig: Make) -> None:
    r = rig()
    r.bar()
    sent = len(r.world.calls(CREATE))
    r.fault("http_500", POSITIONS, times=None)
    r.tick()
    r.act(3)
    assert len(r.world.calls(CREATE)) == sent
    assert r.trader.status == RECONCILING
    r.world.faults.clear()
    assert r.act()["acted"]
    r.settle()
    r.check()


@fault("position list without a row", "an error, not a flat position")
def test_position_list_empty(rig: Make) -> None:
    r = rig()
    r.bar()
    sent = len(r.world.calls(CREATE))

    def gone(body: bytes) -> bytes:
        answer = json.loads(body)
        answer["result"]["list"] = []
        return json.dumps(answer).encode()

    r.fault("replace", POSITIONS, times=None, replace=gone)
    r.tick()
    r.act(3)
    assert len(r.world.calls(CREATE)) == sent
    assert r.trader.status == RECONCILING


@fault("wallet query fails", "nothing is sent until equity is known")
def test_wallet_query_fails(rig: Make) -> None:
    r = rig()
    r.bar()
    sent = len(r.world.calls(CREATE))
    r.fault("not_json", WALLET, times=None)
    r.tick()
    r.act(3)
    assert len(r.world.calls(CREATE)) == sent
    r.world.faults.clear()
    assert r.act()["acted"]
    r.settle()
    r.check()


@fault("set-leverage 110043 and switch-mode 110025 (nothing to change)", "success")
def test_nothing_modified(rig: Make) -> None:
    r = rig()  # leverage 10 and one-way are what the account has: both calls were answered with those codes
    assert r.trader.status == RUNNING
    assert len(r.world.calls("/v5/position/set-leverage")) == 1
    assert r.exchange.account.leverage == {}, "the stand-in had nothing to change"


@fault("funding settled while the program was away", "booked once, from the execution list")
def test_funding_missed(rig: Make) -> None:
    r = rig()
    r.bar(2)
    r.tick(17)
    r.bar()
    r.settle()
    paid = [e for e in r.journal.executions() if e.kind == "Funding"]
    assert len(paid) >= 2
    assert r.journal.ledger(SYMBOL).funding == r.exchange.account.funding
    r.check()


@fault("liquidation (execution without orderLinkId)", "fill booked; halted with the reason")
def test_liquidation(rig: Make) -> None:
    r = rig()
    r.bar()
    with r.world.lock:
        r.exchange.close_by_exchange(SYMBOL, 0, "BustTrade")
    r.bar()
    assert r.trader.status == HALTED
    assert "BustTrade" in r.trader.why
    r.trader.books.foreign = "adopt"
    r.settle()
    r.check()


@fault("an order by hand on the same account (default)", "fill booked, flagged as foreign, halted: no new entries")
def test_foreign_fill_halts(rig: Make) -> None:
    r = rig()
    r.bar()
    with r.world.lock:
        r.exchange.by_hand(SYMBOL, "Buy", "0.050")
    sent = len(r.world.calls(CREATE))
    r.bar()
    assert r.trader.status == HALTED
    assert "not ours" in r.trader.why
    r.bar()
    assert len(r.world.calls(CREATE)) == sent


@fault("an order by hand, --foreign adopt", "fill booked and flagged; the next target absorbs it")
def test_foreign_fill_adopted(rig: Make) -> None:
    r = rig(foreign="adopt")
    r.bar()
    with r.world.lock:
        r.exchange.by_hand(SYMBOL, "Buy", "0.050")
    r.bar(2)
    assert r.trader.status == RUNNING
    assert any("not ours" in text for text in r.events("foreign"))
    r.settle()
    r.check()


@fault("an open order that is not ours (default)", "halted until it is gone or a rule was chosen")
def test_foreign_order_halts(rig: Make) -> None:
    r = rig(first=False)
    r.exchange.accept(_limit(r))
    r.act()
    assert r.trader.status == HALTED
    assert "open order that is not ours" in r.trader.why


@fault("an open order that is not ours, --foreign flatten", "cancelled, said in the journal")
def test_foreign_order_cancelled(rig: Make) -> None:
    r = rig(first=False, foreign="flatten")
    ticket = r.exchange.accept(_limit(r))
    r.act()
    assert ticket.status == "Cancelled"
    assert r.trader.status == RUNNING


@fault("a position is there at the first start (default)", "does not start; says what to do (exit 2)")
def test_foreign_position_refused(rig: Make) -> None:
    from data.panel import InputError

    r = rig(first=False)
    r.exchange.by_hand(SYMBOL, "Buy", "0.500")
    with pytest.raises(InputError, match="--foreign adopt"):
        r.trader.step()


@fault("a position is there at the first start, --foreign adopt", "goes on from it; equity agrees")
def test_foreign_position_adopted(rig: Make) -> None:
    r = rig(first=False, foreign="adopt")
    r.exchange.by_hand(SYMBOL, "Buy", "0.500")
    before = {f.exec_id for f in r.exchange.fills}
    r.act()
    r.bar(2)
    r.settle()
    mark = r.exchange.mark(SYMBOL)
    assert r.trader.books.size(SYMBOL) == r.exchange.account.size(SYMBOL)
    assert abs(r.trader.books.equity({SYMBOL: mark}) - r.exchange.account.equity({SYMBOL: mark})) < Decimal("1e-6")
    assert before.isdisjoint(e.exec_id for e in r.journal.executions())


@fault("daily loss beyond the limit", "halted with both figures")
def test_daily_loss(rig: Make) -> None:
    r = rig(limits=Limits(daily_loss=0.05, drawdown=0.9))
    r.bar()
    r.exchange.account.wallet -= 6_000
    r.bar()
    assert r.trader.status == HALTED
    assert "loss of the day" in r.trader.why


@fault("drawdown beyond the limit", "halted with both figures; --resume counts anew")
def test_drawdown(rig: Make) -> None:
    r = rig(limits=Limits(daily_loss=0.99, drawdown=0.2))
    r.bar()
    r.exchange.account.wallet -= 30_000
    r.bar()
    assert r.trader.status == HALTED
    assert "drawdown" in r.trader.why
    r.journal.set(state=RECONCILING, why="")
    r.restart()
    r.trader.risk.restart(r.newest_ms)
    r.bar()
    assert r.trader.status == RUNNING


@fault("orders written too fast", "halted: something loops")
def test_order_rate(rig: Make) -> None:
    r = rig(limits=Limits(drawdown=0.99, daily_loss=0.99, orders_per_24_bars=5))
    r.bar(8)
    assert r.trader.status == HALTED
    assert "reach the limit of 5" in r.trader.why
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
    r.fault("drop", "/v5/order/cancel", times=2)
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


def _limit(r: Rig) -> dict[str, Any]:
    price = str(r.exchange.mark(SYMBOL) - 500)
    return {"category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "qty": "0.010", "price": price,
            "timeInForce": "PostOnly"}  # fmt: skip


def test_pybit_never_repeats_a_post(rig: Make) -> None:
    """Whatever pybit's defaults become: its own retries stay off."""
    session = Exchange(None)._session
    assert session.max_retries == 1
    assert not session.force_retry
    assert not session.retry_codes & {10002, 10006, 10000, 10016}
