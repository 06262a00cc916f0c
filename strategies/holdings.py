"""What a paper account holds of a symbol, by its journal: for the status and the page."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from strategies.journal import Journal


@dataclass(frozen=True)
class Holding:
    """weight: value at the last known close over the account's equity, signed."""

    size: Decimal = Decimal(0)
    average: Decimal = Decimal(0)
    weight: float = 0.0


def holding(journal: Journal, symbol: str, equity: float) -> Holding:
    """As of the last comparison with the exchange. equity: of the account."""
    query = "SELECT size, average FROM positions WHERE symbol = ? ORDER BY id DESC LIMIT 1"
    close = "SELECT close FROM candles WHERE symbol = ? AND close IS NOT NULL ORDER BY open_ms DESC LIMIT 1"
    held, price = journal.rows(query, symbol), journal.rows(close, symbol)
    if not held:
        return Holding()
    size = Decimal(held[0]["size"])
    weight = float(size) * float(price[0]["close"]) / equity if price and equity > 0 else 0.0
    return Holding(size, Decimal(held[0]["average"] or 0), weight)
