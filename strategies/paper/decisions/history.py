"""Closed bars of the symbols that are traded, on one grid, as the panel that a model's features are made from.

The history keeps one anchor (its first bar) for the life of a journal and is never cut: rolling kernels depend on where a
series begins by rounding errors, so the same anchor makes the features of a bar the very numbers of a batch over all bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from data.assembly import known_funding
from data.intervals import interval_name
from data.panel import CANDLE_FIELDS, FloatArray, Panel, Settlements
from data.series import Rows, SeriesKey
from strategies.paper.decisions.side_inputs import Companions, with_companions
from strategies.paper.decisions.strategy import Strategy
from strategies.paper.records.journal import Candle, Journal

#: open time, and the candle of every symbol; one that is not in it is unknown at that bar
Bar = tuple[int, Mapping[str, Candle]]


class History:
    """Bars from the anchor on. `add` refuses holes: an unknown candle is a row of NaN, a missing bar is an error."""

    def __init__(
        self,
        symbols: Sequence[str],
        interval_ms: int,
        bars: Sequence[Bar] = (),
        companions: Mapping[SeriesKey, Rows] | None = None,
    ) -> None:
        self.symbols, self.interval_ms = tuple(symbols), interval_ms
        self.companions = {} if companions is None else companions
        self._rows: FloatArray = np.empty((4096, len(self.symbols), len(CANDLE_FIELDS)))
        self.first_ms = 0
        self.count = 0
        self.settlements: dict[str, list[tuple[int, float]]] = {}
        self.closes: dict[str, float] = {}  # the last that is known
        self.known_ms: dict[str, int] = {}  # and the bar it is of
        self.add(bars)

    @classmethod
    def of(cls, journal: Journal, strategy: Strategy) -> History:
        """All that the journal holds of what the strategy reads."""
        followed = Companions(journal, None, strategy.companions)
        history = cls(
            strategy.traded,
            strategy.model.interval_ns // 1_000_000,
            journaled_bars(journal, strategy.traded),
            followed.rows,
        )
        history.settlements = {symbol: journal.settlements(symbol) for symbol in strategy.traded}
        return history

    def add(self, bars: Sequence[Bar]) -> None:
        for open_ms, candles in bars:
            if self.count == 0:
                self.first_ms = open_ms
            elif open_ms != self.next_ms:
                raise ValueError(f"candle {open_ms} does not follow: {self.next_ms} is next")
            if self.count == len(self._rows):
                self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._rows[self.count] = np.nan
            for a, symbol in enumerate(self.symbols):
                if symbol in candles:
                    self._rows[self.count, a] = candles[symbol][1:]
                    self.closes[symbol], self.known_ms[symbol] = float(candles[symbol][4]), open_ms
            self.count += 1

    @property
    def next_ms(self) -> int:
        """Open time of the candle that comes next."""
        return self.first_ms + self.count * self.interval_ms

    @property
    def last_ms(self) -> int:
        return self.next_ms - self.interval_ms

    def bar(self, open_ms: int) -> int:
        return (open_ms - self.first_ms) // self.interval_ms

    def panel(self, stop: int | None = None, strategy: Strategy | None = None) -> Panel:
        """Bars 0..stop (all) of the symbols; with all that the inputs of `strategy` read."""
        rows, interval_ns = self._rows[: self.count if stop is None else stop], self.interval_ms * 1_000_000
        panel = _panel(self.first_ms, rows, self.settlements, self.symbols, interval_ns)
        if strategy is None or not strategy.companions:
            return panel
        found = {key: self.companions[key] for key in strategy.companions}
        others = {k.symbol: r for k, r in found.items() if k.symbol not in self.symbols}
        return with_companions(
            _with_assets(panel, strategy.assets, others), self.symbols, found, interval_name(interval_ns)
        )


def journaled_bars(journal: Journal, symbols: Sequence[str]) -> list[Bar]:
    """Every bar of the journal, oldest first."""
    bars: dict[int, dict[str, Candle]] = {}
    for symbol in symbols:
        for candle in journal.candles(symbol):
            known = bars.setdefault(candle[0], {})
            if candle[4] == candle[4]:
                known[symbol] = candle
    return sorted(bars.items())


def _panel(
    first_ms: int,
    rows: FloatArray,
    rates: Mapping[str, Sequence[tuple[int, float]]],
    symbols: tuple[str, ...],
    interval_ns: int,
) -> Panel:
    stamps = np.datetime64(first_ms, "ms").astype("datetime64[ns]") + np.arange(len(rows)) * np.timedelta64(
        interval_ns, "ns"
    )
    fields: tuple[str, ...] = CANDLE_FIELDS
    paid: dict[str, Settlements] = {}
    for symbol in symbols:
        if rates.get(symbol):
            times = np.array([t for t, _ in rates[symbol]], dtype="datetime64[ms]").astype("datetime64[ns]")
            paid[symbol] = Settlements(times, np.array([r for _, r in rates[symbol]]))
    values = rows
    if paid:
        funding = np.full((len(rows), len(symbols), 1), np.nan)
        for a, symbol in enumerate(symbols):
            if symbol in paid:
                funding[:, a, 0] = known_funding(stamps + np.timedelta64(interval_ns, "ns"), paid[symbol])
        funding[~np.isfinite(rows[:, :, 3])] = np.nan  # an unknown bar is unknown in everything
        values = np.concatenate([rows, funding], axis=2)
        fields = (*CANDLE_FIELDS, "funding_rate")
    return Panel(stamps, symbols, fields, values, interval_ns, "paper", settlements=paid)


def _with_assets(panel: Panel, assets: tuple[str, ...], candles: Mapping[str, Rows]) -> Panel:
    """The panel among the candles of other symbols (NaN where they have none, and in fields of theirs that are not candles)."""
    if assets == panel.assets:
        return panel
    values = np.full((len(panel), len(assets), len(panel.fields)), np.nan)
    opens = panel.timestamps.astype("datetime64[ms]").astype(np.int64)
    for a, asset in enumerate(assets):
        if asset in panel.assets:
            values[:, a] = panel.values[:, panel.assets.index(asset)]
            continue
        rows = candles[asset]
        at = (rows.times - opens[0]) // (panel.interval_ns // 1_000_000)
        inside = (at >= 0) & (at < len(panel))
        values[at[inside], a, : len(CANDLE_FIELDS)] = rows.values[inside, : len(CANDLE_FIELDS)]
    return replace(panel, assets=assets, values=values)
