"""Closed bars of all traded symbols, with all that their model reads, brought into the journal and the history.

A candle is closed when a newer one exists: no clock is trusted for that. A bar counts once every symbol has closed it; from the
moment that one has, the others get `late_s`. One that is not there by then is unknown at that bar for good.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from data.series import Rows, SeriesKey
from strategies.paper.decisions.history import History
from strategies.paper.decisions.side_inputs import Companions
from strategies.paper.decisions.strategy import Strategy
from strategies.paper.orders.connection import Unavailable
from strategies.paper.orders.exchange import Exchange
from strategies.paper.records.journal import Candle, Journal

_MOST_KLINES = 1000
_HOUR_MS = 3_600_000
_UNKNOWN = (math.nan,) * 5
_Closed = tuple[int, dict[str, Candle]]
_Beside = tuple[dict[str, list[tuple[int, float]]], dict[SeriesKey, Rows]]


class Feed:
    """late_s: real seconds; history_bars: bars of the first start (0: what the model needs), or all from anchor_ms on."""

    def __init__(
        self,
        market: Exchange,
        journal: Journal,
        history: History,
        companions: Companions,
        interval: str,
        *,
        late_s: float,
        history_bars: int = 0,
        anchor_ms: int | None = None,
    ) -> None:
        self.market, self.journal, self.history, self.companions = market, journal, history, companions
        self.interval, self.late_s = interval, late_s
        self._history_bars, self._anchor_ms = history_bars, anchor_ms
        self._seen_s: dict[int, float] = {}  # bar -> when a symbol was first seen to have closed it
        self.fresh_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Since the last new bar."""
        return time.monotonic() - self.fresh_s

    def fetch(self, strategy: Strategy) -> None:
        """Takes every bar that counts by now. Unavailable where the exchange does not tell what is needed for that."""
        history = self.history
        tables, troubles = self._tables(strategy)
        newest = max(rows[-1][0] for rows in tables.values())
        begin = history.next_ms if history.count else min(rows[0][0] for rows in tables.values())
        if newest <= begin:
            return
        bars = self._counting(tables, begin, newest)
        if not bars:
            return
        self._take(bars, self._beside(strategy, bars, troubles), troubles)

    def _tables(self, strategy: Strategy) -> tuple[dict[str, list[Candle]], dict[str, str]]:
        """Per symbol its candles since the last bar, the forming one last; and why a symbol has none."""
        symbols, tables, troubles = self.history.symbols, {}, {}
        first = not self.history.count
        wanted = 3
        if first:
            wanted = (self._history_bars or strategy.history_bars) + 1
            if self._anchor_ms is not None:
                newest = self.market.klines(symbols[0], self.interval, 2)[-1][0]
                wanted = (newest - self._anchor_ms) // self.history.interval_ms + 1
        for symbol in symbols:
            try:
                tables[symbol] = self._klines(symbol, wanted, 0 if first else self.history.next_ms)
            except Unavailable as error:
                troubles[symbol] = str(error)
        if not tables or (first and troubles):
            raise Unavailable(next(iter(troubles.values())))
        return tables, troubles

    def _klines(self, symbol: str, wanted: int, since_ms: int) -> list[Candle]:
        """At least `wanted` rows, or back to `since_ms`; oldest first, the forming one last."""
        newest = self.market.klines(symbol, self.interval, max(3, min(wanted, _MOST_KLINES)))
        rows: dict[int, Candle] = {row[0]: row for row in newest}
        if not rows:
            raise Unavailable(f"the exchange sent no candles of {symbol}")
        while min(rows) > since_ms if since_ms else len(rows) < wanted:
            older = self.market.klines(symbol, self.interval, _MOST_KLINES, end_ms=min(rows) - 1)
            if not older or all(row[0] in rows for row in older):
                break
            rows.update({row[0]: row for row in older})
        ordered = [rows[k] for k in sorted(rows)]
        return ordered if since_ms else ordered[-wanted:]

    def _counting(self, tables: Mapping[str, Sequence[Candle]], begin: int, newest: int) -> list[_Closed]:
        """Bars begin..newest up to the first that a symbol may still close. Unavailable where nobody has one of them."""
        closed = {symbol: {row[0]: row for row in rows[:-1]} for symbol, rows in tables.items()}
        bars: list[_Closed] = []
        for open_ms in range(begin, newest, self.history.interval_ms):
            here = {symbol: rows[open_ms] for symbol, rows in closed.items() if open_ms in rows}
            if not here:
                raise Unavailable("the candles have a hole; asked again")
            bars.append((open_ms, here))
        waiting = [k for k, (t, here) in enumerate(bars) if len(here) < len(self.history.symbols) and not self._late(t)]
        return bars[: waiting[0]] if waiting else bars

    def _late(self, open_ms: int) -> bool:
        """Whether the others have waited long enough for who has not closed this bar. The only symbol is always waited for."""
        if len(self.history.symbols) == 1:
            return False
        now = time.monotonic()
        return now - self._seen_s.setdefault(open_ms, now) >= self.late_s

    def _beside(self, strategy: Strategy, bars: Sequence[_Closed], troubles: dict[str, str]) -> _Beside:
        """Funding and companions of the new bars. A symbol that has waited long enough for its own leaves these bars."""
        history = self.history
        anchor = history.first_ms if history.count else bars[0][0]
        close = bars[-1][0] + history.interval_ms
        shared = [key for key in strategy.companions if key.symbol not in history.symbols]
        news = self.companions.news(shared, anchor, close) if shared else {}
        rates: dict[str, list[tuple[int, float]]] = {}
        for symbol in history.symbols:
            known = [open_ms for open_ms, here in bars if symbol in here]
            if not known:
                continue
            close = known[-1] + history.interval_ms
            before = history.known_ms.get(symbol, -history.interval_ms) + history.interval_ms
            mine = [key for key in strategy.companions if key.symbol == symbol]
            try:
                # settled at full hours only
                paid = self.market.settlements(symbol, close) if before // _HOUR_MS != close // _HOUR_MS else []
                news |= self.companions.news(mine, anchor, close) if mine else {}
                rates[symbol] = paid
            except Unavailable as error:
                if not self._late(bars[-1][0]):
                    raise
                troubles[symbol] = str(error)
                for _, here in bars:
                    here.pop(symbol, None)
                if not all(here for _, here in bars):
                    raise
        return rates, news

    def _take(self, bars: Sequence[_Closed], beside: _Beside, troubles: Mapping[str, str]) -> None:
        rates, news = beside
        with self.journal.together():
            for symbol in self.history.symbols:
                rows = [here.get(symbol, (open_ms, *_UNKNOWN)) for open_ms, here in bars]
                self.journal.add_candles(symbol, rows)
                self.journal.add_settlements(symbol, rates.get(symbol, ()))
                lacking = [open_ms for open_ms, here in bars if symbol not in here]
                if lacking:
                    since = np.datetime64(lacking[0], "ms")
                    why = troubles.get(symbol, "no closed candle")
                    self.journal.event(
                        "late",
                        f"{symbol} is unknown at {len(lacking)} bar(s) from {since} after {self.late_s:g} s: {why}",
                    )
            self.companions.take(news)
        for symbol, paid in rates.items():
            if paid:
                self.history.settlements[symbol] = self.journal.settlements(symbol)
        self.history.add(bars)
        self.fresh_s = time.monotonic()
        self._seen_s = {open_ms: since for open_ms, since in self._seen_s.items() if open_ms > bars[-1][0]}
