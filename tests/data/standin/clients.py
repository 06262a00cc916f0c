"""ccxt, ccxt.pro and pybit against the stand-in: what each of their calls gives is compared with what the exchange holds.

`table()` is in docs/paper-trading.md (`python -m tests.strategies.paper.table --write`).
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import numpy as np

from data.standin import Clock, Market, StandIn, World
from data.standin.private import Private

NOW = 1_700_000_000_000
HOUR = 3_600_000
PERPETUAL, SPOT, ID = "BTC/USDT:USDT", "BTC/USDT", "BTCUSDT"


@functools.cache
def _market() -> Market:
    market = Market(first_ms=NOW - 3000 * HOUR, last_ms=NOW + 100 * HOUR)
    for symbol in market.instruments:
        market.base(symbol)
    return market


class Suite:
    """Counts calls and comparisons of one client by area; `wrong` says what differs."""

    def __init__(self, client: str, private: Private) -> None:
        self.client, self.private, self.world = client, private, private.standin.world
        self.exchange, self.market = private.exchange, private.standin.world.market
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.wrong: list[str] = []
        self.area = ""

    @contextmanager
    def of(self, area: str) -> Iterator[None]:
        """What is asked and compared in the block belongs to an area."""
        before, self.area = len(self.world.journal), area
        yield
        self.counts[area][0] += len(self.world.journal) - before

    def same(self, what: str, found: Any, expected: Any) -> None:
        self.counts[self.area][1] += 1
        if isinstance(expected, float) and found is not None:
            equal = abs(float(found) - expected) <= 1e-9 * max(1.0, abs(expected))
        else:
            equal = found == expected
        if not equal:
            self.counts[self.area][2] += 1
            self.wrong.append(f"{self.client}, {self.area}: {what} is {found!r}, the exchange holds {expected!r}")

    def refused(self, what: str, kind: Any, code: int, call: Callable[[], Any]) -> None:
        """The client must say no in its own words: its exception, with the exchange's code."""
        try:
            said = f"nothing: {call()!r}"
        except kind as error:
            said = str(error)
        self.same(what, str(code) in said, True)

    def settle(self) -> None:
        """Orders are matched after their acknowledgement, in the server's loop."""
        deadline = time.monotonic() + 20
        while any(t.status == "New" and t.time_in_force == "IOC" for t in list(self.exchange.alive.values())):
            if time.monotonic() > deadline:
                raise TimeoutError("an order was never matched")
            time.sleep(0.002)

    def price(self) -> float:
        return self.market.price(ID, self.world.clock.now_ms())

    def near(self, ratio: float) -> float:
        return round(self.price() * ratio, 1)


@contextmanager
def exchange(speed: float = 0.0) -> Iterator[Private]:
    """A stand-in with an account that stands still at NOW (or runs)."""
    private = Private()
    with StandIn(World(_market(), Clock(NOW, speed=speed)), [private], tick_s=0.05):
        yield private


def ccxt_client(private: Private, module: Any) -> Any:
    url = private.standin.url
    client = module.bybit({
        "apiKey": private.key, "secret": "local-secret", "enableRateLimit": False,
        "options": {"fetchMarkets": {"types": ["spot", "linear"]}},
    })  # fmt: skip
    sockets = url.replace("http", "ws", 1) + "/v5/"
    private_url = {
        "spot": {"unified": f"{sockets}private"},
        "contract": f"{sockets}private",
        "trade": f"{sockets}trade",
    }
    streams = {
        "public": {name: f"{sockets}public/{name}" for name in ("spot", "linear", "inverse")},
        "private": private_url,
    }
    client.urls["api"] = {name: url for name in client.urls["api"] if name != "ws"} | {"ws": streams}
    return client


def ccxt_suite(private: Private) -> Suite:
    """REST through ccxt's unified methods."""
    import ccxt

    s, b = Suite("ccxt", private), ccxt_client(private, ccxt)
    with s.of("markets, prices"):
        _ccxt_markets(s, b)
    with s.of("klines"):
        _ccxt_klines(s, b)
    with s.of("funding, open interest, ratio"):
        _ccxt_statistics(s, b)
    with s.of("account"):
        _ccxt_account(s, b)
    with s.of("orders"):
        _ccxt_orders(s, b, ccxt)
    with s.of("conditional orders, batches"):
        _ccxt_conditional(s, b)
    with s.of("positions, profit, log"):
        _ccxt_positions(s, b)
    with s.of("spot"):
        _ccxt_spot(s, b, ccxt)
    with s.of("refusals"):
        _ccxt_refusals(s, b, ccxt)
    return s


def _ccxt_markets(s: Suite, b: Any) -> None:
    markets = b.load_markets()
    s.same("markets", sorted(m["id"] for m in markets.values()), sorted([*s.market.instruments] * 2))
    for i in s.market.instruments.values():
        for symbol in (f"{i.base_coin}/USDT:USDT", f"{i.base_coin}/USDT"):
            m = markets[symbol]
            s.same(f"{symbol} tick", m["precision"]["price"], float(i.tick_size))
            s.same(f"{symbol} step", m["precision"]["amount"], float(i.qty_step))
            s.same(f"{symbol} smallest", m["limits"]["amount"]["min"], float(i.min_order_qty))
            s.same(f"{symbol} active", m["active"], True)
    s.same("leverage", markets[PERPETUAL]["limits"]["leverage"]["max"], 100.0)
    s.same("time", b.fetch_time(), NOW)
    s.same("coins", sorted(b.fetch_currencies()), ["BNB", "BTC", "ETH", "SOL", "USDT"])
    bids, asks = s.world.books.levels(ID, 50)
    for symbol in (PERPETUAL, SPOT):
        ticker, book = b.fetch_ticker(symbol), b.fetch_order_book(symbol, 50)
        s.same("last", ticker["last"], s.price())
        s.same("bid, ask", (ticker["bid"], ticker["ask"]), (float(bids[0][0]), float(asks[0][0])))
        s.same("bids", book["bids"], [[float(p), float(q)] for p, q in bids])
        s.same("asks", book["asks"], [[float(p), float(q)] for p, q in asks])
        trades = b.fetch_trades(symbol, None, 20)
        s.same("trades", [t["timestamp"] for t in trades], [NOW // 1000 * 1000 - k * 1000 for k in range(19, -1, -1)])
    s.same("all tickers", sorted(b.fetch_tickers(None, {"category": "linear"})), sorted(m for m in markets if ":" in m))


def _ccxt_klines(s: Suite, b: Any) -> None:
    for symbol in (PERPETUAL, SPOT):
        for frame, interval in (("1m", "1"), ("1h", "60"), ("1d", "D"), ("1w", "W")):
            found = b.fetch_ohlcv(symbol, frame, None, 50)
            k = s.market.klines(ID, interval, 0, NOW, NOW, 50)
            prices = np.round(
                np.stack([k.open, k.high, k.low, k.close], 1), 1
            )  # on the wire a forming bar too is in ticks
            truth = np.column_stack([prices, np.round(k.volume, 3)]).tolist()
            s.same(f"{symbol} {frame} times", [row[0] for row in found], k.opens_ms.tolist())
            s.same(f"{symbol} {frame} values", [row[1:] for row in found], truth)
    newest, clock = NOW // HOUR * HOUR, b.milliseconds
    b.milliseconds = lambda: NOW  # its pages end at its own clock
    # two pages: its third begins 2 ms before a bar, the exchange answers with the bar that holds them, ccxt cuts that off and lacks one
    found = b.fetch_ohlcv(PERPETUAL, "1h", newest - 1899 * HOUR, 1900, {"paginate": True})
    b.milliseconds = clock
    s.same("1,900 bars by pages", [row[0] for row in found], [newest - k * HOUR for k in range(1899, -1, -1)])
    bars = s.market.klines(ID, "60", 0, NOW, NOW, 200)
    premium = s.market.premium(ID, bars.opens_ms)
    for name, truth in (
        ("mark", bars.close * (1 + premium / 4)),
        ("index", bars.close / (1 + premium)),
        ("premium_index", premium),
    ):
        digits = 6 if name == "premium_index" else 2
        found = getattr(b, f"fetch_{name}_ohlcv")(PERPETUAL, "1h", None, 200)
        s.same(name, [round(row[4], digits) for row in found], [float(f"{x:.{digits}f}") for x in truth])


def _ccxt_statistics(s: Suite, b: Any) -> None:
    since = NOW - 30 * 24 * HOUR
    times, rates = s.market.settlements(ID, since, NOW)
    found = b.fetch_funding_rate_history(PERPETUAL, since)
    s.same(
        "settlements",
        [(r["timestamp"], r["fundingRate"]) for r in found],
        list(zip(times.tolist(), rates.tolist(), strict=True)),
    )
    coming, next_rates = s.market.settlements(ID, NOW, NOW + 24 * HOUR)
    now = b.fetch_funding_rate(PERPETUAL)
    s.same("next funding", (now["fundingTimestamp"], now["fundingRate"]), (int(coming[0]), float(next_rates[0])))
    s.same("all rates", len(b.fetch_funding_rates()), len(s.market.instruments))
    stamps = np.arange(NOW // HOUR * HOUR, NOW // HOUR * HOUR - 50 * HOUR, -HOUR, dtype=np.int64)[::-1]
    found = b.fetch_open_interest_history(PERPETUAL, "1h", None, 50)
    s.same("open interest", [r["openInterestAmount"] for r in found], s.market.open_interest(ID, stamps).tolist())
    found = b.fetch_long_short_ratio_history(PERPETUAL, "1h", None, 50)
    long = s.market.long_ratio(ID, stamps)
    s.same(
        "ratio",
        [round(r["longShortRatio"], 3) for r in found],
        np.round(np.round(long, 4) / np.round(1 - long, 4), 3).tolist(),
    )
    tiers = b.fetch_market_leverage_tiers(PERPETUAL)
    s.same("tiers", [t["maxNotional"] for t in tiers], [2e6, 4e6, 6e6, 8e6, 1e7])


def _ccxt_account(s: Suite, b: Any) -> None:
    account = s.exchange.account
    s.same("unified", b.is_unified_enabled(), [False, True])
    s.same("balance", b.fetch_balance()["USDT"]["total"], float(account.wallet))
    for symbol, fees in ((PERPETUAL, (0.0002, 0.00055)), (SPOT, (0.001, 0.001))):
        fee = b.fetch_trading_fee(symbol)
        s.same(f"{symbol} fees", (fee["maker"], fee["taker"]), fees)
    b.set_leverage(5, PERPETUAL)
    s.same("leverage set", account.leverage[ID], Decimal(5))
    s.same("leverage read", b.fetch_leverage(PERPETUAL)["longLeverage"], 5.0)
    for hedged in (True, False):
        b.set_position_mode(hedged, PERPETUAL)
        s.same("mode", account.indices(ID), (1, 2) if hedged else (0,))
    for mode, name in (("isolated", "ISOLATED_MARGIN"), ("cross", "REGULAR_MARGIN")):
        b.set_margin_mode(mode)
        s.same("margin mode", s.private.info["marginMode"], name)
        s.same("margin mode read", b.fetch_margin_mode(PERPETUAL)["marginMode"], mode)


def _ccxt_orders(s: Suite, b: Any, ccxt: Any) -> None:
    made = b.create_order(PERPETUAL, "market", "buy", 0.1)
    s.settle()
    ticket = s.exchange.tickets[made["id"]]
    found = b.fetch_order(made["id"], PERPETUAL, {"acknowledged": True})
    s.same("filled", (found["filled"], found["status"]), (float(ticket.filled), "closed"))
    s.same("average", found["average"], float(ticket.average))
    s.same("cost, fee", (found["cost"], found["fee"]["cost"]), (float(ticket.value), float(ticket.fee)))
    trades, fills = b.fetch_my_trades(PERPETUAL), [f for f in s.exchange.fills if f.ticket is ticket]
    s.same("trades", [t["id"] for t in trades], [f.exec_id for f in fills])
    s.same("trades' prices", [t["price"] for t in trades], [float(f.price) for f in fills])
    s.same("trades of the order", len(b.fetch_order_trades(made["id"], PERPETUAL)), len(fills))
    price = s.near(0.98)
    resting = b.create_order(PERPETUAL, "limit", "buy", 0.01, price, {"postOnly": True, "clientOrderId": "by-ccxt-1"})
    s.settle()
    (found,) = b.fetch_open_orders(PERPETUAL)
    s.same("open order", (found["id"], found["clientOrderId"], found["price"]), (resting["id"], "by-ccxt-1", price))
    s.same("post only", (found["postOnly"], found["status"]), (True, "open"))
    s.same("by id", b.fetch_open_order(resting["id"], PERPETUAL)["id"], resting["id"])
    b.edit_order(resting["id"], PERPETUAL, "limit", "buy", 0.02, s.near(0.97))
    ticket = s.exchange.tickets[resting["id"]]
    s.same("amended", (ticket.qty, ticket.price), (Decimal("0.02"), Decimal(str(s.near(0.97)))))
    b.cancel_order(resting["id"], PERPETUAL)
    s.same("cancelled", ticket.status, "Cancelled")
    s.same("cancelled orders", [o["id"] for o in b.fetch_canceled_orders(PERPETUAL)], [resting["id"]])
    s.same("closed orders", [o["id"] for o in b.fetch_closed_orders(PERPETUAL)], [made["id"]])
    s.refused("cancelled twice", ccxt.OrderNotFound, 110001, lambda: b.cancel_order(resting["id"], PERPETUAL))
    s.same("nothing left open", b.fetch_open_orders(PERPETUAL), [])


def _ccxt_conditional(s: Suite, b: Any) -> None:
    fall = b.create_order(
        PERPETUAL, "market", "sell", 0.05, None, {"triggerPrice": s.near(0.95), "triggerDirection": "descending"}
    )
    loss = b.create_order(PERPETUAL, "market", "sell", 0.05, None, {"stopLossPrice": s.near(0.94)})
    gain = b.create_order(PERPETUAL, "market", "sell", 0.05, None, {"takeProfitPrice": s.near(1.05)})
    for made, price, rises in ((fall, 0.95, False), (loss, 0.94, False), (gain, 1.05, True)):
        ticket = s.exchange.tickets[made["id"]]
        s.same(
            "waits", (ticket.status, ticket.rises, ticket.trigger), ("Untriggered", rises, Decimal(str(s.near(price))))
        )
    found = {o["id"]: o for o in b.fetch_open_orders(PERPETUAL)}
    s.same("conditional orders", sorted(found), sorted(x["id"] for x in (fall, loss, gain)))
    s.same("trigger price", found[fall["id"]]["triggerPrice"], s.near(0.95))
    s.same("reduce only", (found[loss["id"]]["reduceOnly"], found[fall["id"]]["reduceOnly"]), (True, False))
    made = b.create_orders([
        {"symbol": PERPETUAL, "type": "limit", "side": "buy", "amount": 0.01, "price": s.near(0.98)},
        {"symbol": PERPETUAL, "type": "limit", "side": "buy", "amount": 0.01, "price": s.near(0.97)},
    ])  # fmt: skip
    s.same("batch", [s.exchange.tickets[o["id"]].price for o in made], [Decimal(str(s.near(x))) for x in (0.98, 0.97)])
    b.cancel_orders([o["id"] for o in made], PERPETUAL)
    s.same("batch cancelled", [s.exchange.tickets[o["id"]].status for o in made], ["Cancelled"] * 2)
    held = {"stopLoss": {"triggerPrice": s.near(0.9)}, "takeProfit": {"triggerPrice": s.near(1.1)}}
    b.create_order(PERPETUAL, "market", "buy", 0.01, None, held)
    s.settle()
    h = s.exchange.account.holding(ID, 0)
    s.same("stop and target of the position", (h.stop, h.take), (Decimal(str(s.near(0.9))), Decimal(str(s.near(1.1)))))
    s.same("they are listed", len(b.fetch_open_orders(PERPETUAL)), 5)
    part = {"stopLossPrice": s.near(0.92), "tradingStopEndpoint": True, "positionIdx": 0}
    b.create_order(PERPETUAL, "market", "sell", 0.05, None, part)
    tickets = [t for t in s.exchange.alive.values() if t.created_by == "CreateByPartialStopLoss"]
    s.same(
        "stop of a part",
        [(t.trigger, t.qty, t.reduce_only) for t in tickets],
        [(Decimal(str(s.near(0.92))), Decimal("0.05"), True)],
    )
    b.cancel_all_orders(PERPETUAL)
    s.same("all cancelled", (b.fetch_open_orders(PERPETUAL), h.stop, h.take), ([], Decimal(0), Decimal(0)))


def _ccxt_positions(s: Suite, b: Any) -> None:
    h = s.exchange.account.holding(ID, 0)
    found = b.fetch_position(PERPETUAL)
    s.same("size, side", (found["contracts"], found["side"]), (float(h.size), "long"))
    s.same("entry", found["entryPrice"], float(h.average))
    s.same("profit", found["unrealizedPnl"], float(h.profit(s.exchange.mark(ID))))
    s.same("leverage", found["leverage"], 5.0)
    s.same("positions", [p["symbol"] for p in b.fetch_positions([PERPETUAL])], [PERPETUAL])
    s.same("all positions", len(b.fetch_positions()), 1)
    b.create_order(PERPETUAL, "market", "sell", float(h.size), None, {"reduceOnly": True})
    s.settle()
    s.same("closed", h.size, Decimal(0))
    (row,) = b.fetch_positions_history([PERPETUAL])
    gain = sum(f.gain for f in s.exchange.fills)
    fees = sum(f.fee for f in s.exchange.fills)
    s.same("closed profit", abs(row["realizedPnl"] - float(gain - fees)) < 1e-3, True)
    log = b.fetch_ledger("USDT", None, 50)
    s.same("log", len(log), len(s.exchange.fills))
    s.same(
        "balance of the newest",
        max(log, key=lambda r: float(r["info"]["tradeId"] == s.exchange.fills[-1].exec_id))["after"],
        float(s.exchange.account.wallet),
    )
    s.same(
        "changes add up",
        abs(sum(r["amount"] * (1 if r["direction"] == "in" else -1) for r in log) - float(gain - fees)) < 1e-6,
        True,
    )


def _ccxt_spot(s: Suite, b: Any, ccxt: Any) -> None:
    account, wallet = s.exchange.account, s.exchange.account.wallet
    made = b.create_order(SPOT, "market", "buy", 0.01, s.price())
    s.settle()
    ticket = s.exchange.tickets[made["id"]]
    s.same("bought", account.coins["BTC"], ticket.filled - ticket.fee)
    s.same("paid", wallet - account.wallet, ticket.value)
    balance = b.fetch_balance()
    s.same("coins", balance["BTC"]["total"], float(account.coins["BTC"]))
    s.same("no position", b.fetch_positions(), [])
    b.create_market_buy_order_with_cost(SPOT, 50)
    s.settle()
    selling = b.create_order(SPOT, "limit", "sell", 0.005, s.near(1.009))
    s.settle()
    s.same("open", [o["id"] for o in b.fetch_open_orders(SPOT)], [selling["id"]])
    s.same("reserved", b.fetch_balance()["BTC"]["used"], 0.005)
    waiting = b.create_order(SPOT, "market", "sell", 0.001, None, {"triggerPrice": s.near(0.95)})
    s.same("waits", s.exchange.tickets[waiting["id"]].status, "Untriggered")
    s.same("conditional", [o["id"] for o in b.fetch_open_orders(SPOT, None, None, {"trigger": True})], [waiting["id"]])
    b.cancel_order(waiting["id"], SPOT, {"trigger": True})
    s.same("conditional cancelled", s.exchange.tickets[waiting["id"]].status, "Deactivated")
    b.cancel_all_orders(SPOT)
    s.same("none", b.fetch_open_orders(SPOT), [])
    b.create_order(SPOT, "market", "sell", 0.005)
    s.settle()
    trades = b.fetch_my_trades(SPOT)
    fills = {f.exec_id: f.fee_coin for f in s.exchange.fills if f.ticket.category == "spot"}
    s.same("trades and their fee coins", {t["id"]: t["fee"]["currency"] for t in trades}, fills)
    s.refused(
        "sold what is not there", ccxt.InsufficientFunds, 170131, lambda: b.create_order(SPOT, "market", "sell", 5)
    )


def _ccxt_refusals(s: Suite, b: Any, ccxt: Any) -> None:
    far, market = s.near(10), lambda n: lambda: b.create_order(PERPETUAL, "market", "buy", n)
    s.refused(
        "price 10 times away", ccxt.InvalidOrder, 110003, lambda: b.create_order(PERPETUAL, "limit", "buy", 0.01, far)
    )
    s.refused("too large", ccxt.BadRequest, 10001, market(1000))
    s.refused("no margin", ccxt.InsufficientFunds, 110007, market(400))
    s.refused(
        "unknown symbol",
        ccxt.BadRequest,
        10001,
        lambda: b.private_get_v5_position_list({"category": "linear", "symbol": "NOPE"}),
    )
    s.same("and nothing is poisoned", b.fetch_positions(), [])
    s.refused("no category", ccxt.BadRequest, 10001, lambda: b.private_get_v5_position_list({"symbol": ID}))
    create = b.private_post_v5_order_create
    order = {
        "category": "linear",
        "symbol": ID,
        "side": "Buy",
        "orderType": "Limit",
        "qty": "0.01",
        "price": str(s.near(0.99)),
    }
    for change in ({"qty": "abc"}, {"timeInForce": "BOGUS"}, {"price": "-1"}, {"positionIdx": 7}, {"qty": "0.0005"}):
        s.refused(str(change), ccxt.BadRequest, 10001, lambda change=change: create({**order, **change}))
    s.refused(
        "unknown category of fees", ccxt.BadRequest, 10001, b.fetch_trading_fees
    )  # the document asks for one, ccxt sends none
    s.refused("no such path", ccxt.BaseError, 404, lambda: b.private_get_v5_asset_withdraw_query_record())
    s.private._secret = "another"
    s.refused("signature", ccxt.AuthenticationError, 10004, b.fetch_balance)
    s.private._secret = "local-secret"
    b.apiKey = "wrong"
    s.refused("key", ccxt.AuthenticationError, 10003, b.fetch_balance)
    b.apiKey = s.private.key


def pybit_suite(private: Private) -> Suite:
    """REST through pybit, as the trader calls it and beyond."""
    from pybit.exceptions import FailedRequestError, InvalidRequestError
    from pybit.unified_trading import HTTP

    s = Suite("pybit", private)
    h = HTTP(api_key=private.key, api_secret="local-secret", max_retries=1, retry_codes={-(10**9)})
    h.endpoint = private.standin.url
    of = {"category": "linear", "symbol": ID}
    with s.of("markets, prices"):
        s.same("time", h.get_server_time()["result"]["timeSecond"], str(NOW // 1000))
        (row,) = h.get_instruments_info(**of)["result"]["list"]
        s.same("tick", row["priceFilter"]["tickSize"], s.market.instruments[ID].tick_size)
        bids, asks = s.world.books.levels(ID, 50)
        book = h.get_orderbook(**of, limit=50)["result"]
        s.same("book", (book["b"], book["a"]), ([list(x) for x in bids], [list(x) for x in asks]))
        s.same("last", h.get_tickers(**of)["result"]["list"][0]["lastPrice"], f"{s.price():.1f}")
        s.same("trades", len(h.get_public_trade_history(**of, limit=30)["result"]["list"]), 30)
        limit = h.get_price_limit(**of)["result"]
        s.same("price limits", float(limit["buyLmt"]) > s.price() > float(limit["sellLmt"]), True)
        s.same("inverse", h.get_instruments_info(category="inverse")["result"]["list"], [])
    with s.of("klines"):
        for name in ("get_kline", "get_mark_price_kline", "get_index_price_kline", "get_premium_index_price_kline"):
            answer = getattr(h, name)(**of, interval=60, limit=100)["result"]
            bars = s.market.klines(ID, "60", 0, NOW, NOW, 100)
            s.same(name, [int(r[0]) for r in answer["list"]], bars.opens_ms.tolist()[::-1])
        s.same("category", h.get_kline(symbol=ID, interval=60, limit=1)["result"]["category"], "linear")
    with s.of("funding, open interest, ratio"):
        rows = h.get_funding_rate_history(**of, endTime=NOW, limit=50)["result"]["list"]
        s.same(
            "settlements",
            [int(r["fundingRateTimestamp"]) for r in rows],
            s.market.settlements(ID, 0, NOW)[0][-50:].tolist()[::-1],
        )
        s.same("open interest", len(h.get_open_interest(**of, intervalTime="1h", limit=50)["result"]["list"]), 50)
        s.same("ratio", len(h.get_long_short_ratio(**of, period="1h", limit=50)["result"]["list"]), 50)
        s.same("tiers", len(h.get_risk_limit(**of)["result"]["list"]), 5)
    with s.of("account"):
        _pybit_account(s, h, of)
    with s.of("orders"):
        _pybit_orders(s, h, of)
    with s.of("conditional orders, batches"):
        _pybit_conditional(s, h, of)
    with s.of("positions, profit, log"):
        _pybit_positions(s, h, of)
    with s.of("spot"):
        _pybit_spot(s, h)
    with s.of("refusals"):
        good = {**of, "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": str(s.near(0.99))}
        for change, code in (
            ({"qty": "abc"}, 10001), ({"price": str(s.near(10))}, 110003), ({"timeInForce": "BOGUS"}, 10001), ({"category": None}, 10001),
            ({"symbol": "NOPE"}, 10001), ({"reduceOnly": True}, 110017), ({"qty": "0.001", "price": "1000"}, 110094),
        ):  # fmt: skip
            s.refused(str(change), InvalidRequestError, code, lambda change=change: h.place_order(**{**good, **change}))
        for call, asked in (
            (h.get_positions, {"category": "linear", "symbol": "NOPE"}), (h.get_positions, {"category": "linear"}),
            (h.get_open_orders, {"category": "linear"}), (h.cancel_all_orders, {"category": "linear"}),
            (h.get_wallet_balance, {"accountType": "SPOT"}),
            (h.set_leverage, {**of, "buyLeverage": "3", "sellLeverage": "4"}),
            (h.set_leverage, {**of, "buyLeverage": "x", "sellLeverage": "x"}),
            (h.get_executions, {**of, "startTime": "abc"}), (h.get_kline, {**of, "interval": 60, "start": "abc"}),
        ):  # fmt: skip
            s.refused(str(asked), InvalidRequestError, 10001, lambda call=call, asked=asked: call(**asked))
        s.same("nothing is poisoned", h.get_positions(**of)["retCode"], 0)
        s.refused("path", FailedRequestError, 404, lambda: h.get_withdrawal_records())
    return s


def _pybit_account(s: Suite, h: Any, of: dict[str, str]) -> None:
    s.same("wallet", h.get_wallet_balance(accountType="UNIFIED")["result"]["list"][0]["totalEquity"], "100000")
    s.same("info", h.get_account_info()["result"]["unifiedMarginStatus"], 4)
    s.same("key", h.get_api_key_information()["result"]["apiKey"], s.private.key)
    s.same("fees", h.get_fee_rates(**of)["result"]["list"][0]["takerFeeRate"], "0.00055")
    s.same("coin", h.get_coin_info(coin="BTC")["result"]["rows"][0]["coin"], "BTC")
    s.same("margin mode", h.set_margin_mode(setMarginMode="REGULAR_MARGIN")["retCode"], 0)
    h.set_leverage(**of, buyLeverage="4", sellLeverage="4")
    s.same("leverage", s.exchange.account.leverage[ID], Decimal(4))
    h.switch_position_mode(**of, mode=3)
    s.same("hedge rows", [r["positionIdx"] for r in h.get_positions(**of)["result"]["list"]], [1, 2])
    s.same("of that symbol alone", s.exchange.account.indices("ETHUSDT"), (0,))
    h.switch_position_mode(**of, mode=0)


def _pybit_orders(s: Suite, h: Any, of: dict[str, str]) -> None:
    taken = h.place_order(**of, side="Buy", orderType="Market", qty="0.1", orderLinkId="by-pybit-1")["result"]
    s.settle()
    ticket = s.exchange.by_link["by-pybit-1"]
    s.same("id", taken["orderId"], ticket.order_id)
    (row,) = h.get_open_orders(**of, orderLinkId="by-pybit-1")["result"]["list"]
    s.same("filled", (row["orderStatus"], row["cumExecQty"]), ("Filled", "0.1"))
    s.same("not among the open ones", h.get_open_orders(**of)["result"]["list"], [])
    s.same("recent", len(h.get_open_orders(**of, openOnly=1)["result"]["list"]), 1)
    s.same("history", [r["orderId"] for r in h.get_order_history(**of)["result"]["list"]], [ticket.order_id])
    rows = h.get_executions(**of)["result"]["list"]
    s.same("executions", [r["execId"] for r in rows], [f.exec_id for f in s.exchange.fills][::-1])
    s.same("of another symbol", h.get_executions(category="linear", symbol="ETHUSDT")["result"]["list"], [])
    first = h.get_executions(category="linear", limit=1)["result"]
    s.same("first page", len(first["list"]), 1)
    resting = h.place_order(
        **of, side="Sell", orderType="Limit", qty="0.01", price=str(s.near(1.005)), timeInForce="PostOnly"
    )["result"]
    s.settle()
    h.amend_order(**of, orderId=resting["orderId"], price=str(s.near(1.004)))
    s.same("amended", s.exchange.tickets[resting["orderId"]].price, Decimal(str(s.near(1.004))))
    h.cancel_order(**of, orderId=resting["orderId"])
    s.same("cancelled", s.exchange.tickets[resting["orderId"]].status, "Cancelled")
    s.exchange.liquidity = Decimal(1)
    killed = h.place_order(**of, side="Buy", orderType="Limit", qty="15", price=str(s.near(1.0001)), timeInForce="FOK")[
        "result"
    ]
    deadline = time.monotonic() + 20
    while s.exchange.tickets[killed["orderId"]].open and time.monotonic() < deadline:
        time.sleep(0.002)
    s.exchange.liquidity = None
    t = s.exchange.tickets[killed["orderId"]]
    s.same("fill or kill", (t.status, t.filled), ("Cancelled", Decimal(0)))


def _pybit_conditional(s: Suite, h: Any, of: dict[str, str]) -> None:
    h.set_trading_stop(**of, tpslMode="Full", positionIdx=0, stopLoss=str(s.near(0.9)), takeProfit=str(s.near(1.2)))
    held = s.exchange.account.holding(ID, 0)
    s.same("trading stop", (held.stop, held.take), (Decimal(str(s.near(0.9))), Decimal(str(s.near(1.2)))))
    kinds = sorted(r["stopOrderType"] for r in h.get_open_orders(**of)["result"]["list"])
    s.same("its orders", kinds, ["StopLoss", "TakeProfit"])
    order = {"symbol": ID, "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": str(s.near(0.99))}
    answer = h.place_batch_order(
        category="linear", request=[order, {**order, "qty": "abc"}, {**order, "price": str(s.near(10))}]
    )
    s.same("batch of three", [r["code"] for r in answer["retExtInfo"]["list"]], [0, 10001, 110003])
    placed = answer["result"]["list"][0]["orderId"]
    answer = h.amend_batch_order(category="linear", request=[{"symbol": ID, "orderId": placed, "qty": "0.02"}])
    s.same("batch amended", s.exchange.tickets[placed].qty, Decimal("0.02"))
    answer = h.cancel_batch_order(
        category="linear", request=[{"symbol": ID, "orderId": placed}, {"symbol": ID, "orderId": "none"}]
    )
    s.same("batch cancelled", [r["code"] for r in answer["retExtInfo"]["list"]], [0, 110001])
    rise = {
        **of,
        "side": "Sell",
        "orderType": "Market",
        "qty": "0.05",
        "triggerDirection": 1,
        "triggerPrice": str(s.near(1.001)),
    }
    waiting = h.place_order(**rise, reduceOnly=True)["result"]["orderId"]
    ticket = s.exchange.tickets[waiting]
    s.same("waits", ticket.status, "Untriggered")
    before = held.size
    s.exchange.mark, real = (lambda _symbol, _at=None: Decimal(str(s.near(1.002)))), s.exchange.mark
    with s.world.lock:
        s.exchange.advance()
    s.exchange.mark = real
    s.same("triggered", (ticket.created_by, before - held.size), ("CreateByStopOrder", ticket.filled))
    h.cancel_all_orders(**of)
    s.same("none left", h.get_open_orders(**of)["result"]["list"], [])


def _pybit_positions(s: Suite, h: Any, of: dict[str, str]) -> None:
    held = s.exchange.account.holding(ID, 0)
    (row,) = h.get_positions(**of)["result"]["list"]
    s.same("size", (Decimal(row["size"]), row["side"]), (held.size, "Buy"))
    h.place_order(**of, side="Sell", orderType="Market", qty="0", reduceOnly=True, closeOnTrigger=True)
    s.settle()
    s.same("all closed", held.size, Decimal(0))
    rows = h.get_closed_pnl(**of)["result"]["list"]
    closing = {f.ticket.order_id for f in s.exchange.fills if f.closed}
    s.same("closed profit", {r["orderId"] for r in rows}, closing)
    total = sum(Decimal(r["closedPnl"]) for r in rows)
    s.same("adds up", abs(total - (s.exchange.account.wallet - 100_000)) < Decimal("0.01"), True)
    log = h.get_transaction_log(accountType="UNIFIED", currency="USDT", limit=50)["result"]["list"]
    s.same("log", sum(Decimal(r["change"]) for r in log), s.exchange.account.wallet - 100_000)
    s.same("its newest balance", Decimal(log[0]["cashBalance"]), s.exchange.account.wallet)


def _pybit_spot(s: Suite, h: Any) -> None:
    of = {"category": "spot", "symbol": ID}
    s.same("rules", "basePrecision" in h.get_instruments_info(**of)["result"]["list"][0]["lotSizeFilter"], True)
    h.place_order(**of, side="Buy", orderType="Market", qty="1000", orderLinkId="spot-1")
    s.settle()
    t = s.exchange.by_link["spot-1"]
    s.same("by value", 1000 - t.value < Decimal(25), True)
    (row,) = h.get_executions(**of)["result"]["list"]
    s.same("fee in the coin", (row["feeCurrency"], Decimal(row["execFee"])), ("BTC", t.fee))
    s.same(
        "not among contracts",
        [r for r in h.get_executions(category="linear")["result"]["list"] if r["execId"] == row["execId"]],
        [],
    )
    s.same(
        "coins",
        Decimal(
            h.get_wallet_balance(accountType="UNIFIED", coin="BTC")["result"]["list"][0]["coin"][0]["walletBalance"]
        ),
        s.exchange.account.coins["BTC"],
    )
    s.same("log of both coins", len(h.get_transaction_log(accountType="UNIFIED", category="spot")["result"]["list"]), 2)


async def _ccxt_streams(private: Private) -> Suite:
    """Public and private streams through ccxt.pro."""
    import ccxt.pro

    s, b = Suite("ccxt.pro", private), ccxt_client(private, ccxt.pro)
    try:
        with s.of("streams"):
            await b.load_markets()
            for symbol in (PERPETUAL, SPOT):
                book = await b.watch_order_book(symbol, 50)
                for _ in range(5):
                    s.same("book is not crossed", book["bids"][0][0] < book["asks"][0][0], True)
                    s.same("depth", (len(book["bids"]), len(book["asks"])), (50, 50))
                    book = await b.watch_order_book(symbol, 50)
                s.same("ticker", (await b.watch_ticker(symbol))["symbol"], symbol)
                s.same("kline", len((await b.watch_ohlcv(symbol, "1m"))[0]), 6)
                s.same("trades", (await b.watch_trades(symbol))[0]["symbol"], symbol)
            s.same("positions at first", await b.watch_positions([PERPETUAL]), [])  # ccxt begins with what REST says
            watched = [asyncio.ensure_future(w) for w in (b.watch_orders(PERPETUAL), b.watch_my_trades(PERPETUAL))]
            positions, balance = (
                asyncio.ensure_future(b.watch_positions([PERPETUAL])),
                asyncio.ensure_future(b.watch_balance()),
            )
            await asyncio.sleep(0)
            deadline = time.monotonic() + 30
            while not {"order", "execution", "position", "wallet"} <= {
                t.partition(".")[0] for t in s.world.streams.topics("private")
            }:
                if time.monotonic() > deadline:
                    raise TimeoutError("ccxt.pro did not subscribe")
                await asyncio.sleep(0.01)
            made = await b.create_order(PERPETUAL, "market", "buy", 0.1)
            orders, trades = await asyncio.gather(*watched)
            s.same("order", orders[-1]["id"], made["id"])
            s.same("trade", trades[-1]["order"], made["id"])
            s.same("position", (await positions)[0]["side"], "long")
            s.same("balance", (await balance)["USDT"]["total"] > 0, True)
    finally:
        await b.close()
    return s


def _a_wire_away(socket: Any) -> Any:
    """pybit notes a subscription after it has sent it, and dies of an answer in between: from another machine none comes so soon, here
    one did. So answers wait until it is noted."""
    noting, subscribe, hear = threading.RLock(), socket.subscribe, socket._on_message

    def subscribed(*words: Any, **options: Any) -> None:
        with noting:
            subscribe(*words, **options)

    def heard(message: str) -> None:
        with noting:
            hear(message)

    socket.subscribe, socket._on_message = subscribed, heard
    return socket


def pybit_streams(private: Private) -> Suite:
    """Public and private streams through pybit's WebSocket."""
    from pybit import unified_trading as pybit

    s, standin = Suite("pybit", private), private.standin
    kept = pybit.PUBLIC_WSS, pybit.PRIVATE_WSS
    pybit.PUBLIC_WSS, pybit.PRIVATE_WSS = standin.ws_public_url, standin.url.replace("http", "ws", 1) + "/v5/private"
    came: dict[str, list[Any]] = defaultdict(list)
    heard = threading.Condition()

    def hear(name: str) -> Callable[[Any], None]:
        def handle(message: Any) -> None:
            with heard:
                came[name].append(message)
                heard.notify_all()

        return handle

    def wait(*names: str) -> None:
        with heard:
            if not heard.wait_for(lambda: all(came[n] for n in names), 30):
                raise TimeoutError(f"pybit heard only {sorted(came)}")

    try:
        with s.of("streams"):
            public = _a_wire_away(pybit.WebSocket(testnet=False, channel_type="linear"))
            mine = _a_wire_away(
                pybit.WebSocket(testnet=False, channel_type="private", api_key=private.key, api_secret="local-secret")
            )
            public.orderbook_stream(50, ID, hear("book"))
            public.kline_stream(1, ID, hear("kline"))
            public.ticker_stream(ID, hear("ticker"))
            public.trade_stream(ID, hear("trade"))
            for name in ("order", "execution", "position", "wallet"):
                getattr(mine, f"{name}_stream")(hear(name))
            wait("book", "kline", "ticker", "trade")
            s.same("book", len(came["book"][0]["data"]["b"]), 50)
            s.same("kline", came["kline"][0]["data"][0]["interval"], "1")
            s.same("ticker", came["ticker"][0]["data"]["symbol"], ID)
            s.same("trade", came["trade"][0]["data"][0]["s"], ID)
            with s.world.lock:
                s.exchange.by_hand(ID, "Buy", "0.1")
            wait("order", "execution", "position", "wallet")
            s.same("order", came["order"][-1]["data"][0]["category"], "linear")
            s.same("execution", came["execution"][0]["data"][0]["execId"], s.exchange.fills[0].exec_id)
            s.same("position", came["position"][0]["data"][0]["side"], "Buy")
            s.same("wallet", came["wallet"][0]["data"][0]["accountType"], "UNIFIED")
            public.exit()
            mine.exit()
    finally:
        pybit.PUBLIC_WSS, pybit.PRIVATE_WSS = kept
    return s


def suites() -> list[Suite]:
    """All of them, each against an exchange of its own."""
    found = []
    for suite in (ccxt_suite, pybit_suite):
        with exchange() as private:
            found.append(suite(private))
    with exchange(speed=20.0) as private:
        found.append(asyncio.run(_ccxt_streams(private)))
    with exchange(speed=20.0) as private:
        found.append(pybit_streams(private))
    return found


def table(found: list[Suite]) -> str:
    """Calls (requests that reached the exchange), comparisons and mismatches, by client and area."""
    lines = ["| client | area | requests | comparisons | mismatches |", "|---|---|---|---|---|"]
    total = [0, 0, 0]
    for suite in found:
        for area, counts in suite.counts.items():
            lines.append(f"| {suite.client} | {area} | {counts[0]} | {counts[1]} | {counts[2]} |")
            total = [a + b for a, b in zip(total, counts, strict=True)]
    return "\n".join([*lines, f"| all | | {total[0]} | {total[1]} | {total[2]} |"])


if __name__ == "__main__":
    made = suites()
    print(table(made))
    print("\n".join(line for suite in made for line in suite.wrong))
