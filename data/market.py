"""A Panel from Bybit: candles, funding and statistics through the store, several timeframes aligned."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from data.alignment import add_known, add_timeframe
from data.assembly import build_panel, check_candles
from data.bybit import Bybit
from data.history import History, Progress
from data.intervals import interval_ns
from data.panel import CANDLE_FIELDS, InputError, Panel, Settlements, TimeArray
from data.series import BOOK_COLUMNS, KINDS, Rows, SeriesKey, series_key
from data.store import Store

#: history that is fetched where no --start is given
DEFAULT_SPAN = np.timedelta64(730, "D")
#: further histories that a panel takes along: kind -> (panel field, column of the kind)
FURTHER = {
    "open-interest": ("open_interest", "open_interest"),
    "premium-index": ("premium", "close"),
    "mark-price": ("mark_price", "close"),
    "index-price": ("index_price", "close"),
    "long-short-ratio": ("long_ratio", "long_ratio"),
}
DEFAULT_FURTHER = ("open-interest", "premium-index")


def default_end() -> np.datetime64:
    """Today 00:00 UTC: the same all day, so that the same command finds its own run again."""
    return np.datetime64(dt.datetime.now(dt.UTC).date(), "ns")


def load_bybit(
    symbols: Sequence[str],
    interval: str,
    *,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    category: str = "linear",
    timeframes: Sequence[str] = (),
    further: Sequence[str] = DEFAULT_FURTHER,
    fill_gaps: bool = False,
    history: History | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Panel:
    """Candles, funding and `further` kinds of the symbols, from the store and, where it lacks them, from Bybit.

    timeframes: longer intervals whose candles come along as `close@240` and so on. further: kinds of FURTHER; spot has
    none of them, nor funding. progress(name) makes the progress callback of one series.
    """
    length = interval_ns(interval)
    last = end if end is not None else default_end()
    first = start if start is not None else last - DEFAULT_SPAN
    if first >= last:
        raise InputError(f"--start {first} leaves nothing before the end of the history ({last}); give an earlier one")
    low, high = _milliseconds(first), _milliseconds(last)
    source = history or History(Store(), Bybit(say=say), say)

    def rows(symbol: str, kind: str, name: str, early: int = 0) -> Rows:
        key = series_key(category, symbol, kind, name)
        return source.load(key, low - early, high, progress(str(key)) if progress else None)

    tables: dict[str, pd.DataFrame] = {}
    settlements: dict[str, Settlements] = {}
    for symbol in symbols:
        tables[symbol] = _table(rows(symbol, "klines", interval), symbol)
        if category != "spot":
            # a week before the start, so that the first bars know a rate
            paid = rows(symbol, "funding", interval, early=7 * 86_400_000)
            settlements[symbol] = Settlements(_stamps(paid), paid.values[:, 0])
    panel = build_panel(
        tables, length, source="bybit", start=first, end=last, settlements=settlements, fill_gaps=fill_gaps
    )
    for kind in further if category != "spot" else ():
        if kind not in FURTHER:
            raise InputError(f"unknown kind {kind!r} for a panel; expected {', '.join(FURTHER)}")
        key = series_key(category, symbols[0], kind, interval)
        early = 3 * interval_ns(key.interval) // 1_000_000
        panel = with_further(panel, key, {symbol: rows(symbol, kind, interval, early) for symbol in symbols})
    described = {symbol: source.instrument(category, symbol) for symbol in symbols}
    panel = replace(panel, instruments={s: info.order_rules() for s, info in described.items() if info is not None})
    panel = _with_recording(panel, source.store, category, interval, low, high)
    for coarse in timeframes:
        early = 2 * interval_ns(coarse) // 1_000_000
        panel = with_timeframe(panel, coarse, {s: rows(s, "klines", coarse, early) for s in symbols})
    return panel


def with_further(panel: Panel, key: SeriesKey, found: Mapping[str, Rows]) -> Panel:
    """The panel with the field that a kind of FURTHER fills; key.symbol does not matter. found: rows per asset."""
    name, column = FURTHER[key.kind]
    length_ns = interval_ns(key.interval)
    # a bar's value is known at its close; a statistic only after its stamp
    delay = np.timedelta64(length_ns if len(KINDS[key.kind].columns) > 1 else 1_000_000, "ns")
    at = KINDS[key.kind].columns.index(column)
    return add_known(panel, name, {s: (_stamps(r) + delay, r.values[:, at]) for s, r in found.items()}, length_ns)


def with_timeframe(panel: Panel, interval: str, found: Mapping[str, Rows]) -> Panel:
    """The panel with the candles of a longer interval; found: their rows per asset."""
    return add_timeframe(panel, interval, {s: _table(r, s, least=0) for s, r in found.items()})


def _with_recording(panel: Panel, store: Store, category: str, interval: str, low: int, high: int) -> Panel:
    """The order book features that were recorded for bars of this interval; those bars that were not are NaN."""
    if interval not in KINDS["orderbook"].periods:
        return panel
    found = {s: store.series(SeriesKey(category, s, "orderbook", interval)).read(low, high) for s in panel.assets}
    if not any(map(len, found.values())):
        return panel
    for i, name in enumerate(BOOK_COLUMNS):
        # known at the close of its own bar, and of no use to a later one
        known = {s: (_stamps(r) + np.timedelta64(panel.interval_ns, "ns"), r.values[:, i]) for s, r in found.items()}
        panel = add_known(panel, name, known, panel.interval_ns, lasting=0)
    return panel


def _table(rows: Rows, symbol: str, least: int = 2) -> pd.DataFrame:
    index = pd.DatetimeIndex(_stamps(rows), name="timestamp")
    columns = KINDS["klines"].columns
    table = pd.DataFrame(
        {name: rows.values[:, i] for i, name in enumerate(columns) if name in CANDLE_FIELDS}, index=index
    )
    if len(table) < least:
        raise InputError(
            f"Bybit has {len(table)} bars of {symbol} between --start and --end; choose an earlier --start"
        )
    if len(table) >= 2:
        check_candles(table, symbol)
    return table


def _stamps(rows: Rows) -> TimeArray:
    out: TimeArray = rows.times.astype("datetime64[ms]").astype("datetime64[ns]")
    return out


def _milliseconds(stamp: np.datetime64) -> int:
    return int(stamp.astype("datetime64[ms]").astype(np.int64))
