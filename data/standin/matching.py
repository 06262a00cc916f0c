"""Orders of the stand-in: what fills against the book, what rests, what funding and liquidation do.

An order is acknowledged first; `match_ms` of real time later it meets the book. Everything here runs in the server's loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from data.standin.account import ZERO
from data.standin.admission import admitted, carry
from data.standin.conditional import due_guards, due_orders
from data.standin.desk import Desk
from data.standin.market import MINUTE_MS
from data.standin.tickets import WAITING, Fill, Ticket
from data.standin.world import Refused

TAKER, MAKER, SPOT_FEE = Decimal("0.00055"), Decimal("0.0002"), Decimal("0.001")


class Exchange(Desk):
    """Matches, funds and liquidates what the desk holds."""

    def accept(self, body: Mapping[str, Any]) -> Ticket:
        """Check an order and take it into the book of orders; Refused with the retCode the exchange would answer."""
        ticket = admitted(self, body)
        self.enter(ticket)
        return ticket

    def enter(self, ticket: Ticket) -> None:
        self.tickets[ticket.order_id] = self.alive[ticket.order_id] = ticket
        if ticket.link_id:
            self.by_link[ticket.link_id] = ticket

    def match(self, ticket: Ticket, resting: bool = False) -> None:
        """Let an order meet the book once. resting: it has been in the book already, so it makes."""
        if not ticket.open or ticket.status == WAITING:
            return
        crossing = self._crossing(ticket)
        if ticket.time_in_force == "PostOnly" and not resting and next(crossing, None) is not None:
            ticket.reject = "EC_PostOnlyWillTakeLiquidity"
            return self.end(ticket, "Cancelled", "CancelByPostOnly")
        room = self.liquidity
        if ticket.time_in_force == "FOK":
            there = sum((size for _, size in self._crossing(ticket)), ZERO)
            if (there if room is None else min(there, room)) < ticket.left:
                ticket.reject = "EC_NoEnoughQtyToFill"
                return self.end(ticket, "Cancelled", "UNKNOWN")
        step = Decimal(self.world.market.instruments[ticket.symbol].qty_step)
        for price, size in crossing:
            left = ticket.left / price // step * step if ticket.by_value else ticket.left
            take = min(left, size if room is None else min(size, room))
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
            if (
                ticket.by_value and ticket.filled and ticket.left / ticket.price < step
            ):  # a rest of the quote coin that buys no step
                return self.end(ticket, "Filled", "UNKNOWN")
            ticket.reject = "EC_NoImmediateQtyToFill"
            return self.end(ticket, "Cancelled", "UNKNOWN")
        if ticket.open:
            self.publish("order", [ticket])

    def _crossing(self, ticket: Ticket) -> Iterator[tuple[Decimal, Decimal]]:
        """(price, size) of the levels that an order's price reaches, best first, as far as they are asked for."""
        for level in self.world.books.side(ticket.symbol, 50, asks=ticket.side == "Buy"):
            price = Decimal(level[0])
            if ticket.sign * (ticket.price - price) < 0:
                return
            yield price, Decimal(level[1])

    def _fill(self, ticket: Ticket, qty: Decimal, price: Decimal, maker: bool) -> None:
        spot = ticket.category == "spot"
        rate = SPOT_FEE if spot else MAKER if maker else TAKER
        ticket.filled += qty
        ticket.value += qty * price
        fill = self._exchange_coins(ticket, qty, price) if spot else self._exchange_contracts(ticket, qty, price, rate)
        fill.rate, fill.maker = rate, maker
        ticket.fee += fill.fee
        ticket.updated_ms = fill.time_ms
        ticket.status = "PartiallyFilled" if ticket.left else "Filled"
        self.fills.append(fill)
        self.publish("execution", [fill])
        if not ticket.left:
            self.alive.pop(ticket.order_id, None)
            self.publish("order", [ticket])
        if not spot:
            self.publish("position", [ticket.symbol])
        self.publish("wallet", [])

    def _exchange_contracts(self, ticket: Ticket, qty: Decimal, price: Decimal, rate: Decimal) -> Fill:
        symbol, account = ticket.symbol, self.account
        fill = self.book(ticket, ticket.index, ticket.sign * qty, price, rate, self.world.clock.now_ms())
        if account.holding(symbol, ticket.index).size * ticket.sign > 0:
            if ticket.stop:
                self.set_stop(symbol, ticket.index, ticket.stop)
            if ticket.take:
                self.set_take(symbol, ticket.index, ticket.take)
        return fill

    def book(
        self, ticket: Ticket, index: int, signed: Decimal, price: Decimal, rate: Decimal, now: int, kind: str = "Trade"
    ) -> Fill:
        """A trade of contracts: into position and wallet, and as a row of the execution list."""
        account, symbol = self.account, ticket.symbol
        fee = (abs(signed) * price * rate).quantize(Decimal("1E-8"))
        holding = account.holding(symbol, index)
        entry, before = holding.average, account.wallet
        closed = account.fill(symbol, index, signed, price, fee, now)
        for other in list(self.alive.values()):  # stops of a part go with the position
            place = (other.symbol, other.index) == (symbol, index) and other.created_by.startswith("CreateByPartial")
            if not holding.size and place and other is not ticket:
                self.end(other, "Cancelled", "CancelByTpSlTsClear")
        side = "Buy" if signed > 0 else "Sell"
        return Fill(
            str(uuid.uuid4()), ticket, kind, side, abs(signed), price, fee, rate, False, closed, now, next(self._seq),
            self.mark(symbol), gain=account.wallet - before + fee, entry=entry, size=holding.size, balance=account.wallet,
        )  # fmt: skip

    def _exchange_coins(self, ticket: Ticket, qty: Decimal, price: Decimal) -> Fill:
        """Spot: the fee is taken from what is received."""
        instrument, account = self.world.market.instruments[ticket.symbol], self.account
        buys, value, now = ticket.side == "Buy", qty * price, self.world.clock.now_ms()
        fee = ((qty if buys else value) * SPOT_FEE).quantize(Decimal("1E-10"))
        base, coin = instrument.base_coin, instrument.base_coin if buys else instrument.quote_coin
        account.coins[base] = account.coins.get(base, ZERO) + (qty - fee if buys else -qty)
        account.wallet += -value if buys else value - fee
        return Fill(
            str(uuid.uuid4()), ticket, "Trade", ticket.side, qty, price, fee, SPOT_FEE, False, ZERO, now, next(self._seq),
            self.mark(ticket.symbol), coin, size=account.coins[base], balance=account.wallet,
        )  # fmt: skip

    def end(self, ticket: Ticket, status: str, how: str) -> None:
        if ticket.category == "spot" and status == "Cancelled":  # only spot tells it by the status
            status = (
                "PartiallyFilledCanceled" if ticket.filled else "Deactivated" if ticket.status == WAITING else status
            )
        ticket.status, ticket.cancel, ticket.updated_ms = status, how, self.world.clock.now_ms()
        self.alive.pop(ticket.order_id, None)
        self.publish("order", [ticket])

    def cancel(self, ticket: Ticket) -> None:
        if not ticket.open:
            raise Refused(110001, "order not exists or too late to cancel")
        self.end(ticket, "Cancelled", "CancelByUser")

    def advance(self) -> None:
        """Bring the account up to the clock: settlements that have passed, resting orders, liquidation."""
        now = self.world.clock.now_ms()
        began, self.settled_ms = self.settled_ms or now, now
        # settled at whole minutes
        for symbol in {s for s, _ in self.account.holdings} if began // MINUTE_MS != now // MINUTE_MS else ():
            times, rates = self.world.market.settlements(symbol, began + 1, now)
            for time_ms, rate in zip(times.tolist(), rates.tolist(), strict=True):
                self._settle(symbol, int(time_ms), Decimal(f"{rate:.8f}"))
        for symbol, index, price, when, created_by in due_guards(self, now):
            self.close_by_exchange(symbol, index, "Trade", price, when, created_by)
        for ticket in due_orders(self, now):
            self._trigger(ticket, now)
        for ticket in [t for t in self.alive.values() if t.time_in_force not in ("IOC", "FOK")]:
            self.match(ticket, resting=True)
        if any(h.size for h in self.account.holdings.values()):
            marks = self.marks()
            if self.account.maintenance(marks) > self.account.equity(marks):
                self._liquidate()

    def _trigger(self, ticket: Ticket, now: int) -> None:
        """A conditional order becomes an order; cancelled where the account cannot carry it now."""
        ticket.created_by, ticket.updated_ms = ticket.created_by or "CreateByStopOrder", now
        try:
            carry(self, ticket)
        except Refused as refused:
            ticket.reject = "EC_NoEnoughQtyToFill" if refused.reply.code == 110017 else "EC_Others"
            return self.end(ticket, "Cancelled", "UNKNOWN")
        ticket.status = "Triggered"
        self.publish("order", [ticket])
        ticket.status = "New"
        self.match(ticket)

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
                next(self._seq), mark, size=h.size, balance=self.account.wallet,
            )  # fmt: skip
            self.fills.append(fill)
            self.publish("execution", [fill])
        self.publish("wallet", [])

    def _liquidate(self) -> None:
        for (symbol, _index), h in list(self.account.holdings.items()):
            if h.size:
                self.close_by_exchange(symbol, _index, "BustTrade")

    def set_stop(self, symbol: str, index: int, stop: Decimal) -> None:
        h = self.account.holding(symbol, index)
        h.stop, h.stop_id, h.stop_ms = stop, str(uuid.uuid4()) if stop else "", self.world.clock.now_ms()

    def set_take(self, symbol: str, index: int, take: Decimal) -> None:
        h = self.account.holding(symbol, index)
        h.take, h.take_id, h.take_ms = take, str(uuid.uuid4()) if take else "", self.world.clock.now_ms()

    def close_by_exchange(
        self, symbol: str, index: int, kind: str, price: Decimal | None = None, at_ms: int = 0, created_by: str = ""
    ) -> None:
        """The exchange closes a position itself (liquidation, auto-deleveraging, a stop loss): an execution without orderLinkId."""
        h = self.account.holding(symbol, index)
        mark, now = price or self.mark(symbol), at_ms or self.world.clock.now_ms()
        side, qty = "Sell" if h.size > 0 else "Buy", abs(h.size)
        ticket = Ticket(
            str(uuid.uuid4()), "", symbol, side, "Market", "IOC", qty, mark, True, index, now, now, "Filled", qty, qty * mark,
            created_by=created_by,
        )  # fmt: skip
        fill = self.book(ticket, index, -h.size, mark, TAKER, now, kind)
        ticket.fee = fill.fee
        if created_by:  # a stop's order stays in the history; a liquidation's is the exchange's own
            self.tickets[ticket.order_id] = ticket
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
