"""Faults of keys, reads and the account: refused keys, positions and wallets that do not answer, what is not ours, limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from strategies.paper.orders.risk import Limits
from strategies.paper.trader import HALTED, RECONCILING, RUNNING
from tests.strategies.paper.rig import SYMBOL, Rig
from tests.strategies.paper.test_faults import CREATE, POSITIONS, WALLET, fault

Make = Callable[..., Rig]


@fault("retCode 10003 for good (key unknown)", "halted with the reason; nothing is sent")
def test_key_refused(rig: Make) -> None:
    r = rig()
    r.bar()
    r.fault("code_10003", "/v5/*", times=None)
    r.tick()
    r.act(3)
    assert r.trader.status == HALTED
    assert "refuses the keys" in r.trader.why
    (told,) = r.halts
    assert told.startswith(r.trader.why)
    assert "NOT clean" in told, "with these keys nothing could be cancelled: that is said too"


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


def _limit(r: Rig) -> dict[str, Any]:
    price = str(r.exchange.mark(SYMBOL) - 500)
    return {"category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "qty": "0.010", "price": price,
            "timeInForce": "PostOnly"}  # fmt: skip
