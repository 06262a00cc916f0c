"""What the exchange holds: orders, fills and the account, and what is asked of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from data.standin.account import ZERO, Account
from data.standin.market import Instrument
from data.standin.tickets import WAITING, Fill, Ticket
from data.standin.world import Refused, World


@dataclass
class Desk:
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

    def instrument(self, category: str, symbol: str) -> Instrument:
        """Refused where a category has no such symbol: there are linear contracts, and spot pairs of the same names."""
        found = self.world.market.instruments.get(symbol) if category in ("linear", "spot") else None
        if found is None:
            raise Refused(10001 if category != "spot" else 170121, "params error: symbol invalid")
        return found

    def held(self, symbol: str, index: int) -> Decimal:
        h = self.account.holdings.get((symbol, index))
        return ZERO if h is None else h.size

    def resting(self, category: str) -> list[Ticket]:
        """Open orders of a category that are not waiting for their price."""
        return [t for t in self.alive.values() if t.category == category and t.status != WAITING]

    def order_margin(self) -> Decimal:
        """What resting orders of contracts reserve."""
        lever = self.account.leverage
        rows = [t for t in self.resting("linear") if not t.reduce_only]
        return sum((t.left * t.price / lever.get(t.symbol, Decimal(10)) for t in rows), ZERO)

    def locked(self, coin: str) -> Decimal:
        """What spot orders reserve of a coin."""
        amount = ZERO
        for ticket in self.alive.values():
            if ticket.category == "spot" and not (ticket.status == WAITING and ticket.filter == "StopOrder"):
                name, need = reserved(ticket, self.world.market.instruments[ticket.symbol])
                amount += need if name == coin else ZERO
        return amount

    def free(self, coin: str) -> Decimal:
        """What a spot order may spend of a coin."""
        if coin != "USDT":
            return self.account.coins.get(coin, ZERO) - self.locked(coin)
        marks = self.marks()
        bound = self.account.initial_margin(marks) + self.order_margin() + self.locked(coin)
        return min(self.account.equity(marks), self.account.wallet) - bound


def reserved(ticket: Ticket, instrument: Instrument) -> tuple[str, Decimal]:
    """(coin, amount) that a spot order keeps for itself."""
    if ticket.side == "Sell":
        price = ticket.price or ticket.trigger
        return instrument.base_coin, ticket.left / price if ticket.by_value and price else ticket.left
    return instrument.quote_coin, ticket.left if ticket.by_value else ticket.left * (ticket.price or ticket.trigger)
