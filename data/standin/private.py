"""The private part of the stand-in: keys and signatures, orders, executions, positions, wallet, and their WebSocket.

`StandIn(world, extensions=[private])` where `private = Private()`; tests read and bend `private.exchange`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from data.standin.account import ZERO, Account, Holding
from data.standin.matching import MAKER, TAKER, Exchange, Fill, Ticket
from data.standin.server import StandIn
from data.standin.world import Call, Refused, Reply, World

TOPICS = ("order", "execution", "position", "wallet")
WEEK_MS = 7 * 86_400_000


class Private:
    """Extension of a StandIn. Times in real seconds.

    auth_skew_ms: added to the wall clock that signatures are checked against (the market's own clock may run at any speed).
    lag_s: REST does not show a new order for so long. event_s: private messages come so much later. match_s: from the
    acknowledgement to the match. tick_s: how often resting orders and funding are looked at.
    """

    def __init__(
        self,
        key: str = "local-key",
        secret: str = "local-secret",
        *,
        wallet: Decimal = Decimal(100_000),
        hedge: bool = False,
        lag_s: float = 0.0,
        event_s: float = 0.0,
        match_s: float = 0.0,
        tick_s: float = 0.05,
    ) -> None:
        self.key, self._secret = key, secret
        self.auth_skew_ms = 0
        self.lag_s, self.event_s, self.match_s, self.tick_s = lag_s, event_s, match_s, tick_s
        self._account = Account(wallet=wallet, hedge=hedge)
        self.exchange: Exchange
        self.coin = "USDT"  # that the wallet holds
        self.info: dict[str, Any] = {
            "marginMode": "REGULAR_MARGIN", "updatedTime": "1697078946000", "unifiedMarginStatus": 4, "dcpStatus": "OFF",
            "timeWindow": 10, "smpGroup": 0, "isMasterTrader": False, "spotHedgingStatus": "OFF",
        }  # fmt: skip
        self.standin: StandIn
        self.accepted: list[str] = []  # orderLinkIds of every order taken, in order

    def __call__(self, standin: StandIn) -> None:
        self.standin = standin
        self.exchange = Exchange(standin.world, self._account, self._publish)
        self.exchange.settled_ms = standin.world.clock.now_ms()
        routes: dict[tuple[str, str], Callable[[Call], Reply]] = {
            ("POST", "/v5/order/create"): self._create,
            ("POST", "/v5/order/amend"): self._amend,
            ("POST", "/v5/order/cancel"): self._cancel,
            ("POST", "/v5/order/cancel-all"): self._cancel_all,
            ("GET", "/v5/order/realtime"): self._realtime,
            ("GET", "/v5/order/history"): self._history,
            ("GET", "/v5/execution/list"): self._executions,
            ("GET", "/v5/position/list"): self._positions,
            ("POST", "/v5/position/set-leverage"): self._leverage,
            ("POST", "/v5/position/switch-mode"): self._mode,
            ("POST", "/v5/position/trading-stop"): self._trading_stop,
            ("GET", "/v5/account/wallet-balance"): self._wallet,
            ("GET", "/v5/account/info"): self._info,
            ("GET", "/v5/account/fee-rate"): self._fees,
        }
        for place, endpoint in routes.items():
            standin.endpoints[place] = self._guarded(endpoint)
        standin.world.streams.accepts["private"] = lambda topic: topic.partition(".")[0] in TOPICS
        standin.world.streams.authorise = self._authorise
        standin.tasks.append(self._run)

    # who asks

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.auth_skew_ms

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    def _authorise(self, args: Sequence[Any]) -> bool:
        if len(args) != 3:
            return False
        key, expires, sign = args
        good = hmac.compare_digest(str(sign), self._sign(f"GET/realtime{expires}"))
        return bool(key == self.key and good and int(expires) > self._now_ms())

    def _guarded(self, endpoint: Callable[[Call], Reply]) -> Callable[[World, Call], Reply]:
        def guarded(_world: World, call: Call) -> Reply:
            headers = {name.lower(): value for name, value in call.headers.items()}
            stamp, window = headers.get("x-bapi-timestamp", ""), headers.get("x-bapi-recv-window", "5000")
            if headers.get("x-bapi-api-key") != self.key:
                raise Refused(10003, "API key is invalid.")
            if not stamp.isdigit() or not window.isdigit():
                raise Refused(10001, "request parameter error")
            now = self._now_ms()
            if not now - int(window) <= int(stamp) < now + 1000:
                raise Refused(
                    10002, f"invalid request, server timestamp[{now}], req_timestamp[{stamp}], recv_window[{window}]"
                )
            if not hmac.compare_digest(
                self._sign(stamp + self.key + window + call.raw), headers.get("x-bapi-sign", "")
            ):
                raise Refused(10004, "error sign! please check your signature generation algorithm.")
            if call.method == "POST" and not isinstance(call.body, dict):
                raise Refused(10001, "request body is no JSON object")
            self.exchange.advance()
            return endpoint(call)

        return guarded

    # orders

    def _create(self, call: Call) -> Reply:
        ticket = self.exchange.accept(call.body)
        self.accepted.append(ticket.link_id)
        ticket.visible_at = time.monotonic() + self.lag_s
        loop = self.standin.world.streams.loop
        assert loop is not None  # it serves
        loop.call_later(self.match_s, self._match, ticket)
        return Reply({"orderId": ticket.order_id, "orderLinkId": ticket.link_id})

    def _match(self, ticket: Ticket) -> None:
        with self.standin.world.lock:
            self._publish("order", [ticket])
            self.exchange.match(ticket)

    def _ticket(self, body: Mapping[str, Any]) -> Ticket:
        found = self.exchange.tickets.get(str(body.get("orderId"))) or self.exchange.by_link.get(
            str(body.get("orderLinkId"))
        )
        if found is None:
            raise Refused(110001, "order not exists or too late to cancel")
        return found

    def _amend(self, call: Call) -> Reply:
        ticket = self._ticket(call.body)
        if not ticket.open:
            raise Refused(110001, "order not exists or too late to replace")
        instrument = self.standin.world.market.instruments[ticket.symbol]
        if "price" in call.body:
            price = Decimal(call.body["price"])
            if price % Decimal(instrument.tick_size):
                raise Refused(10001, "params error: price is not a multiple of the tick")
            ticket.price = price
        if "qty" in call.body:
            qty = Decimal(call.body["qty"])
            if qty % Decimal(instrument.qty_step) or qty <= ticket.filled:
                raise Refused(10001, "params error: qty invalid")
            ticket.qty = qty
        self._publish("order", [ticket])
        return Reply({"orderId": ticket.order_id, "orderLinkId": ticket.link_id})

    def _cancel(self, call: Call) -> Reply:
        for (symbol, index), h in self.exchange.account.holdings.items():
            if h.stop_id and h.stop_id == call.body.get("orderId"):  # the conditional order of a stop loss
                stop_id = h.stop_id
                self.exchange.set_stop(symbol, index, ZERO)
                return Reply({"orderId": stop_id, "orderLinkId": ""})
        ticket = self._ticket(call.body)
        self.exchange.cancel(ticket)
        return Reply({"orderId": ticket.order_id, "orderLinkId": ticket.link_id})

    def _cancel_all(self, call: Call) -> Reply:
        rows = []
        for ticket in list(self.exchange.alive.values()):
            if ticket.symbol == call.body.get("symbol", ticket.symbol):
                self.exchange.cancel(ticket)
                rows.append({"orderId": ticket.order_id, "orderLinkId": ticket.link_id})
        return Reply({"list": rows, "success": "1"})

    def _tickets(self, query: Mapping[str, str], alive: bool) -> list[Ticket]:
        """Matching orders that REST shows by now, oldest first; all open ones where no id is asked for and `alive`."""
        exchange = self.exchange
        if "orderLinkId" in query or "orderId" in query:
            one = exchange.by_link.get(query.get("orderLinkId", "")) or exchange.tickets.get(query.get("orderId", ""))
            found = [one] if one is not None else []
        else:
            found = list(exchange.alive.values() if alive else exchange.tickets.values())
        symbol, now = query.get("symbol"), time.monotonic()
        return [t for t in found if t.visible_at <= now and symbol in (None, t.symbol)]

    def _realtime(self, call: Call) -> Reply:
        """Open orders, and by an id up to 500 recently closed ones too."""
        rows = self._tickets(call.query, alive=True)
        recent = list(itertools.islice(reversed(self.exchange.tickets), 500))
        rows = [t for t in rows if t.open or t.order_id in recent]
        conditional = []
        if not {"orderId", "orderLinkId"} & set(call.query):
            conditional = [
                stop_row(symbol, index, h)
                for (symbol, index), h in self.exchange.account.holdings.items()
                if h.stop and call.query.get("symbol", symbol) == symbol
            ]
        return self._page([*conditional, *(order_row(t) for t in rows[::-1])], call.query, 50)

    def _history(self, call: Call) -> Reply:
        return self._page(
            [order_row(t) for t in self._tickets(call.query, alive=False)[::-1] if not t.open], call.query, 50
        )

    def _executions(self, call: Call) -> Reply:
        q = call.query
        start = int(q.get("startTime", self.standin.world.clock.now_ms() - WEEK_MS))
        end = int(q.get("endTime", start + WEEK_MS))
        if end - start > WEEK_MS:
            raise Refused(10001, "params error: the time range cannot exceed 7 days")
        rows: list[Fill] = []
        for fill in reversed(self.exchange.fills):
            if fill.time_ms < start - 86_400_000:  # booked in time order but for settlements found late
                break
            if not start <= fill.time_ms <= end or fill.ticket.symbol != q.get("symbol", fill.ticket.symbol):
                continue
            if fill.ticket.link_id != q.get("orderLinkId", fill.ticket.link_id) or fill.kind != q.get(
                "execType", fill.kind
            ):
                continue
            rows.append(fill)
        rows.sort(key=lambda f: (f.time_ms, f.seq), reverse=True)
        return self._page([fill_row(f) for f in rows], q, 100)

    def _page(self, rows: list[dict[str, Any]], query: Mapping[str, str], most: int) -> Reply:
        limit = int(query.get("limit", 20 if most == 50 else 50))
        if not 1 <= limit <= most:
            raise Refused(10001, f"params error: limit must lie between 1 and {most}")
        start = int(query["cursor"].rpartition("-")[2]) if query.get("cursor") else 0
        cursor = f"page-{start + limit}" if start + limit < len(rows) else ""
        return Reply({"nextPageCursor": cursor, "category": "linear", "list": rows[start : start + limit]})

    # account

    def _positions(self, call: Call) -> Reply:
        account = self.exchange.account
        if "symbol" in call.query:
            symbol = call.query["symbol"]
            places = [(symbol, i) for i in ((1, 2) if account.hedge else (0,))]
        elif "settleCoin" in call.query:
            places = [place for place, h in account.holdings.items() if h.size]
        else:
            raise Refused(10001, "params error: symbol or settleCoin is needed")
        return Reply({"nextPageCursor": "", "category": "linear", "list": [self._position_row(*p) for p in places]})

    def _position_row(self, symbol: str, index: int) -> dict[str, Any]:
        account = self.exchange.account
        h, mark = account.holding(symbol, index), self.exchange.mark(symbol)
        lever = account.leverage.get(symbol, Decimal(10))
        value = abs(h.size) * h.average
        return {
            "positionIdx": index, "riskId": 1, "riskLimitValue": "2000000", "symbol": symbol,
            "side": "Buy" if h.size > 0 else "Sell" if h.size < 0 else "", "size": _text(abs(h.size)),
            "avgPrice": _text(h.average), "positionValue": _text(value), "tradeMode": 0, "positionStatus": "Normal",
            "autoAddMargin": 0, "adlRankIndicator": 2, "leverage": _text(lever), "positionBalance": _text(value / lever),
            "markPrice": _text(mark), "liqPrice": "", "bustPrice": "", "positionMM": _text(value / 200),
            "positionIM": _text(value / lever), "tpslMode": "Full", "takeProfit": "",
            "stopLoss": _text(h.stop) if h.stop else "", "trailingStop": "0",
            "unrealisedPnl": _text(h.profit(mark)), "curRealisedPnl": _text(h.realised), "cumRealisedPnl": _text(h.realised),
            "seq": len(self.exchange.fills), "isReduceOnly": False, "mmrSysUpdatedTime": "", "leverageSysUpdatedTime": "",
            "createdTime": str(h.updated_ms), "updatedTime": str(h.updated_ms),
        }  # fmt: skip

    def _leverage(self, call: Call) -> Reply:
        symbol, lever = str(call.body.get("symbol")), Decimal(str(call.body.get("buyLeverage", "0")))
        if self.exchange.account.leverage.get(symbol, Decimal(10)) == lever:
            raise Refused(110043, "leverage not modified")
        if not 1 <= lever <= Decimal(self.standin.world.market.instruments[symbol].max_leverage):
            raise Refused(10001, "params error: leverage invalid")
        self.exchange.account.leverage[symbol] = lever
        return Reply({})

    def _trading_stop(self, call: Call) -> Reply:
        """The stop loss of a whole position: set, moved, or removed with 0."""
        body, exchange = call.body, self.exchange
        symbol, index = str(body.get("symbol")), body.get("positionIdx")
        if body.get("category") != "linear" or symbol not in self.standin.world.market.instruments:
            raise Refused(10001, "params error: symbol invalid")
        if index not in ((1, 2) if exchange.account.hedge else (0,)):
            raise Refused(10001, "position idx not match position mode")
        if body.get("tpslMode") != "Full" or "stopLoss" not in body:
            raise Refused(10001, "params error: tpslMode Full and stopLoss are served here")
        h = exchange.account.holdings.get((symbol, index))
        if h is None or not h.size:
            raise Refused(10001, "can not set tp/sl/ts for zero position")
        stop = exchange.checked_stop(body["stopLoss"], 1 if h.size > 0 else -1, exchange.mark(symbol))
        if stop == h.stop:
            raise Refused(34040, "not modified")
        if stop % Decimal(self.standin.world.market.instruments[symbol].tick_size):
            raise Refused(10001, "params error: stopLoss is not a multiple of the tick")
        exchange.set_stop(symbol, index, stop)
        self._publish("position", [symbol])
        return Reply({})

    def _mode(self, call: Call) -> Reply:
        hedge = call.body.get("mode") == 3
        if hedge == self.exchange.account.hedge:
            raise Refused(110025, "Position mode is not modified")
        if any(h.size for h in self.exchange.account.holdings.values()):
            raise Refused(110024, "Existing position, so position mode cannot be switched")
        self.exchange.account.hedge = hedge
        return Reply({})

    def _wallet(self, _call: Call) -> Reply:
        return Reply({"list": [self._wallet_row()]})

    def _wallet_row(self) -> dict[str, Any]:
        account, marks = self.exchange.account, self.exchange.marks()
        equity, margin, keep = account.equity(marks), account.initial_margin(marks), account.maintenance(marks)
        profit = account.unrealised(marks)
        coin = {
            "coin": self.coin, "equity": _text(equity), "usdValue": _text(equity), "walletBalance": _text(account.wallet),
            "unrealisedPnl": _text(profit), "cumRealisedPnl": "0", "totalPositionIM": _text(margin), "totalOrderIM": "0",
            "totalPositionMM": _text(keep), "availableToWithdraw": "", "availableToBorrow": "", "borrowAmount": "0",
            "accruedInterest": "0", "bonus": "0", "locked": "0", "spotBorrow": "0", "collateralSwitch": True,
            "marginCollateral": True,
        }  # fmt: skip
        return {
            "accountType": "UNIFIED", "totalEquity": _text(equity), "totalWalletBalance": _text(account.wallet),
            "totalMarginBalance": _text(equity), "totalAvailableBalance": _text(equity - margin),
            "totalPerpUPL": _text(profit), "totalInitialMargin": _text(margin), "totalMaintenanceMargin": _text(keep),
            "accountIMRate": _text(margin / equity if equity > 0 else ZERO), "accountLTV": "0",
            "accountMMRate": _text(keep / equity if equity > 0 else ZERO), "coin": [coin],
        }  # fmt: skip

    def _info(self, _call: Call) -> Reply:
        return Reply(dict(self.info))

    def _fees(self, call: Call) -> Reply:
        symbol = call.query.get("symbol", "BTCUSDT")
        return Reply(
            {"list": [{"symbol": symbol, "takerFeeRate": _text(TAKER), "makerFeeRate": _text(MAKER), "baseCoin": ""}]}
        )

    # the private WebSocket

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.tick_s)
            with self.standin.world.lock:
                self.exchange.advance()

    def _publish(self, topic: str, rows: list[Any]) -> None:
        """As messages look at this moment, sent `event_s` later."""
        now = self.standin.world.clock.now_ms()
        if topic == "order":
            data: list[dict[str, Any]] = [stream_order_row(t) for t in rows]
        elif topic == "execution":
            data = [{**fill_row(f), "category": "linear"} for f in rows]
        elif topic == "position":
            places = [p for p in self.exchange.account.holdings if p[0] in rows]
            data = [_stream_position(self._position_row(*p)) for p in places]
        else:
            data = [{k: v for k, v in self._wallet_row().items() if k != "totalPerpUPL"} | {"totalPerpUPL": "0"}]
        message = {"id": f"{now}-{topic}", "topic": topic, "creationTime": now, "data": data}
        streams = self.standin.world.streams
        if self.event_s and streams.loop is not None and streams.loop.is_running():
            streams.loop.call_soon_threadsafe(
                streams.loop.call_later, self.event_s, streams.publish, topic, message, "private"
            )
        else:
            streams.publish(topic, message, "private")


def _text(value: Decimal) -> str:
    return format(value.normalize() if value else ZERO, "f")


def order_row(t: Ticket) -> dict[str, Any]:
    """As order/realtime and order/history show it."""
    return {
        "orderId": t.order_id, "orderLinkId": t.link_id, "blockTradeId": "", "symbol": t.symbol, "price": _text(t.price),
        "qty": _text(t.qty), "side": t.side, "isLeverage": "", "positionIdx": t.index, "orderStatus": t.status,
        "cancelType": t.cancel, "rejectReason": t.reject, "avgPrice": _text(t.average) if t.filled else "",
        "leavesQty": _text(t.left if t.open else ZERO), "leavesValue": _text((t.left if t.open else ZERO) * t.price),
        "cumExecQty": _text(t.filled), "cumExecValue": _text(t.value), "cumExecFee": _text(t.fee),
        "timeInForce": t.time_in_force, "orderType": t.kind, "stopOrderType": "UNKNOWN", "orderIv": "", "triggerPrice": "0",
        "takeProfit": "", "stopLoss": "", "tpTriggerBy": "UNKNOWN", "slTriggerBy": "UNKNOWN", "triggerDirection": 0,
        "triggerBy": "UNKNOWN", "lastPriceOnCreated": "", "reduceOnly": t.reduce_only, "closeOnTrigger": False,
        "smpType": "None", "smpGroup": 0, "smpOrderId": "", "tpslMode": "", "tpLimitPrice": "", "slLimitPrice": "",
        "placeType": "", "createdTime": str(t.created_ms), "updatedTime": str(t.updated_ms),
    }  # fmt: skip


def stop_row(symbol: str, index: int, h: Holding) -> dict[str, Any]:
    """The conditional order that a stop loss is, as order/realtime lists it."""
    side = "Sell" if h.size > 0 else "Buy"
    t = Ticket(
        h.stop_id,
        "",
        symbol,
        side,
        "Market",
        "IOC",
        abs(h.size),
        ZERO,
        True,
        index,
        h.stop_ms,
        h.stop_ms,
        "Untriggered",
    )
    return {
        **order_row(t), "stopOrderType": "StopLoss", "triggerPrice": _text(h.stop), "triggerBy": "MarkPrice", "closeOnTrigger": True,
        "triggerDirection": 2 if h.size > 0 else 1, "tpslMode": "Full", "createType": "CreateByStopLoss",
    }  # fmt: skip


def stream_order_row(t: Ticket) -> dict[str, Any]:
    """As the private topic `order` shows it."""
    return {**order_row(t), "category": "linear", "feeCurrency": "USDT", "createType": "CreateByUser"}


def _stream_position(row: dict[str, Any]) -> dict[str, Any]:
    """As the private topic `position` shows it: entryPrice instead of avgPrice."""
    out = {k: v for k, v in row.items() if k != "avgPrice"}
    return {
        **out, "entryPrice": row["avgPrice"], "sessionAvgPrice": "", "category": "linear",
        "positionIMByMp": row["positionIM"], "positionMMByMp": row["positionMM"],
    }  # fmt: skip


def fill_row(f: Fill) -> dict[str, Any]:
    """As execution/list and the private topic `execution` show it."""
    t = f.ticket
    return {
        "symbol": t.symbol, "orderId": t.order_id, "orderLinkId": t.link_id, "side": f.side, "orderPrice": _text(t.price),
        "orderQty": _text(t.qty), "leavesQty": _text(t.left),
        "createType": t.created_by or ("CreateByUser" if t.link_id else ""), "orderType": t.kind,
        "stopOrderType": "StopLoss" if t.created_by == "CreateByStopLoss" else "UNKNOWN", "execFee": _text(f.fee), "execId": f.exec_id,
        "execPrice": _text(f.price), "execQty": _text(f.qty), "execType": f.kind, "execValue": _text(f.qty * f.price),
        "execTime": str(f.time_ms), "feeCurrency": "", "isMaker": f.maker, "feeRate": _text(f.rate), "tradeIv": "",
        "markIv": "", "markPrice": _text(f.mark), "indexPrice": "", "underlyingPrice": "", "blockTradeId": "",
        "closedSize": _text(f.closed), "seq": f.seq, "isLeverage": "0",
    }  # fmt: skip
