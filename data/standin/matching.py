"""Orders of the stand-in: what is refused at the door, what fills against the book, what rests, what funding and liquidation do.

An order is acknowledged first; `match_ms` of real time later it meets the book. Everything here runs in the server's loop.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from data.standin.account import ZERO, Account
from data.standin.market import MINUTE_MS
from data.standin.world import Refused, World

TAKER, MAKER = Decimal("0.00055"), Decimal("0.0002")
COLLAR = Decimal("0.01")  # a market order becomes an IOC limit this far away
_LINK = re.compile(r"[A-Za-z0-9_-]{1,36}")


@dataclass
class Ticket:
    """An order as the exchange keeps it."""

    order_id: str
    link_id: str
    symbol: str
    side: str
    kind: str
    time_in_force: str
    qty: Decimal
    price: Decimal
    reduce_only: bool
    index: int
    created_ms: int
    updated_ms: int
    status: str = "New"
    filled: Decimal = ZERO
    value: Decimal = ZERO
    fee: Decimal = ZERO
    reject: str = "EC_NoError"
    cancel: str = "UNKNOWN"
    visible_at: float = 0.0  # real time (monotonic) from which REST shows it
    stop: Decimal = ZERO  # stop loss that comes with the order
    created_by: str = ""  # createType of what the exchange sent itself

    @property
    def left(self) -> Decimal:
        return self.qty - self.filled

    @property
    def sign(self) -> int:
        return 1 if self.side == "Buy" else -1

    @property
    def open(self) -> bool:
        return self.status in ("New", "PartiallyFilled")

    @property
    def average(self) -> Decimal:
        return self.value / self.filled if self.filled else ZERO


@dataclass
class Fill:
    """One row of the execution list."""

    exec_id: str
    ticket: Ticket
    kind: str
    side: str
    qty: Decimal
    price: Decimal
    fee: Decimal
    rate: Decimal
    maker: bool
    closed: Decimal
    time_ms: int
    seq: int
    mark: Decimal


@dataclass
class Exchange:
    """Orders, fills and the account. `publish(topic, rows)` is told of every change.

    liquidity: largest quantity that one match may take from the book (None: the book's own); 0 is an empty book.
    """

    world: World
    account: Account = field(default_factory=Account)
    publish: Callable[[str, list[Any]], None] = lambda _topic, _rows: None
    liquidity: Decimal | None = None
    tickets: dict[str, Ticket] = field(default_factory=dict)
    by_link: dict[str, Ticket] = field(default_factory=dict)
    alive: dict[str, Ticket] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    settled_ms: int = 0
    _seq: Any = field(default_factory=lambda: itertools.count(1000))

    def mark(self, symbol: str, at_ms: int | None = None) -> Decimal:
        now = self.world.clock.now_ms() if at_ms is None else at_ms
        digits = self.world.market.instruments[symbol].price_digits
        return Decimal(f"{self.world.market.price(symbol, now):.{digits}f}")

    def marks(self) -> dict[str, Decimal]:
        return {symbol: self.mark(symbol) for symbol, _ in self.account.holdings}

    def accept(self, body: dict[str, Any]) -> Ticket:
        """Check an order and take it into the book of orders; Refused with the retCode the exchange would answer."""
        symbol = str(body.get("symbol", ""))
        instrument = self.world.market.instruments.get(symbol)
        if body.get("category") != "linear" or instrument is None:
            raise Refused(10001, "params error: symbol invalid")
        for name in ("qty", *(["price"] if body.get("orderType") == "Limit" else [])):
            if not isinstance(body.get(name), str):
                raise Refused(10001, f"params error: {name} must be a string")
        side, kind = body.get("side"), body.get("orderType")
        if side not in ("Buy", "Sell") or kind not in ("Market", "Limit"):
            raise Refused(10001, "params error: side or orderType invalid")
        qty = Decimal(body["qty"])
        price = Decimal(body["price"]) if kind == "Limit" else ZERO
        index = int(body.get("positionIdx", 0))
        if index not in ((1, 2) if self.account.hedge else (0,)):
            raise Refused(10001, "position idx not match position mode")
        largest = Decimal(instrument.max_market_qty if kind == "Market" else instrument.max_order_qty)
        whole = not qty and body.get("reduceOnly") is True and body.get("closeOnTrigger") is True
        if whole:  # create-order: all that is held, up to the largest order
            qty = min(abs(self.account.holding(symbol, index).size), largest)
        elif qty % Decimal(instrument.qty_step) or qty < Decimal(instrument.min_order_qty) or qty <= 0:
            raise Refused(10001, f"The number of contracts {qty} is below the minimum or not a multiple of the step")
        if qty > largest:
            raise Refused(10001, "The number of contracts exceeds maximum limit allowed")
        if kind == "Limit" and (price <= 0 or price % Decimal(instrument.tick_size)):
            raise Refused(10001, "params error: price is not a multiple of the tick")
        link = str(body.get("orderLinkId") or "")
        if link and not _LINK.fullmatch(link):
            raise Refused(10001, "params error: orderLinkId invalid")
        if link and link in self.by_link:
            raise Refused(110072, "OrderLinkedID is duplicate")
        sign = 1 if side == "Buy" else -1
        held = self.account.holding(symbol, index).size
        reduce_only = bool(body.get("reduceOnly", False))
        mark = self.mark(symbol)
        if reduce_only:
            if held * sign >= 0:
                raise Refused(110017, "current position is zero, cannot fix reduce-only order qty")
            qty = min(qty, abs(held))
        elif qty * (price or mark) < Decimal(instrument.min_notional):
            raise Refused(110094, "Order does not meet minimum order value")
        opening = max(abs(held + sign * qty) - abs(held), ZERO)
        marks = {**self.marks(), symbol: mark}
        need = opening * mark / self.account.leverage.get(symbol, Decimal(10))
        if need > self.account.equity(marks) - self.account.initial_margin(marks):
            raise Refused(110007, "ab not enough for new order")
        stop = self.checked_stop(body.get("stopLoss"), sign, mark)
        now = self.world.clock.now_ms()
        force = "IOC" if kind == "Market" else str(body.get("timeInForce", "GTC"))
        if kind == "Market":
            tick = Decimal(instrument.tick_size)
            price = (mark * (1 + sign * COLLAR) // tick) * tick
        ticket = Ticket(
            str(uuid.uuid4()), link, symbol, side, kind, force, qty, price, reduce_only, index, now, now, stop=stop
        )  # fmt: skip
        self.tickets[ticket.order_id] = self.alive[ticket.order_id] = ticket
        if link:
            self.by_link[link] = ticket
        return ticket

    def match(self, ticket: Ticket, resting: bool = False) -> None:
        """Let an order meet the book once. resting: it has been in the book already, so it makes."""
        if not ticket.open:
            return
        side = 1 if ticket.side == "Buy" else 0
        levels = self.world.books.levels(ticket.symbol, 1)[side]
        if levels and ticket.sign * (ticket.price - Decimal(levels[0][0])) >= 0:
            levels = self.world.books.levels(ticket.symbol, 50)[side]
        crossing = [(Decimal(p), Decimal(q)) for p, q in levels if ticket.sign * (ticket.price - Decimal(p)) >= 0]
        if ticket.time_in_force == "PostOnly" and not resting and crossing:
            ticket.reject = "EC_PostOnlyWillTakeLiquidity"
            return self._end(ticket, "Cancelled", "CancelByPostOnly")
        room = self.liquidity
        for price, size in crossing:
            take = min(ticket.left, size if room is None else min(size, room))
            if ticket.reduce_only:
                held = self.account.holding(ticket.symbol, ticket.index).size
                take = min(take, max(-ticket.sign * held, ZERO))
            if take <= 0:
                break
            self._fill(ticket, take, ticket.price if resting else price, resting)
            room = None if room is None else room - take
            if not ticket.left:
                break
        if ticket.left and ticket.time_in_force == "IOC":
            ticket.reject = "EC_NoImmediateQtyToFill"
            return self._end(ticket, "Cancelled", "UNKNOWN")
        if ticket.open:
            self.publish("order", [ticket])

    def _fill(self, ticket: Ticket, qty: Decimal, price: Decimal, maker: bool) -> None:
        rate = MAKER if maker else TAKER
        fee = (qty * price * rate).quantize(Decimal("1E-8"))
        now = self.world.clock.now_ms()
        mark = self.mark(ticket.symbol)
        closed = self.account.fill(ticket.symbol, ticket.index, ticket.sign * qty, price, fee, now)
        holding = self.account.holding(ticket.symbol, ticket.index)
        if ticket.stop and holding.size * ticket.sign > 0:
            self.set_stop(ticket.symbol, ticket.index, ticket.stop)
        ticket.filled += qty
        ticket.value += qty * price
        ticket.fee += fee
        ticket.updated_ms = now
        ticket.status = "PartiallyFilled" if ticket.left else "Filled"
        fill = Fill(
            str(uuid.uuid4()),
            ticket,
            "Trade",
            ticket.side,
            qty,
            price,
            fee,
            rate,
            maker,
            closed,
            now,
            next(self._seq),
            mark,
        )
        self.fills.append(fill)
        self.publish("execution", [fill])
        if not ticket.left:
            self.alive.pop(ticket.order_id, None)
            self.publish("order", [ticket])
        self.publish("position", [ticket.symbol])
        self.publish("wallet", [])

    def _end(self, ticket: Ticket, status: str, how: str) -> None:
        ticket.status, ticket.cancel, ticket.updated_ms = status, how, self.world.clock.now_ms()
        self.alive.pop(ticket.order_id, None)
        self.publish("order", [ticket])

    def cancel(self, ticket: Ticket) -> None:
        if not ticket.open:
            raise Refused(110001, "order not exists or too late to cancel")
        self._end(ticket, "Cancelled", "CancelByUser")

    def advance(self) -> None:
        """Bring the account up to the clock: settlements that have passed, resting orders, liquidation."""
        now = self.world.clock.now_ms()
        began, self.settled_ms = self.settled_ms or now, now
        # settled at whole minutes
        for symbol in {s for s, _ in self.account.holdings} if began // MINUTE_MS != now // MINUTE_MS else ():
            times, rates = self.world.market.settlements(symbol, began + 1, now)
            for time_ms, rate in zip(times.tolist(), rates.tolist(), strict=True):
                self._settle(symbol, int(time_ms), Decimal(f"{rate:.8f}"))
        self._trigger_stops(now)
        for ticket in [t for t in self.alive.values() if t.time_in_force != "IOC"]:
            self.match(ticket, resting=True)
        marks = self.marks()
        if self.account.maintenance(marks) > self.account.equity(marks):
            self._liquidate()

    def _settle(self, symbol: str, time_ms: int, rate: Decimal) -> None:
        mark = self.mark(symbol, time_ms)
        for (name, index), h in self.account.holdings.items():
            if name != symbol or not h.size:
                continue
            amount = (h.size * mark * rate).quantize(Decimal("1E-8"))
            self.account.pay_funding(amount)
            side = "Buy" if h.size > 0 else "Sell"
            ticket = Ticket(
                str(uuid.uuid4()), "", symbol, side, "UNKNOWN", "", ZERO, ZERO, False, index, time_ms, time_ms, "Filled"
            )
            fill = Fill(
                str(uuid.uuid4()), ticket, "Funding", side, abs(h.size), mark, amount, rate, False, ZERO, time_ms,
                next(self._seq), mark,
            )  # fmt: skip
            self.fills.append(fill)
            self.publish("execution", [fill])
        self.publish("wallet", [])

    def _liquidate(self) -> None:
        for (symbol, _index), h in list(self.account.holdings.items()):
            if h.size:
                self.close_by_exchange(symbol, _index, "BustTrade")

    # stop losses of whole positions

    def checked_stop(self, text: Any, sign: int, mark: Decimal) -> Decimal:
        """The price of a stop loss of a position of that sign; 0 where none is asked for."""
        if text in (None, "", "0"):
            return ZERO
        if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?", text):
            raise Refused(10001, "params error: stopLoss invalid")
        stop = Decimal(text)
        if sign * (mark - stop) <= 0:
            side, how = ("Buy", "lower") if sign > 0 else ("Sell", "higher")
            raise Refused(10001, f"StopLoss:{stop} set for {side} position should {how} than base_price:{mark}")
        return stop

    def set_stop(self, symbol: str, index: int, stop: Decimal) -> None:
        h = self.account.holding(symbol, index)
        h.stop, h.stop_id, h.stop_ms = stop, str(uuid.uuid4()) if stop else "", self.world.clock.now_ms()

    def _trigger_stops(self, now: int) -> None:
        """By the candles since the stop was set; of the one that forms, by the price now."""
        step = self.world.market.step_ms
        for (symbol, index), h in list(self.account.holdings.items()):
            if not h.size or not h.stop:
                continue
            candles, long = self.world.market.base(symbol), h.size > 0
            first = max(int(candles.opens_ms.searchsorted(h.stop_ms, side="right")) - 1, 0)
            for k in range(first, int(candles.opens_ms.searchsorted(now, side="right"))):
                begins = int(candles.opens_ms[k])
                worst = candles.low[k] if long else candles.high[k]
                reached, opened = Decimal(str(worst)), Decimal(str(candles.open[k]))
                if begins + step > now:
                    reached = self.mark(symbol, now)
                if reached > h.stop if long else reached < h.stop:
                    continue
                gap = begins > h.stop_ms and (opened < h.stop if long else opened > h.stop)
                when = begins + 1 if gap else min(begins + step // 2, now)
                self.close_by_exchange(
                    symbol, index, "Trade", opened if gap else h.stop, max(when, h.stop_ms), "CreateByStopLoss"
                )
                break

    def close_by_exchange(
        self, symbol: str, index: int, kind: str, price: Decimal | None = None, at_ms: int = 0, created_by: str = ""
    ) -> None:
        """The exchange closes a position itself (liquidation, auto-deleveraging, a stop loss): an execution without orderLinkId."""
        h = self.account.holding(symbol, index)
        mark, now = price or self.mark(symbol), at_ms or self.world.clock.now_ms()
        side = "Sell" if h.size > 0 else "Buy"
        qty = abs(h.size)
        fee = (qty * mark * TAKER).quantize(Decimal("1E-8"))
        ticket = Ticket(
            str(uuid.uuid4()),
            "",
            symbol,
            side,
            "Market",
            "IOC",
            qty,
            mark,
            True,
            index,
            now,
            now,
            "Filled",
            qty,
            qty * mark,
            fee,
            created_by=created_by,
        )
        closed = self.account.fill(symbol, index, -h.size, mark, fee, now)
        fill = Fill(
            str(uuid.uuid4()), ticket, kind, side, qty, mark, fee, TAKER, False, closed, now, next(self._seq), mark
        )
        self.fills.append(fill)
        self.publish("execution", [fill])
        self.publish("position", [symbol])
        self.publish("wallet", [])

    def by_hand(self, symbol: str, side: str, qty: str, index: int = 0) -> Ticket:
        """A person trades the same account through the website: no orderLinkId."""
        ticket = self.accept(
            {
                "category": "linear",
                "symbol": symbol,
                "side": side,
                "orderType": "Market",
                "qty": qty,
                "positionIdx": index,
            }
        )
        self.match(ticket)
        return ticket
