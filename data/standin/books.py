"""The stand-in's order books: seeded levels around the price, or levels that a test pins; snapshots and deltas of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from data.standin.clock import Clock
from data.standin.market import Market

Levels = list[tuple[str, str]]

#: sizes of a seeded book change this often, level by level
STIR_MS = 500


class Books:
    """`pin` a book to script it (paper trading tests match against it); otherwise it follows the price."""

    def __init__(self, market: Market, clock: Clock) -> None:
        self.market, self.clock = market, clock
        self._pinned: dict[str, tuple[Levels, Levels]] = {}

    def pin(self, symbol: str, bids: Levels, asks: Levels) -> None:
        """bids: best (highest) first, asks: best (lowest) first; (price, size) as decimal strings."""
        self._pinned[symbol] = (list(bids), list(asks))

    def levels(self, symbol: str, depth: int) -> tuple[Levels, Levels]:
        """(bids, asks) now, best first, at most `depth` a side. A pinned book is used as it is."""
        return list(self.side(symbol, depth, asks=False)), list(self.side(symbol, depth, asks=True))

    def side(self, symbol: str, depth: int, asks: bool) -> Iterator[tuple[str, str]]:
        """One side of the book now, best first, level by level as it is asked for."""
        if symbol in self._pinned:
            yield from self._pinned[symbol][asks][:depth]
            return
        instrument, now = self.market.instruments[symbol], self.clock.now_ms()
        tick, step, salt = instrument.tick, float(instrument.qty_step), zlib.crc32(symbol.encode())
        middle = round(self.market.price(symbol, now) / tick)
        price, size, largest = instrument.price_digits, instrument.qty_digits, 5e4 / (instrument.price * 500)
        for t in range(middle + 1, middle + 1 + depth) if asks else range(middle, max(middle - depth, 0), -1):
            epoch = (now + t % 7 * STIR_MS // 7) // STIR_MS
            mixed = (t * 2_654_435_761 + epoch * 40_503 + salt) % 1_000_003
            units = max((1 + mixed % 997) * largest // step, 1.0)
            yield f"{t * tick:.{price}f}", f"{units * step:.{size}f}"


class BookFeed:
    """One `orderbook.{depth}.{symbol}` stream: a snapshot, then deltas whose `u` goes up by one."""

    def __init__(self, books: Books, symbol: str, depth: int, first_u: int = 1000) -> None:
        self.books, self.symbol, self.depth = books, symbol, depth
        self.u = first_u
        self._sent: tuple[dict[str, str], dict[str, str]] = ({}, {})

    @property
    def topic(self) -> str:
        return f"orderbook.{self.depth}.{self.symbol}"

    def snapshot(self) -> dict[str, Any]:
        self.u += 1
        bids, asks = self.books.levels(self.symbol, self.depth)
        self._sent = (dict(bids), dict(asks))
        return self._message("snapshot", bids, asks)

    def delta(self) -> dict[str, Any] | None:
        """What has changed since the last message; None where nothing has. Depth 1 repeats whole snapshots."""
        if self.depth == 1:
            return self.snapshot()
        sides = [dict(levels) for levels in self.books.levels(self.symbol, self.depth)]
        changes = []
        for old, new in zip(self._sent, sides, strict=True):
            gone = [(price, "0") for price in old if price not in new]
            changes.append(gone + [(price, size) for price, size in new.items() if old.get(price) != size])
        if not any(changes):
            return None
        self._sent = (sides[0], sides[1])
        self.u += 1
        return self._message("delta", changes[0], changes[1])

    def _message(self, kind: str, bids: Levels, asks: Levels) -> dict[str, Any]:
        now = self.books.clock.now_ms()
        data = {
            "s": self.symbol,
            "b": [list(x) for x in bids],
            "a": [list(x) for x in asks],
            "u": self.u,
            "seq": self.u * 7,
        }
        return {"topic": self.topic, "type": kind, "ts": now, "data": data, "cts": now - 2}
