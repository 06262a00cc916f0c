"""The protective stop of every position, at the exchange: it holds when this process does not. Set with the order that opens a position,
moved with it, compared whenever the position is, removed by the exchange with it.

The price is the average entry less (long) or plus (short) `strategies.backtest.terms.stop_distance` at the decision that changed the
position last: what the backtest's accounts do. Triggered by the mark price, reduce-only, the whole position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from strategies.backtest.terms import stop_distance
from strategies.paper.orders.account_rows import STOPPED, Position
from strategies.paper.orders.exchange import Exchange, Refused
from strategies.paper.orders.rules import Rules
from strategies.paper.records.journal import Execution, Journal


@dataclass
class Stops:
    """stop_loss: volatilities of a day; 0: none are set, and those of a person are left alone. close(symbol): closes a position whose stop
    cannot be set because the price is beyond it already."""

    exchange: Exchange
    journal: Journal
    rules: Rules
    stop_loss: float
    interval_ns: int
    close: Callable[[str], None] = lambda _: None
    told: Callable[[str], None] = lambda _: None

    def attached(self, symbol: str, side: str, close: float, volatility: float) -> Decimal | None:
        """The stop that goes with an order which opens or enlarges a position; None where there is none."""
        distance = stop_distance(self.stop_loss, volatility, self.interval_ns)
        return self._price(symbol, 1 if side == "Buy" else -1, Decimal(str(close)), distance) if distance else None

    def moved(self, symbol: str, volatility: float) -> None:
        """A decision has changed the position: from now on its stop is as far as this volatility says."""
        if self.stop_loss:
            distance = stop_distance(self.stop_loss, volatility, self.interval_ns)
            self.journal.set(**{f"stop_distance:{symbol}": repr(distance)})

    def hold(self, symbol: str, rows: Sequence[Position]) -> bool:
        """Brings the stop at the exchange to where it belongs. rows: of the position list, just read; True where they are no longer so,
        because a position was closed instead."""
        closed = False
        for row in rows if self.stop_loss else ():
            distance = self._distance(symbol)
            if not row.size or not distance or symbol not in self.rules.instruments:
                continue
            price = self._price(symbol, 1 if row.size > 0 else -1, row.average, distance)
            if price == row.stop:
                continue
            try:
                self.exchange.set_stop(symbol, row.position_idx, price)
                self.journal.event("stop_loss", f"{symbol}: {row.stop or 'none'} -> {price}")
            except Refused as error:
                self.journal.event("stop_loss", f"{symbol}: {price} refused ({error}): closed instead")
                self.told(
                    f"{symbol}: the exchange refuses the stop at {price} ({error}); the position is closed instead"
                )
                self.bar(symbol, 1 if row.size > 0 else -1)
                self.close(symbol)
                closed = True
        return closed

    def _distance(self, symbol: str) -> float:
        known = self.journal.get(f"stop_distance:{symbol}")
        if known:
            return float(known)
        query = (
            "SELECT volatility FROM decisions WHERE symbol = ? AND volatility IS NOT NULL ORDER BY open_ms DESC LIMIT 1"
        )
        rows = self.journal.rows(query, symbol)  # a position that was taken over
        return stop_distance(self.stop_loss, float(rows[0]["volatility"]), self.interval_ns) if rows else 0.0

    def _price(self, symbol: str, side: int, entry: Decimal, distance: float) -> Decimal:
        raw = float(entry) * (1.0 - side * distance)
        return self.rules.instruments[symbol].round_price(raw, up=side < 0)

    # what has been stopped out

    def take(self, new: Sequence[Execution]) -> list[Execution]:
        """Notes fills of our stops; returns the other executions."""
        if not self.stop_loss:
            return list(new)
        for e in (e for e in new if e.link_id == STOPPED):
            text = f"{e.symbol}: stop hit: {e.side} {e.qty} at {e.price}"
            self.journal.event("stop_hit", text)
            self.bar(e.symbol, 1 if e.side == "Sell" else -1)
            self.told(text)
        return [e for e in new if e.link_id != STOPPED]

    def bar(self, symbol: str, side: int) -> None:
        """No entry on this side until the target leaves it."""
        self.journal.set(**{f"barred:{symbol}": str(side), f"stop_distance:{symbol}": ""})

    def allowed(self, symbol: str, target: float) -> float:
        """The target, or 0 while the symbol is stopped out on its side."""
        barred = float(self.journal.get(f"barred:{symbol}") or 0)
        if not barred:
            return target
        if target * barred > 0:
            return 0.0
        self.journal.set(**{f"barred:{symbol}": ""})
        return target
