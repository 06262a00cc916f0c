"""The private part of the stand-in: signatures as pybit makes them, messages as the exchange documents them, rules of orders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from data.standin import Clock, StandIn, World
from data.standin.private import Private
from data.standin.rows import fill_row, order_row, stream_order_row
from data.standin.tickets import Ticket
from data.standin.world import Refused
from strategies.paper.orders.connection import KeysRefused, Unavailable
from strategies.paper.orders.connection import Refused as TraderRefused
from strategies.paper.orders.exchange import Exchange, Order
from strategies.paper.orders.keys import Keys

NOW = 1_700_000_000_000


@pytest.fixture
def private() -> Iterator[Private]:
    part = Private("unit-key", "unit-secret")
    with StandIn(World(clock=Clock(NOW, speed=0.0)), [part]):
        yield part


def door(private: Private, keys: Keys | None = None) -> Exchange:
    exchange = Exchange(
        keys or Keys("unit-key", "unit-secret"), endpoint=private.standin.url, retry_wait_s=0.001, tries=2
    )
    return exchange


def body(**more: Any) -> dict[str, Any]:
    return {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.010", **more}


def test_signatures_are_those_pybit_computes(shared: Path) -> None:
    vectors = json.loads((shared / "bybit" / "pybit_signature_vectors.json").read_text())
    part = Private(vectors["api_key"], vectors["secret"])
    head = f"{vectors['timestamp']}{vectors['api_key']}{vectors['recv_window']}"
    assert part._sign(head + vectors["POST"]["body"]) == vectors["POST"]["sign"]
    assert part._sign(head + vectors["GET"]["query"]) == vectors["GET"]["sign"]
    assert part._sign(vectors["WS"]["string"]) == vectors["WS"]["sign"]


def test_a_wrong_key_secret_or_clock_is_refused(private: Private) -> None:
    assert door(private).wallet().equity == 100_000
    for keys, code in ((Keys("other", "unit-secret"), 10003), (Keys("unit-key", "other"), 10004)):
        exchange = Exchange(keys, endpoint=private.standin.url, retry_wait_s=0.001, tries=5)
        with pytest.raises(KeysRefused) as raised:
            exchange.wallet()
        assert raised.value.code == code
    for skew in (-10_000, 10_000):
        private.auth_skew_ms = skew
        with pytest.raises(Unavailable, match="10002"):
            door(private).wallet()


SHAPES = {
    "http/get_executions.json": "execution",
    "http/get_orders_realtime.json": "order",
    "http/get_orders_history.json": "order",
    "http/get_positions.json": "position",
    "http/get_wallet_balance.json": "wallet",
    "ws/account_order.json": "stream order",
    "ws/account_order_filled.json": "stream order",
    "ws/account_execution.json": "stream execution",
    "ws/account_position.json": "stream position",
    "ws/account_wallet.json": "stream wallet",
    "http/get_fee_rate.json": "fees",
    "http/get_account_info.json": "info",
}


def _sent(private: Private) -> dict[str, Any]:
    """One row of every kind, as this stand-in sends it."""
    from data.standin.world import Call

    exchange = private.exchange
    exchange.account.leverage["BTCUSDT"] = Decimal(5)
    ticket = exchange.accept(body(orderLinkId="a-1"))
    exchange.match(ticket)
    sent: dict[str, Any] = {}
    private.standin.world.streams.publish = lambda topic, message, channel="*": sent.__setitem__(
        f"stream {topic}", message
    )  # type: ignore[method-assign]
    for topic, rows in (
        ("order", [ticket]),
        ("execution", exchange.fills[-1:]),
        ("position", ["BTCUSDT"]),
        ("wallet", []),
    ):
        private._publish(topic, rows)
    call = Call("GET", "/", {"category": "linear", "symbol": "BTCUSDT"}, {}, "", {}, NOW)
    return {
        "execution": fill_row(exchange.fills[-1]), "order": order_row(ticket), "position": private.account.position("BTCUSDT", 0),
        "wallet": private.account.wallet(), "fees": private.account.fees(call).result["list"][0], "info": private.account.info(call).result,
        **{name: message["data"][0] for name, message in sent.items()},
        "envelopes": sent,
    }  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_messages_have_every_field_of_the_recorded_ones(shared: Path, private: Private, name: str) -> None:
    theirs = json.loads((shared / "bybit" / name).read_text())
    mine = _sent(private)
    row = theirs.get("result", theirs)
    rows = row.get("list", row.get("data", row))
    theirs_row = rows[0] if isinstance(rows, list) else rows
    ours = mine[SHAPES[name]]
    lacking = set(theirs_row) - set(ours)
    assert not lacking - {"totalPerpUpl"}, f"{name}: the stand-in lacks {sorted(lacking)}"
    for key in set(theirs_row) & set(ours):
        if theirs_row[key] is not None and not isinstance(theirs_row[key], list):
            assert type(ours[key]) is type(theirs_row[key]), f"{name}: {key} is {type(ours[key]).__name__}"
    if "topic" in theirs:
        assert set(theirs) == set(mine["envelopes"][SHAPES[name]])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"qty": "0.0005"}, 10001), ({"qty": "0.0101"}, 10001), ({"qty": 0.01}, 10001), ({"positionIdx": 1}, 10001),
        ({"orderType": "Limit", "price": "20000.05"}, 10001), ({"orderLinkId": "x" * 37}, 10001),
        ({"symbol": "NOPEUSDT"}, 10001), ({"qty": "50.000"}, 110007), ({"reduceOnly": True}, 110017),
        ({"qty": "2000.000"}, 10001),
    ],
)  # fmt: skip
def test_orders_against_the_rules_are_refused(private: Private, change: dict[str, Any], code: int) -> None:
    with pytest.raises(Refused) as refused:
        private.exchange.accept(body(**change))
    assert refused.value.reply.code == code
    assert not private.exchange.tickets


def test_an_id_is_taken_once(private: Private) -> None:
    exchange = door(private)
    order = Order("once", "BTCUSDT", "Buy", Decimal("0.010"))
    exchange.create(order)
    with pytest.raises(TraderRefused) as refused:
        exchange.create(order)
    assert refused.value.code == 110072
    assert len(private.exchange.tickets) == 1


def test_a_fill_moves_wallet_position_and_fee_as_a_linear_contract_does(private: Private) -> None:
    exchange, world = private.exchange, private.standin.world
    world.books.pin("BTCUSDT", [("100.0", "50")], [("100.0", "50")])
    exchange.mark = lambda _symbol, _at=None: Decimal(100)  # type: ignore[method-assign]
    for side, qty, price in (("Buy", "2", "100.0"), ("Sell", "1", "110.0"), ("Sell", "3", "90.0")):
        world.books.pin("BTCUSDT", [(price, "50")], [(price, "50")])
        exchange.mark = lambda _symbol, _at=None, p=price: Decimal(p)  # type: ignore[method-assign]
        exchange.match(exchange.accept(body(side=side, qty=qty)))
    holding = exchange.account.holding("BTCUSDT", 0)
    assert (holding.size, holding.average) == (Decimal(-2), Decimal("90.0"))
    fees = Decimal("0.00055") * (200 + 110 + 270)
    assert exchange.account.wallet == 100_000 + 10 - 10 - fees


def test_funding_is_paid_by_what_is_held_at_the_settlement(private: Private) -> None:
    exchange, clock = private.exchange, private.standin.world.clock
    exchange.advance()
    exchange.match(exchange.accept(body(qty="1.000")))
    wallet = exchange.account.wallet
    clock.advance(8 * 3_600_000)
    exchange.advance()
    rows = [f for f in exchange.fills if f.kind == "Funding"]
    times, rates = private.standin.world.market.settlements("BTCUSDT", NOW, clock.now_ms())
    assert [f.time_ms for f in rows] == times.tolist()
    expected = sum(
        (exchange.mark("BTCUSDT", int(t)) * Decimal(f"{r:.8f}") for t, r in zip(times, rates, strict=True)), Decimal(0)
    )
    assert abs(wallet - exchange.account.wallet - expected) < Decimal("1e-6")
    exchange.advance()
    assert sum(f.kind == "Funding" for f in exchange.fills) == len(rows), "paid once"


def test_a_ruined_account_is_liquidated(private: Private) -> None:
    exchange = private.exchange
    exchange.account.wallet = Decimal(2_000)
    exchange.account.leverage["BTCUSDT"] = Decimal(50)
    exchange.match(exchange.accept(body(qty="2.000")))
    exchange.mark = lambda symbol, at_ms=None: Decimal(15_000)  # type: ignore[method-assign]
    exchange.advance()
    assert exchange.account.size("BTCUSDT") == 0
    assert exchange.fills[-1].kind == "BustTrade"
    assert exchange.fills[-1].ticket.link_id == ""


def test_a_post_only_order_rests_and_makes(private: Private) -> None:
    exchange, world = private.exchange, private.standin.world
    mark = exchange.mark("BTCUSDT")
    low = str(mark - 50)
    ticket: Ticket = exchange.accept(body(orderType="Limit", price=low, timeInForce="PostOnly"))
    exchange.match(ticket)
    assert ticket.status == "New"
    world.books.pin("BTCUSDT", [(low, "1.000")], [(low, "1.000")])
    exchange.advance()
    assert ticket.status == "Filled"
    assert exchange.fills[-1].maker
    late = exchange.accept(body(orderType="Limit", price=str(mark), timeInForce="PostOnly"))
    exchange.match(late)
    assert (late.status, late.reject) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")


def test_hedge_mode_keeps_both_sides_apart(private: Private) -> None:
    private.exchange.account.hedge = True
    private.exchange.match(private.exchange.accept(body(qty="1.000", positionIdx=1)))
    private.exchange.match(private.exchange.accept(body(side="Sell", qty="0.400", positionIdx=2)))
    rows = door(private).positions("BTCUSDT")
    assert [(r.position_idx, r.size) for r in rows] == [(1, Decimal(1)), (2, Decimal("-0.4"))]


def test_row_shapes_are_stable(private: Private) -> None:
    ticket = private.exchange.accept(body(orderLinkId="s"))
    assert set(order_row(ticket)) < set(stream_order_row(ticket))
