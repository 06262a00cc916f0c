"""What the exchange asks of orders of a symbol, asked again every day and after a refusal: filters, fee rates, risk tiers."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from data.panel import InputError
from strategies.paper.orders.account_rows import Instrument
from strategies.paper.orders.connection import Unavailable
from strategies.paper.orders.exchange import Exchange
from strategies.paper.records.journal import Journal

DAY_MS = 86_400_000


@dataclass
class Rules:
    """instruments: by symbol, as last told. leverage: set at the exchange; a risk tier that allows it bounds the position."""

    exchange: Exchange
    journal: Journal
    leverage: int
    instruments: dict[str, Instrument] = field(default_factory=dict)
    most_value: dict[str, Decimal] = field(default_factory=dict)  # largest value of a position at this leverage
    _day: int = -1

    def take(self, instrument: Instrument) -> bool:
        """True where it is not what was known; a change is told."""
        known = self.instruments.get(instrument.symbol)
        self.instruments[instrument.symbol] = instrument
        if known is None or known == instrument:
            return False
        changed = ", ".join(
            f"{name} {getattr(known, name)} -> {getattr(instrument, name)}"
            for name in ("tick", "step", "min_qty", "max_qty", "max_market_qty", "min_notional", "max_leverage")
            if getattr(known, name) != getattr(instrument, name)
        )
        self.journal.event("rules", f"{instrument.symbol}: the exchange has changed {changed}")
        return True

    def ask(self, symbol: str) -> bool:
        """Asks again; True where something has changed. InputError where the symbol does not trade any more."""
        return self.take(self.exchange.instrument(symbol))

    def daily(self, open_ms: int) -> dict[str, str]:
        """All symbols, once a day (of the bars): filters, fees, tiers. Returns why a symbol does not trade any more."""
        if open_ms // DAY_MS == self._day:
            return {}
        self._day = open_ms // DAY_MS
        closed = {}
        for symbol in list(self.instruments):
            try:
                self.ask(symbol)
                self._fees(symbol)
                self._tiers(symbol)
            except Unavailable as error:  # what is known holds until tomorrow
                self.journal.event("rules", f"{symbol}: could not be asked again ({error})")
            except InputError as error:
                closed[symbol] = str(error)
                self.instruments.pop(symbol)
        return closed

    def _fees(self, symbol: str) -> None:
        taker, maker = self.exchange.fees(symbol)
        now, known = f"taker {taker}, maker {maker}", self.journal.get(f"fees:{symbol}")
        if now != known:
            self.journal.set(**{f"fees:{symbol}": now})
            if known:
                self.journal.event("rules", f"{symbol}: fees are now {now} (were {known})")

    def _tiers(self, symbol: str) -> None:
        lever = min(Decimal(self.leverage), self.instruments[symbol].max_leverage)
        allowed = [value for value, most in self.exchange.tiers(symbol) if most >= lever]
        if allowed:
            self.most_value[symbol] = max(allowed)

    def within_tier(self, symbol: str, wanted: Decimal, price: float) -> tuple[Decimal, str]:
        """(position cut to the risk tier of this leverage, why; empty where it was not)."""
        most = self.most_value.get(symbol)
        if most is None or abs(wanted) * Decimal(str(price)) <= most:
            return wanted, ""
        cut = self.instruments[symbol].round_qty(most / Decimal(str(price)))
        return (
            cut if wanted > 0 else -cut
        ), f"cut to {cut}: at leverage {self.leverage} a position may be worth {most}"
