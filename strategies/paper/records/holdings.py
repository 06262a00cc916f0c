"""What a paper account holds of a symbol, by its journal: for the status and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from strategies.paper.records.journal import Journal


@dataclass(frozen=True)
class Holding:
    """average: entry price, 0 where the exchange has not told it since the last fill. weight: value at the last known close over
    the account's equity, signed."""

    size: Decimal = Decimal(0)
    average: Decimal = Decimal(0)
    weight: float = 0.0


def holdings(journal: Journal, equity: float) -> dict[str, Holding]:
    """Of every symbol that the account trades. equity: of the account."""
    return {symbol: holding(journal, symbol, equity) for symbol in journal.symbols}


def exposure(held: Mapping[str, Holding]) -> tuple[float, float]:
    """(gross, net) of equity."""
    weights = [each.weight for each in held.values()]
    return sum(map(abs, weights)), sum(weights)


def holding(journal: Journal, symbol: str, equity: float) -> Holding:
    """Where the journal began plus every execution. equity: of the account."""
    size = Decimal(journal.get(f"baseline_size:{symbol}", "0")) + journal.ledger(symbol).size
    told = journal.rows("SELECT size, average FROM positions WHERE symbol = ? ORDER BY id DESC LIMIT 1", symbol)
    average = Decimal(told[0]["average"]) if told and Decimal(told[0]["size"]) == size else Decimal(0)
    close = "SELECT close FROM candles WHERE symbol = ? AND close IS NOT NULL ORDER BY open_ms DESC LIMIT 1"
    price = journal.rows(close, symbol)
    weight = float(size) * float(price[0]["close"]) / equity if price and equity > 0 else 0.0
    return Holding(size, average, weight)
