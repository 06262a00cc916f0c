"""Orders and fills as the exchange keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from data.standin.account import ZERO

WAITING = "Untriggered"


@dataclass
class Ticket:
    """An order. trigger: price that a conditional order waits for (0: it does not wait); rises: from below, else from above."""

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
    stop: Decimal = ZERO  # stop loss and take profit that come with the order
    take: Decimal = ZERO
    created_by: str = ""  # createType of what the exchange sent itself
    category: str = "linear"
    by_value: bool = False  # spot market buy: qty is in the quote coin
    trigger: Decimal = ZERO
    rises: bool = False
    trigger_by: str = "LastPrice"
    filter: str = "Order"  # orderFilter: Order, StopOrder, tpslOrder

    @property
    def left(self) -> Decimal:
        return self.qty - (self.value if self.by_value else self.filled)

    @property
    def sign(self) -> int:
        return 1 if self.side == "Buy" else -1

    @property
    def open(self) -> bool:
        return self.status in ("New", "PartiallyFilled", WAITING)

    @property
    def average(self) -> Decimal:
        return self.value / self.filled if self.filled else ZERO


@dataclass
class Fill:
    """One row of the execution list. gain: profit realised by what it closed; entry: average price of that; size, balance: position
    and wallet after it."""

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
    fee_coin: str = "USDT"
    gain: Decimal = ZERO
    entry: Decimal = ZERO
    size: Decimal = ZERO
    balance: Decimal = ZERO
