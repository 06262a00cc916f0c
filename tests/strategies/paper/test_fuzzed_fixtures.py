"""More than 500 malformed messages made from the exchange's recorded ones: each is refused or asked again, none is a wrong row.

Every message is spoiled so that its meaning changes visibly (a word for a number, another type, a lost key, half a body): what
a reader still makes of it must be what the good message said, or less of it (a row that is gone).
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.book_messages import BadMessage, read_book, read_frame
from data.bybit import Bybit
from data.panel import InputError
from data.series import SeriesKey
from data.standin import Clock, Fault, StandIn, World
from data.standin.private import Private
from strategies.paper.orders.connection import Ambiguous, ExchangeError
from strategies.paper.orders.exchange import Exchange, Order
from strategies.paper.orders.keys import Keys
from tests.data.moment import EAGER

pytestmark = pytest.mark.shared

Reader = Callable[[StandIn], Any]
KEYS = Keys("unit-key", "unit-secret")
WORDS = ("", " ", "nan", "inf", "-inf", "null", "1_000", "0x10", "1,5", "--1", "٣", "1.2.3", "true", "12 ", "soon")
LONG = (1, 4_000_000_000_000)


def _client(exchange: StandIn) -> Bybit:
    return Bybit(exchange.url, EAGER)


def _trader(exchange: StandIn) -> Exchange:
    return Exchange(KEYS, endpoint=exchange.url, retry_wait_s=0.0, tries=4)


def _rows(exchange: StandIn, key: SeriesKey) -> list[Any]:
    found = _client(exchange).page(key, *LONG)
    return list(zip(found.times.tolist(), found.values.tolist(), strict=True))


#: fixture -> (path, what a caller gets of it: rows, or one value in a list)
HTTP: dict[str, tuple[str, Reader]] = {
    "get_klines_linear": ("/v5/market/kline", lambda x: _rows(x, SeriesKey("linear", "BTCUSDT", "klines", "1"))),
    "get_funding_history": (
        "/v5/market/funding/history", lambda x: _rows(x, SeriesKey("linear", "BTCUSDT", "funding", "settlements")),
    ),
    "get_instruments_linear": (
        "/v5/market/instruments-info",
        lambda x: [_client(x).instrument("linear", "BTCUSDT"), _trader(x).instrument("BTCUSDT")],
    ),
    "get_positions": ("/v5/position/list", lambda x: _trader(x).positions("BTCUSDT")),
    "get_wallet_balance": ("/v5/account/wallet-balance", lambda x: [_trader(x).wallet()]),
    "get_executions": ("/v5/execution/list", lambda x: [replace(e, seq=0) for e in _trader(x).executions("BTCUSDT", 1)]),
    "get_orders_realtime": ("/v5/order/realtime", lambda x: _orders(x, "ETHUSDT")),
    "get_order_partially_filled_rejected": ("/v5/order/history", lambda x: _order(x, "O-20251001-164609-APEX-000-49")),
    "get_orders_history": ("/v5/order/history", lambda x: _order(x, "client-1")),
}  # fmt: skip


def _orders(exchange: StandIn, symbol: str) -> list[Any]:
    return [replace(order, reason="") for order in _trader(exchange).open_orders(symbol)]


def _order(exchange: StandIn, link: str) -> list[Any]:
    found = _trader(exchange).order("BTCUSDT", link)
    return [] if found is None else [replace(found, reason="")]


def _whole(shared: Path, name: str) -> dict[str, Any]:
    """The fixture, about one symbol (an answer to a question about one symbol), with candles that stand on the grid."""
    answer: dict[str, Any] = json.loads((shared / "bybit" / "http" / f"{name}.json").read_text())
    rows = answer["result"]["list"]
    if name == "get_klines_linear":
        rows[0][0] = "1709891640000"
    elif isinstance(rows[0], dict) and "symbol" in rows[0]:
        answer["result"]["list"] = [row for row in rows if row["symbol"] == rows[0]["symbol"]]
    return answer


# --- ways to spoil a message of any shape

Place = tuple[Any, Any]  # a container and a key or index into it


def _places(node: Any) -> Iterator[Place]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from _places(value)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and float(value) is not None
    except (TypeError, ValueError):
        return False


#: numbers that may well be negative
SIGNED = ("fundingRate", "equity", "walletBalance", "totalAvailableBalance", "execFee")
#: texts with a closed set of meanings
NAMED = ("side", "orderStatus", "execType", "status", "type")


def _spoil(dice: random.Random, message: Any, parts: Any, bare: float | None = 1.5) -> bytes:
    """`message` with one spoiled place inside `parts` (which is within it). bare: a number that is no text."""
    places = list(_places(parts))
    way = dice.choice(["word", "word", "type", "type", "lost", "negative", "cut", "garbled", "nothing", "html"])
    body = json.dumps(message).encode()
    if way == "nothing":
        return b""
    if way == "html":
        return b"<html><body>upstream went away</body></html>"
    if way == "cut":
        return body[: dice.randrange(1, len(body) - 1)]
    if way == "garbled":
        at = dice.randrange(len(body))
        return body[:at] + bytes(dice.randrange(128, 256) for _ in range(3)) + body[at + 1 :]
    if way == "word":
        places = [(c, k) for c, k in places if _is_number(c[k]) or k in NAMED]
        holder, key = dice.choice(places)
        # a side that is said to be empty is that of a flat position
        holder[key] = dice.choice([w for w in WORDS if w or _is_number(holder[key])])
    elif way == "negative":
        positive = [(c, k) for c, k in places if _is_number(c[k]) and float(c[k]) > 0 and k not in SIGNED]
        holder, key = dice.choice(positive)
        holder[key] = "-" + str(holder[key])
    elif way == "lost":
        holder, key = dice.choice(places)
        del holder[key]
    else:
        holder, key = dice.choice(places)
        was = holder[key]
        holder[key] = dice.choice([o for o in (None, {}, True, bare, [was], "x") if type(o) is not type(was)])
    return json.dumps(message).encode()


@pytest.fixture
def bybit() -> Iterator[StandIn]:
    with StandIn(World(clock=Clock(1_709_891_700_000, speed=0.0)), [Private(KEYS.key, KEYS.secret)]) as running:
        yield running


@pytest.mark.parametrize("name", HTTP)
def test_a_malformed_answer_is_asked_again_or_one_clear_error(bybit: StandIn, shared: Path, name: str) -> None:
    """Each spoiled answer comes once, then the good one: the caller gets the good one's rows, or fewer, or a clear error."""
    path, read = HTTP[name]
    good = _whole(shared, name)
    faults = bybit.world.faults
    if path == "/v5/order/history":
        faults.add(Fault("replace", "/v5/order/realtime", replace=lambda _: json.dumps(_EMPTY).encode()))
    plain = faults.add(Fault("replace", path, replace=lambda _: json.dumps(good).encode()))
    truth = read(bybit)
    assert truth
    faults._faults.remove(plain)
    dice = random.Random(name)
    outcomes = {"same": 0, "fewer": 0, "error": 0}
    refused, lines = 0, list[str]()
    for _ in range(60):
        message = copy.deepcopy(good)
        body = _spoil(dice, message, message["result"])
        spoiled = Fault("replace", path, times=1, replace=lambda _, sent=body: sent)  # type: ignore[misc]
        faults._faults = [f for f in faults._faults if f.path != path]
        faults.add(spoiled)
        faults.add(plain)
        before = len(bybit.world.calls(path))
        try:
            told = read(bybit)
        except (InputError, ExchangeError) as error:
            lines.append(str(error))
            outcomes["error"] += 1
            continue
        refused += len(bybit.world.calls(path)) - before > len(truth if name == "get_instruments_linear" else [0])
        assert all(row in truth for row in told), ([row for row in told if row not in truth], body)
        outcomes["same" if told == truth else "fewer"] += 1
    assert outcomes["same"] > 35, outcomes
    assert refused > 15, (refused, outcomes)
    assert not any("\n" in line for line in lines)


_EMPTY = {"retCode": 0, "retMsg": "OK", "result": {"list": [], "nextPageCursor": ""}, "retExtInfo": {}, "time": 1}


@pytest.mark.parametrize("name", ["orderbook_snapshot", "orderbook_delta"])
def test_a_malformed_book_message_is_refused(shared: Path, name: str) -> None:
    good = json.loads((shared / "bybit" / "ws" / f"{name}.json").read_text())
    truth = read_book(read_frame(json.dumps(good)))
    dice = random.Random(name)
    refused = 0
    for _ in range(60):
        message = copy.deepcopy(good)
        body = _spoil(dice, message, message, bare=None)  # a book's number may stand without quotes
        try:
            frame = read_frame(body)
            if not frame.topic.startswith("orderbook."):
                refused += 1  # the recorder reads no other topic
                continue
            told = read_book(frame)
        except BadMessage:
            refused += 1
            continue
        assert (told.kind, told.ts, told.u) == (truth.kind, truth.ts, truth.u), body
        for side in ("bids", "asks"):
            levels = getattr(truth, side).tolist()
            assert all(level in levels for level in getattr(told, side).tolist()), body
    assert refused > 30


def test_a_message_as_it_is_changes_the_book(shared: Path) -> None:
    good = (shared / "bybit" / "ws" / "orderbook_snapshot.json").read_bytes()
    assert np.isfinite(read_book(read_frame(good)).bids).all()


def test_a_malformed_acknowledgement_is_never_an_id(bybit: StandIn) -> None:
    for k, told in enumerate([None, [], {}, 5, True, ""]):
        body = json.dumps({**_EMPTY, "result": {"orderId": told}}).encode()
        bybit.world.faults.add(Fault("replace", "/v5/order/create", times=1, replace=lambda _, sent=body: sent))  # type: ignore[misc]
        with pytest.raises(Ambiguous):
            _trader(bybit).create(Order(f"a-{k}", "BTCUSDT", "Buy", Decimal("0.010")))
