"""The private part of the stand-in: keys and signatures, orders, executions, positions, wallet, and their WebSocket.

`StandIn(world, extensions=[private])` where `private = Private()`; tests read and bend `private.exchange`.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from data.standin.account import ZERO, Account
from data.standin.admission import FILTERS, beyond, guard
from data.standin.matching import Exchange
from data.standin.parameters import DAY_MS, Parameters
from data.standin.private_account import AccountEndpoints
from data.standin.rows import fill_row, guard_rows, order_row, page, stream_order_row, stream_position_row
from data.standin.server import StandIn
from data.standin.tickets import WAITING, Fill, Ticket
from data.standin.world import Call, Refused, Reply, World

CATEGORIES = ("linear", "spot", "inverse", "option")
TOPICS = (
    "wallet",
    *(f"{name}{more}" for name in ("order", "execution", "position") for more in ("", ".linear", ".spot", ".inverse")),
)
#: (retCode, message) of an order that is not there (any more): contracts, spot
_GONE = ((110001, "order not exists or too late to cancel"), (170213, "Order does not exist."))


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
        self.account = AccountEndpoints(self.exchange, self.key, self.info)
        self.routes: dict[tuple[str, str], Callable[[Call], Reply]] = {
            ("POST", "/v5/order/create"): self._create,
            ("POST", "/v5/order/amend"): self._amend,
            ("POST", "/v5/order/cancel"): self._cancel,
            ("POST", "/v5/order/cancel-all"): self._cancel_all,
            ("GET", "/v5/order/realtime"): self._realtime,
            ("GET", "/v5/order/history"): self._history,
            ("GET", "/v5/execution/list"): self._executions,
            ("POST", "/v5/order/create-batch"): self._batch(self._created),
            ("POST", "/v5/order/amend-batch"): self._batch(self._amended),
            ("POST", "/v5/order/cancel-batch"): self._batch(self._cancelled),
            **self.account.routes(),
        }
        for place, endpoint in self.routes.items():
            standin.endpoints[place] = self._guarded(endpoint)
        standin.world.streams.accepts["private"] = lambda topic: topic in TOPICS
        standin.world.streams.authorise = self._authorise
        standin.tasks.append(self._run)

    # who asks

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.auth_skew_ms

    def _sign(self, text: str) -> str:
        return hmac.digest(self._secret.encode(), text.encode(), "sha256").hex()

    def _authorise(self, args: Sequence[Any]) -> bool:
        if len(args) != 3 or not str(args[1]).isdigit():
            return False
        key, expires, sign = args
        good = hmac.compare_digest(str(sign), self._sign(f"GET/realtime{expires}"))
        return bool(key == self.key and good and int(expires) > self._now_ms())

    def _guarded(self, endpoint: Callable[[Call], Reply]) -> Callable[[World, Call], Reply]:
        def guarded(_world: World, call: Call) -> Reply:
            headers = {name.lower(): value for name, value in call.headers.items()}
            stamp, window = headers.get("x-bapi-timestamp", ""), headers.get("x-bapi-recv-window", "5000")
            if not headers.get("x-bapi-api-key") or not headers.get("x-bapi-sign"):
                return Reply(status=401)
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
        ticket = self._taken(call.body)
        return Reply({"orderId": ticket.order_id, "orderLinkId": ticket.link_id})

    def _taken(self, body: Mapping[str, Any]) -> Ticket:
        ticket = self.exchange.accept(body)
        self.accepted.append(ticket.link_id)
        ticket.visible_at = time.monotonic() + self.lag_s
        loop = self.standin.world.streams.loop
        assert loop is not None  # it serves
        loop.call_later(self.match_s, self._match, ticket)
        return ticket

    def _match(self, ticket: Ticket) -> None:
        with self.standin.world.lock:
            self._publish("order", [ticket])
            self.exchange.match(ticket)

    def _batch(self, one: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Callable[[Call], Reply]:
        """create-batch and its kin: a list of answers, and beside it a list of codes; one that is refused keeps none from the others."""

        def batch(call: Call) -> Reply:
            category = Parameters(call.body).choice("category", CATEGORIES)
            requests = call.body.get("request")
            if not isinstance(requests, list) or not 1 <= len(requests) <= (10 if category == "spot" else 20):
                raise Refused(10001, "params error: request must be a list of orders")
            rows: list[dict[str, Any]] = []
            codes: list[dict[str, Any]] = []
            for asked in requests:
                body = {**(asked if isinstance(asked, dict) else {}), "category": category}
                row = {"category": category, "symbol": str(body.get("symbol", "")), "orderId": "", "orderLinkId": ""}
                try:
                    rows.append(row | one(body))
                    codes.append({"code": 0, "msg": "OK"})
                except Refused as refused:
                    rows.append(row | {"createAt": ""} if one == self._created else row)
                    codes.append({"code": refused.reply.code, "msg": refused.reply.message})
            return Reply({"list": rows}, extra={"list": codes})

        return batch

    def _created(self, body: Mapping[str, Any]) -> dict[str, Any]:
        ticket = self._taken(body)
        return {"orderId": ticket.order_id, "orderLinkId": ticket.link_id, "createAt": str(ticket.created_ms)}

    def _ticket(self, body: Mapping[str, Any]) -> Ticket:
        """The order that a change is about: category and symbol are asked for, orderId goes before orderLinkId."""
        given = Parameters(body)
        category = given.choice("category", CATEGORIES)
        symbol = self.exchange.instrument(category, given.text("symbol")).symbol
        if "orderId" not in given and "orderLinkId" not in given:
            raise Refused(10001, "params error: orderId or orderLinkId is required")
        found = (
            self.exchange.tickets.get(given.text("orderId"))
            if "orderId" in given
            else self.exchange.by_link.get(given.text("orderLinkId"))
        )
        chosen = found is not None and (found.category, found.symbol) == (category, symbol)
        if found is None or not chosen or (category == "spot" and given.text("orderFilter", "Order") != found.filter):
            raise Refused(*_GONE[category == "spot"])
        return found

    def _amended(self, body: Mapping[str, Any]) -> dict[str, Any]:
        given, ticket = Parameters(body), self._ticket(body)
        if not ticket.open:
            raise Refused(*_GONE[ticket.category == "spot"])
        instrument = self.standin.world.market.instruments[ticket.symbol]
        price, qty = given.decimal("price", ticket.price), given.decimal("qty", ticket.qty)
        trigger = given.decimal("triggerPrice", ticket.trigger)
        if price % Decimal(instrument.tick_size) or trigger % Decimal(instrument.tick_size):
            raise Refused(10001, "params error: price is not a multiple of the tick")
        if "qty" in given and (qty % Decimal(instrument.qty_step) or qty <= ticket.filled):
            raise Refused(10001, "params error: qty invalid")
        mark = self.exchange.mark(ticket.symbol)
        if ticket.status != WAITING and price != ticket.price and beyond(price, ticket.sign, mark):
            raise Refused(110003, "Order price exceeds the allowable range.")
        if trigger != ticket.trigger and (not ticket.trigger or ticket.rises != (trigger > mark)):
            raise Refused(110092 if ticket.rises else 110093, "the trigger price lies on the other side of the market")
        if (price, qty, trigger) == (ticket.price, ticket.qty, ticket.trigger) and not {"stopLoss", "takeProfit"} & set(
            body
        ):
            raise Refused(10001, "The order remains unchanged as the parameters entered match the existing ones.")
        ticket.stop = guard(given, "stopLoss", ticket.sign, mark) if "stopLoss" in given else ticket.stop
        ticket.take = guard(given, "takeProfit", -ticket.sign, mark) if "takeProfit" in given else ticket.take
        ticket.price, ticket.qty, ticket.trigger = price, qty, trigger
        self._publish("order", [ticket])
        return {"orderId": ticket.order_id, "orderLinkId": ticket.link_id}

    def _amend(self, call: Call) -> Reply:
        return Reply(self._amended(call.body))

    def _cancelled(self, body: Mapping[str, Any]) -> dict[str, Any]:
        order_id = Parameters(body).text("orderId", "")
        for (symbol, index), h in self.exchange.account.holdings.items():
            if order_id and order_id in (h.stop_id, h.take_id):  # the conditional order of a stop loss or take profit
                (self.exchange.set_stop if order_id == h.stop_id else self.exchange.set_take)(symbol, index, ZERO)
                return {"orderId": order_id, "orderLinkId": ""}
        ticket = self._ticket(body)
        if not ticket.open:
            raise Refused(*_GONE[ticket.category == "spot"])
        self.exchange.end(ticket, "Cancelled", "CancelByUser")
        return {"orderId": ticket.order_id, "orderLinkId": ticket.link_id}

    def _cancel(self, call: Call) -> Reply:
        return Reply(self._cancelled(call.body))

    def _cancel_all(self, call: Call) -> Reply:
        """Of contracts everything, stops of positions too, unless orderFilter says what; of spot the plain orders."""
        given, category, chosen = self._scope(call.body)
        spot = category == "spot"
        which = given.choice("orderFilter", (*FILTERS, "OpenOrder"), "Order" if spot else "")
        rows = []
        for ticket in list(self.exchange.alive.values()):
            plain = ticket.filter == "Order" or ticket.status != WAITING
            kind = "Order" if plain else ticket.filter
            if ticket.category == category and chosen(ticket.symbol) and which in ("", kind, "OpenOrder"):
                self.exchange.end(ticket, "Cancelled", "CancelByUser")
                rows.append({"orderId": ticket.order_id, "orderLinkId": ticket.link_id})
        if not spot and which in ("", "StopOrder") and given.text("stopOrderType", "") != "Stop":
            for (symbol, index), h in self.exchange.account.holdings.items():
                for order_id, remove in ((h.stop_id, self.exchange.set_stop), (h.take_id, self.exchange.set_take)):
                    if order_id and chosen(symbol):
                        rows.append({"orderId": order_id, "orderLinkId": ""})
                        remove(symbol, index, ZERO)
        return Reply({"list": rows, "success": "1"})

    def _scope(self, values: Mapping[str, Any]) -> tuple[Parameters, str, Callable[[str], bool]]:
        """(parameters, category, whether a symbol is meant): contracts are asked for by symbol, baseCoin or settleCoin."""
        given = Parameters(values)
        category = given.choice("category", CATEGORIES)
        instruments = self.standin.world.market.instruments
        if "symbol" in given:
            chosen = self.exchange.instrument(category, given.text("symbol")).symbol
            return given, category, lambda symbol: symbol == chosen
        if category in ("spot", "option"):
            return given, category, lambda _symbol: True
        if "baseCoin" in given:
            base = given.text("baseCoin")
            return given, category, lambda symbol: instruments[symbol].base_coin == base
        settles = given.text("settleCoin")
        return given, category, lambda _symbol: settles == "USDT"

    def _tickets(self, given: Parameters, category: str, chosen: Callable[[str], bool], alive: bool) -> list[Ticket]:
        """Matching orders that REST shows by now, oldest first; all open ones where no id is asked for and `alive`."""
        exchange, which = self.exchange, given.choice("orderFilter", FILTERS, "")
        if "orderId" in given:
            one = exchange.tickets.get(given.text("orderId"))
        else:
            one = exchange.by_link.get(given.text("orderLinkId", ""))
        if "orderLinkId" in given or "orderId" in given:
            found = [one] if one is not None else []
        else:
            found = list(exchange.alive.values() if alive else exchange.tickets.values())
        now = time.monotonic()
        return [
            t for t in found
            if t.visible_at <= now and t.category == category and chosen(t.symbol) and which in ("", t.filter)
        ]  # fmt: skip

    def _realtime(self, call: Call) -> Reply:
        """Open orders; by an id, or with openOnly=1, up to 500 recently closed ones too."""
        given, category, chosen = self._scope(call.query)
        by_id = "orderId" in given or "orderLinkId" in given
        closed = given.whole("openOnly", 0, 0, 1) == 1
        rows = self._tickets(given, category, chosen, alive=not closed)
        recent = set(itertools.islice(reversed(self.exchange.tickets), 500))
        rows = [t for t in rows if t.open or t.order_id in recent]
        conditional = []
        if not by_id and category == "linear" and given.text("orderFilter", "") != "Order":
            for (symbol, index), h in self.exchange.account.holdings.items():
                conditional += guard_rows(symbol, index, h) if chosen(symbol) else []
        return page([*conditional, *(order_row(t) for t in rows[::-1])], call, 50)

    def _history(self, call: Call) -> Reply:
        """Closed orders; one that was never filled is forgotten after a day."""
        given = Parameters(call.query)
        category = given.choice("category", CATEGORIES)
        symbol = self.exchange.instrument(category, given.text("symbol")).symbol if "symbol" in given else ""
        found = self._tickets(given, category, lambda name: symbol in ("", name), alive=False)
        now = self.standin.world.clock.now_ms()
        start, end = given.window(now)
        if ("orderId" in given or "orderLinkId" in given) and "startTime" not in given and "endTime" not in given:
            start, end = 0, now
        rows = [
            t for t in found
            if not t.open and start <= t.created_ms <= end and (t.filled or now - t.updated_ms <= DAY_MS)
            and given.text("orderStatus", t.status) == t.status
        ]  # fmt: skip
        return page([order_row(t) for t in rows[::-1]], call, 50)

    def _executions(self, call: Call) -> Reply:
        given = Parameters(call.query)
        category = given.choice("category", CATEGORIES)
        symbol = self.exchange.instrument(category, given.text("symbol")).symbol if "symbol" in given else ""
        start, end = given.window(self.standin.world.clock.now_ms())
        rows: list[Fill] = []
        for fill in reversed(self.exchange.fills):
            if fill.time_ms < start - DAY_MS:  # booked in time order but for settlements found late
                break
            t = fill.ticket
            if not start <= fill.time_ms <= end or t.category != category or symbol not in ("", t.symbol):
                continue
            if given.text("orderLinkId", t.link_id) == t.link_id and given.text("orderId", t.order_id) == t.order_id:
                rows.append(fill)
        kind = given.text("execType", "")
        rows = [f for f in rows if kind in ("", f.kind)]
        rows.sort(key=lambda f: (f.time_ms, f.seq), reverse=True)
        return page([fill_row(f) for f in rows], call, 100, default=50)

    # the private WebSocket

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.tick_s)
            with self.standin.world.lock:
                self.exchange.advance()

    def _publish(self, topic: str, rows: list[Any]) -> None:
        """As messages look at this moment, sent `event_s` later."""
        now = self.standin.world.clock.now_ms()
        category = "linear"
        if topic == "order":
            data: list[dict[str, Any]] = [stream_order_row(t) for t in rows]
            category = rows[0].category
        elif topic == "execution":
            data = [{**fill_row(f), "category": f.ticket.category} for f in rows]
            category = rows[0].ticket.category
        elif topic == "position":
            places = [p for p in self.exchange.account.holdings if p[0] in rows]
            data = [stream_position_row(self.account.position(*p)) for p in places]
        else:
            data = [{k: v for k, v in self.account.wallet().items() if k != "totalPerpUPL"} | {"totalPerpUPL": "0"}]
        message = {"id": f"{now}-{topic}", "topic": topic, "creationTime": now, "data": data}
        for name in (topic, *([f"{topic}.{category}"] if topic != "wallet" else [])):  # all-in-one, and categorised
            self._deliver(name, {**message, "topic": name})

    def _deliver(self, topic: str, message: dict[str, Any]) -> None:
        streams = self.standin.world.streams
        if self.event_s and streams.loop is not None and streams.loop.is_running():
            streams.loop.call_soon_threadsafe(
                streams.loop.call_later, self.event_s, streams.publish, topic, message, "private"
            )
        else:
            streams.publish(topic, message, "private")
