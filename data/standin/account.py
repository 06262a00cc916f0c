"""A unified account: wallet, positions of linear contracts (one-way or hedge), margin, coins of spot; in decimals."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

ZERO = Decimal(0)
MAINTENANCE = Decimal("0.005")


@dataclass
class Holding:
    """One row of the position list. size is signed. stop, take: prices of stop loss and take profit of the whole position (0: none),
    with the ids of their conditional orders and when they were set."""

    size: Decimal = ZERO
    average: Decimal = ZERO
    realised: Decimal = ZERO
    updated_ms: int = 0
    stop: Decimal = ZERO
    stop_id: str = ""
    stop_ms: int = 0
    take: Decimal = ZERO
    take_id: str = ""
    take_ms: int = 0

    def profit(self, mark: Decimal) -> Decimal:
        return self.size * (mark - self.average)


@dataclass
class Account:
    """hedge: positionIdx 1 (long) and 2 (short) per symbol, else 0; hedged: symbols that differ. leverage: per symbol. wallet: in `coin`,
    which contracts settle in; coins: the others, bought on spot (they are no collateral)."""

    wallet: Decimal = Decimal(100_000)
    coin: str = "USDT"
    hedge: bool = False
    hedged: dict[str, bool] = field(default_factory=dict)
    coins: dict[str, Decimal] = field(default_factory=dict)
    holdings: dict[tuple[str, int], Holding] = field(default_factory=dict)
    leverage: dict[str, Decimal] = field(default_factory=dict)
    fees: Decimal = ZERO
    funding: Decimal = ZERO

    def indices(self, symbol: str) -> tuple[int, ...]:
        """The positionIdx that a symbol's mode has."""
        return (1, 2) if self.hedged.get(symbol, self.hedge) else (0,)

    def holding(self, symbol: str, index: int) -> Holding:
        return self.holdings.setdefault((symbol, index), Holding())

    def size(self, symbol: str) -> Decimal:
        return sum((h.size for (s, _), h in self.holdings.items() if s == symbol), ZERO)

    def fill(self, symbol: str, index: int, signed: Decimal, price: Decimal, fee: Decimal, now_ms: int) -> Decimal:
        """Book a fill; returns how much of it closed."""
        h = self.holding(symbol, index)
        closed = ZERO
        if h.size * signed < 0:
            closed = min(abs(signed), abs(h.size))
            gain = closed * (price - h.average) * (1 if h.size > 0 else -1)
            h.realised += gain
            self.wallet += gain
        if abs(signed) >= abs(h.size) and h.size * signed < 0:  # closed, or turned round: its stop is cancelled with it
            h.stop, h.stop_id, h.take, h.take_id = ZERO, "", ZERO, ""
        opened = abs(signed) - closed
        before = abs(h.size) - closed
        if opened:
            h.average = (h.average * before + price * opened) / (before + opened)
        h.size += signed
        if h.size == 0:
            h.average = ZERO
        h.updated_ms = now_ms
        self.wallet -= fee
        self.fees += fee
        return closed

    def pay_funding(self, amount: Decimal) -> None:
        self.wallet -= amount
        self.funding += amount

    def unrealised(self, marks: dict[str, Decimal]) -> Decimal:
        return sum((h.profit(marks[s]) for (s, _), h in self.holdings.items() if h.size), ZERO)

    def equity(self, marks: dict[str, Decimal]) -> Decimal:
        return self.wallet + self.unrealised(marks)

    def initial_margin(self, marks: dict[str, Decimal]) -> Decimal:
        return sum(
            (
                abs(h.size) * marks[s] / self.leverage.get(s, Decimal(10))
                for (s, _), h in self.holdings.items()
                if h.size
            ),
            ZERO,
        )

    def maintenance(self, marks: dict[str, Decimal]) -> Decimal:
        return sum((abs(h.size) * marks[s] * MAINTENANCE for (s, _), h in self.holdings.items() if h.size), ZERO)
