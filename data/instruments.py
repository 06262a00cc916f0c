"""What an exchange says of a symbol: the rules that its orders must respect."""

from __future__ import annotations

from dataclasses import dataclass

#: `status` of a symbol in instruments-info
STATUSES = ("PreLaunch", "Trading", "Delivering", "Closed", "Settling")


@dataclass(frozen=True)
class InstrumentInfo:
    """What an order must respect. tick_size, qty_step, min_qty, min_notional: decimal strings as the exchange gives them.

    funding_minutes: between settlements now (it may have been another before); 0 for spot.
    """

    symbol: str
    category: str
    status: str
    launch_ms: int
    tick_size: str
    qty_step: str
    min_qty: str
    min_notional: str
    funding_minutes: int

    def order_rules(self) -> dict[str, float]:
        """As a backtest takes them: lot (base units), tick (price), minimum_notional (quote)."""
        return {
            "lot": float(self.qty_step),
            "tick": float(self.tick_size),
            "minimum_notional": float(self.min_notional),
        }
