"""Clients that nobody here wrote believe the stand-in: ccxt, ccxt.pro and pybit, REST and streams, public and private."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from data.standin import Clock, Market, StandIn, World
from data.standin.private import Private
from data.standin.world import Call, Refused
from tests.data.standin.clients import Suite, exchange, suites, table
from tests.strategies.paper.table import written


@pytest.fixture(scope="module")
def found() -> list[Suite]:
    return suites()


def test_what_ccxt_and_pybit_read_is_what_the_exchange_holds(found: list[Suite]) -> None:
    assert [line for suite in found for line in suite.wrong] == []


def test_the_page_shows_what_was_counted(found: list[Suite]) -> None:
    assert table(found) == written("clients")


def _signed(private: Private, method: str, path: str, raw: str, **headers: str) -> requests.Response:
    stamp = str(private._now_ms())
    head = {
        "X-BAPI-API-KEY": private.key, "X-BAPI-TIMESTAMP": stamp, "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": private._sign(f"{stamp}{private.key}5000{raw}"), **headers,
    }  # fmt: skip
    url = private.standin.url + path
    if method == "GET":
        return requests.get(f"{url}?{raw}" if raw else url, headers=head, timeout=20)
    return requests.post(url, data=raw, headers={**head, "Content-Type": "application/json"}, timeout=20)


def test_no_value_whatever_ends_in_a_crash_or_spoils_what_follows() -> None:
    """Every endpoint x every parameter x values that are none: a retCode each time, and the account as before."""
    values: list[Any] = [
        "abc",
        "",
        "-1",
        "1e5",
        "NaN",
        "9" * 40,
        "NOPEUSDT",
        "\u0000",
        0,
        -1,
        1.5,
        2**70,
        True,
        None,
        [],
        {},
        [1],
        {"a": 1},
    ]
    names = (
        "category", "symbol", "side", "orderType", "qty", "price", "timeInForce", "positionIdx", "orderLinkId", "orderId", "reduceOnly",
        "triggerPrice", "triggerDirection", "stopLoss", "takeProfit", "tpslMode", "buyLeverage", "sellLeverage", "mode", "coin",
        "settleCoin",
        "limit", "cursor", "startTime", "endTime", "start", "end", "interval", "accountType", "setMarginMode", "request", "orderFilter",
        "openOnly", "execType", "marketUnit",
    )  # fmt: skip
    good = {
        "category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "1000", "positionIdx": 0,
        "interval": "60", "accountType": "UNIFIED", "buyLeverage": "3", "sellLeverage": "3", "mode": 0, "setMarginMode": "REGULAR_MARGIN",
        "orderId": "none", "tpslMode": "Full", "request": [{}],
    }  # fmt: skip
    with exchange() as private:
        count = asyncio.run(_fuzzed(private, names, values, good))
        assert count > 20_000
        assert {symbol for symbol, _ in private.exchange.account.holdings} <= {"BTCUSDT"}
        assert _signed(private, "GET", "/v5/account/wallet-balance", "accountType=UNIFIED").json()["retCode"] == 0


async def _fuzzed(private: Private, names: tuple[str, ...], values: list[Any], good: dict[str, Any]) -> int:
    """In a loop, as the server is; past the signature, which is another test's."""
    count = 0
    for (method, path), endpoint in sorted(private.standin.endpoints.items()):
        served = endpoint if path.startswith("/v5/market/") else _behind_the_door(private, method, path)
        for name in names:
            for value in values:
                asked = {**good, name: value}
                query = {k: v if isinstance(v, str) else json.dumps(v) for k, v in asked.items()}
                call = Call(
                    method, path, query if method == "GET" else {}, asked if method == "POST" else {}, "", {}, 0
                )
                reply = _asked(private, served, call)
                assert isinstance(reply, int), (path, name, value, reply)
                count += 1
    return count


def _behind_the_door(private: Private, method: str, path: str) -> Any:
    return lambda _world, call: private.routes[method, path](call)


def _asked(private: Private, endpoint: Any, call: Any) -> Any:
    with private.standin.world.lock:
        try:
            return endpoint(private.standin.world, call).code
        except Refused as refused:
            return refused.reply.code


def test_what_is_no_request_at_all_is_refused_by_http() -> None:
    with exchange() as private:
        url = private.standin.url
        assert requests.get(url + "/v5/position/list?category=linear&symbol=BTCUSDT", timeout=20).status_code == 401
        assert requests.get(url + "/v5/nothing", timeout=20).status_code == 404
        for raw in ("", "[]", "7", "{", '"x"'):
            assert _signed(private, "POST", "/v5/order/create", raw).json()["retCode"] == 10001
        assert (
            _signed(private, "GET", "/v5/account/info", "", **{"X-BAPI-TIMESTAMP": "soon"}).json()["retCode"] == 10001
        )


def test_more_requests_than_the_user_may_send_are_told_so() -> None:
    with exchange() as private:
        private.standin.world.user_limits_s = 3600.0
        left = [_signed(private, "GET", "/v5/account/info", "") for _ in range(51)]
        assert [int(r.headers["X-Bapi-Limit-Status"]) for r in left] == [*range(49, -1, -1), 0]
        assert [r.json()["retCode"] for r in left] == [0] * 50 + [10006]
        assert _signed(private, "GET", "/v5/position/list", "category=linear&symbol=BTCUSDT").json()["retCode"] == 0


def test_a_stop_of_a_part_closes_that_part_and_goes_with_the_position() -> None:
    with exchange() as private:
        held, mark = private.exchange, private.exchange.mark("BTCUSDT")
        with private.standin.world.lock:
            held.by_hand("BTCUSDT", "Buy", "0.3")
        body = {"category": "linear", "symbol": "BTCUSDT", "tpslMode": "Partial", "positionIdx": 0}
        low, high = str(round(mark * Decimal("0.999"), 1)), str(round(mark * Decimal("1.2"), 1))
        for part in ({"stopLoss": low, "slSize": "0.1"}, {"takeProfit": high, "tpSize": "0.1"}):
            assert (
                _signed(private, "POST", "/v5/position/trading-stop", json.dumps({**body, **part})).json()["retCode"]
                == 0
            )
        with private.standin.world.lock:
            held.mark = lambda _symbol, _at=None: Decimal(low) - 5  # type: ignore[method-assign]
            held.advance()
            assert held.account.size("BTCUSDT") == Decimal("0.2")
            assert [t.created_by for t in held.alive.values()] == ["CreateByPartialTakeProfit"]
            held.by_hand("BTCUSDT", "Sell", "0.2")
            assert not held.alive


#: example of the exchange's documents -> request that must give every field of it, in the same types
EXAMPLES = {
    "account_account-info.0": ("GET", "/v5/account/info", ""),
    "account_transaction-log.0": ("GET", "/v5/account/transaction-log", "accountType=UNIFIED"),
    "account_wallet-balance.0": ("GET", "/v5/account/wallet-balance", "accountType=UNIFIED"),
    "account_fee-rate.0": ("GET", "/v5/account/fee-rate", "category=linear&symbol=BTCUSDT"),
    "market_instrument.0.linear": ("GET", "/v5/market/instruments-info", "category=linear&symbol=BTCUSDT"),
    "market_instrument.2.spot": ("GET", "/v5/market/instruments-info", "category=spot&symbol=BTCUSDT"),
    "market_open-interest.0": ("GET", "/v5/market/open-interest", "category=linear&symbol=BTCUSDT&intervalTime=1h"),
    "market_recent-trade.0": ("GET", "/v5/market/recent-trade", "category=linear&symbol=BTCUSDT"),
    "market_history-fund-rate.0": ("GET", "/v5/market/funding/history", "category=linear&symbol=BTCUSDT"),
    "market_orderbook.0": ("GET", "/v5/market/orderbook", "category=linear&symbol=BTCUSDT"),
    "market_tickers.2.spot": ("GET", "/v5/market/tickers", "category=spot&symbol=BTCUSDT"),
    "order_execution.0": ("GET", "/v5/execution/list", "category=linear&symbol=BTCUSDT"),
    "order_open-order.0": ("GET", "/v5/order/realtime", "category=linear&symbol=BTCUSDT"),
    "order_order-list.0": ("GET", "/v5/order/history", "category=linear&symbol=BTCUSDT"),
    "position_position.0": ("GET", "/v5/position/list", "category=linear&symbol=BTCUSDT"),
    "position_close-pnl.0": ("GET", "/v5/position/closed-pnl", "category=linear&symbol=BTCUSDT"),
    "user_apikey-info.0": ("GET", "/v5/user/query-api", ""),
}
#: fields of an example that the exchange gives only to some (and that nobody reads here)
RARE = {"FiatGlobalPay", "usdIndexPrice", "slippageToleranceType", "slippageTolerance", "extraFees", "underlyingPrice", "userIDInt64",
        "inviterIDInt64", "affiliateIDInt64", "MNT", "singleOpenInterest", "rpiTakerAccess", "rpiMatchedQty"}  # fmt: skip


@pytest.mark.shared
@pytest.mark.parametrize("name", EXAMPLES)
def test_answers_have_the_fields_of_the_exchanges_own_examples(shared: Path, name: str) -> None:
    theirs = json.loads((shared / "bybit" / "official_examples" / f"{name}.json").read_text())["result"]
    with exchange() as private:
        held = private.exchange
        with private.standin.world.lock:
            held.by_hand("BTCUSDT", "Buy", "0.2")
            held.by_hand("BTCUSDT", "Sell", "0.1")
            order = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01"}
            held.accept(
                {
                    **order,
                    "price": str(round(private.standin.world.market.price("BTCUSDT", 1_700_000_000_000) * 0.99, 1)),
                }
            )
        method, path, raw = EXAMPLES[name]
        ours = _signed(private, method, path, raw).json()["result"]
    lacking = _lacking(theirs, ours)
    assert not lacking, lacking


def _lacking(theirs: Any, ours: Any, at: str = "") -> list[str]:
    if isinstance(theirs, dict):
        out = []
        for key, value in theirs.items():
            if key not in RARE:
                out += _lacking(value, ours[key], f"{at}.{key}") if key in ours else [f"{at}.{key}"]
        return out
    if isinstance(theirs, list):
        return _lacking(theirs[0], ours[0], f"{at}[]") if theirs and ours and isinstance(theirs[0], dict) else []
    same = theirs is None or ours is None or type(theirs) is type(ours)
    return [] if same else [f"{at} is {type(ours).__name__}, theirs {type(theirs).__name__}"]


def test_a_symbol_of_any_price_trades(exchange_of_shib: StandIn) -> None:
    private = exchange_of_shib
    with private.standin.world.lock:
        ticket = private.exchange.by_hand("SHIBUSDT", "Buy", "1000000")
    assert ticket.status == "Filled"
    assert 8e-6 < float(ticket.average) < 9.5e-6


@pytest.fixture
def exchange_of_shib() -> Any:
    times = np.arange(48, dtype=np.int64) * 3_600_000 + 1_700_006_400_000
    prices = 8.7e-6 * np.exp(np.random.default_rng(0).normal(0, 0.005, 48).cumsum())
    values = np.stack([prices, prices * 1.001, prices * 0.999, prices, np.full(48, 1e9)], 1)
    market = Market.replay({"SHIBUSDT": (times, values)}, 3_600_000)
    private = Private()
    with StandIn(World(market, Clock(int(times[-1]) - 1, speed=0.0)), [private]):
        yield private
