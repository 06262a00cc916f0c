"""From one table of candles per symbol to a Panel: cut, check for gaps, align, attach funding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.intervals import DAY_NS, interval_name, say_time
from data.panel import CANDLE_FIELDS, FloatArray, InputError, Panel, Settlements, TimeArray
from data.sessions import resting, yearly_bars

#: bars that may be filled for every bar there is; more is a wrong time, not a gap
MOST_FILLED = 1.0
#: bars of a common table for every bar of the longest symbol
MOST_APART = 20


def index_times(table: pd.DataFrame) -> TimeArray:
    """The index of a candle table as datetime64[ns]."""
    out: TimeArray = table.index.to_numpy().astype("datetime64[ns]")
    return out


def check_candles(table: pd.DataFrame, name: str) -> None:
    """One row per candle, strictly increasing open times, sane prices; else InputError naming the first bad row."""
    times = index_times(table)
    if len(table) < 2:
        raise InputError(f"{name} holds {len(table)} bar{'s' * (len(table) != 1)}; at least 2 are needed")
    steps = np.diff(times.astype(np.int64))
    if np.any(steps < 0):
        at = int(np.argmax(steps < 0))
        raise InputError(
            f"{name}: rows are not in time order ({say_time(times[at + 1])} comes after {say_time(times[at])}); "
            "sort them by time, oldest first"
        )
    if np.any(steps == 0):
        raise InputError(
            f"{name}: {say_time(times[int(np.argmax(steps == 0))])} appears twice; remove the duplicate row"
        )
    values = table[list(CANDLE_FIELDS)].to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"{name}: {CANDLE_FIELDS[column]} at {say_time(times[row])} is missing or not a finite number")
    prices, volume = values[:, :4], values[:, 4]
    if np.any(prices <= 0):
        row, column = (int(i) for i in np.argwhere(prices <= 0)[0])
        raise InputError(
            f"{name}: {CANDLE_FIELDS[column]} at {say_time(times[row])} is {prices[row, column]:g}; prices must be positive"
        )
    if np.any(volume < 0):
        row = int(np.argmax(volume < 0))
        raise InputError(f"{name}: volume at {say_time(times[row])} is {volume[row]:g}; it cannot be negative")
    opens, highs, lows, closes = prices.T
    outside = (highs < lows) | (highs < np.maximum(opens, closes)) | (lows > np.minimum(opens, closes))
    if outside.any():
        row = int(np.argmax(outside))
        what = "high is below low" if highs[row] < lows[row] else "open or close lies outside low..high"
        raise InputError(
            f"{name}: {what} at {say_time(times[row])} "
            f"(open {opens[row]:g}, high {highs[row]:g}, low {lows[row]:g}, close {closes[row]:g})"
        )


def infer_interval_ns(table: pd.DataFrame, name: str) -> int:
    """The commonest step between rows, or the shortest; every other step must be a multiple of it (a gap, or rest)."""
    times = index_times(table)
    every = np.diff(times.astype(np.int64))
    steps, counts = np.unique(every, return_counts=True)
    for interval in (int(steps[np.argmax(counts)]), int(steps[0])):
        odd = steps[np.mod(steps, np.int64(interval)) != 0]
        if not len(odd):
            return interval
    if len(steps) <= 4 and steps[0] >= 28 * DAY_NS and steps[-1] <= 31 * DAY_NS:
        raise InputError(f"{name} holds bars of months, which have no fixed length; give weeks or days")
    interval = int(steps[np.argmax(counts)])
    at = int(np.argmax(np.mod(every, np.int64(interval)) != 0))
    raise InputError(
        f"{name}: bars are not evenly spaced (mostly {interval_name(interval)}, but "
        f"{say_time(times[at])} is followed by {say_time(times[at + 1])})"
    )


def resampled(table: pd.DataFrame, interval: int, length: int, rests: bool = False) -> pd.DataFrame:
    """Longer candles of shorter ones; length: a multiple of `interval`. Only complete ones, unless the market rests.

    Weeks begin on Mondays, all others at multiples since 1970 (UTC), as far off as the bars' own grid.
    """
    ns = index_times(table).astype(np.int64)
    offset = (4 * DAY_NS if length % (7 * DAY_NS) == 0 else 0) + (int(ns[0]) % interval if len(ns) else 0)
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "turnover": "sum"}
    groups = table.groupby((ns - offset) // length * length + offset)
    out = groups.agg({name: how.get(str(name), "last") for name in table.columns})
    if not rests:
        out = out[(groups.size() == length // interval).to_numpy()]  # a candle with a bar missing is not that candle
    out.index = pd.DatetimeIndex(out.index.to_numpy(dtype=np.int64).view("datetime64[ns]"), name="timestamp")
    return out


def cut_span(
    table: pd.DataFrame, start: np.datetime64 | None, end: np.datetime64 | None, interval: int
) -> pd.DataFrame:
    """Bars that open at or after `start` and have closed by `end`."""
    times = index_times(table)
    keep = np.ones(len(times), dtype=bool)
    if start is not None:
        keep &= times >= start
    if end is not None:
        keep &= times + np.timedelta64(interval, "ns") <= end
    return table[keep]


def missing_bars(times: TimeArray, interval: int) -> list[tuple[np.datetime64, int]]:
    """(first missing open time, number of missing bars) of every hole between the first and the last bar; rest is none."""
    steps = np.diff(times.astype(np.int64)) // interval
    holes = np.flatnonzero((steps > 1) & ~resting(times, interval))
    return [(times[i] + np.timedelta64(interval, "ns"), int(steps[i]) - 1) for i in holes]


def close_gaps(table: pd.DataFrame, symbol: str, interval: int, fill: bool) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table without holes and the notes on it. Holes are an InputError unless `fill`: last close, zero volume."""
    times = index_times(table)
    holes = missing_bars(times, interval)
    if not holes:
        return table, ()
    first, count = holes[0]
    total = sum(n for _, n in holes)
    if total > MOST_FILLED * len(table):
        first, count = max(holes, key=lambda hole: hole[1])
        raise InputError(
            f"{symbol} {interval_name(interval)} lacks {total:,} bars beside the {len(table):,} it has, {count:,} of them after "
            f"{say_time(first)}: too many to fill; look at the times there, or choose a later --start or an earlier --end"
        )
    if not fill:
        more = f" and {len(holes) - 1} more gaps" if len(holes) > 1 else ""
        raise InputError(
            f"{symbol} {interval_name(interval)} has a gap of {count} bar{'s' * (count != 1)} at {say_time(first)}{more}; "
            "rerun with --fill-gaps or choose a later --start"
        )
    filled = fill_bars(
        table, np.concatenate([first + np.arange(n) * np.timedelta64(interval, "ns") for first, n in holes])
    )
    note = f"{symbol}: {total} missing bars in {len(holes)} gaps filled with the last close and zero volume, first at {say_time(first)}"
    return filled, (note,)


def fill_bars(table: pd.DataFrame, more: TimeArray) -> pd.DataFrame:
    """The table with bars at the times `more`: last close, zero volume."""
    grid = np.union1d(index_times(table), more)
    filled = table.reindex(pd.DatetimeIndex(grid, name=table.index.name))
    lost = ~np.isin(grid, index_times(table))
    filled["close"] = filled["close"].ffill()
    for column in ("open", "high", "low"):
        filled[column] = filled[column].where(~lost, filled["close"])
    filled["volume"] = filled["volume"].where(~lost, 0.0)
    return filled


def known_funding(close_times: TimeArray, settlements: Settlements) -> FloatArray:
    """[T]: the last rate settled strictly before each close; NaN before the first settlement."""
    if not len(settlements.timestamps):
        return np.full(len(close_times), np.nan)
    at = np.searchsorted(settlements.timestamps, close_times, side="left") - 1
    return np.where(at >= 0, settlements.rates[np.maximum(at, 0)], np.nan)


def build_panel(
    tables: Mapping[str, pd.DataFrame],
    interval: int,
    *,
    source: str,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    settlements: Mapping[str, Settlements] | None = None,
    fill_gaps: bool = False,
    simulated: bool = False,
    regimes: npt.NDArray[np.int64] | None = None,
    regime_names: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Panel:
    """Candle tables (checked by `check_candles`) on one grid. Bars before a listing or after a delisting stay NaN.

    regimes: [T] for the cut span, where the market is simulated.
    """
    said = list(notes)
    cut: dict[str, pd.DataFrame] = {}
    for symbol, whole in tables.items():
        table = cut_span(whole, start, end, interval)
        if len(table) < 2:
            times = index_times(whole)
            raise InputError(
                f"{symbol} has {len(table)} bars between --start and --end; "
                f"its data runs from {say_time(times[0])} to {say_time(times[-1] + np.timedelta64(interval, 'ns'))}"
            )
        cut[symbol], filled = close_gaps(table, symbol, interval, fill_gaps)
        said.extend(filled)
    first = min(index_times(table)[0] for table in cut.values())
    for symbol, table in cut.items():
        if (index_times(table)[0] - first) % np.timedelta64(interval, "ns") != np.timedelta64(0, "ns"):
            raise InputError(
                f"{symbol}: bars open at {say_time(index_times(table)[0])}, off the grid of the other symbols"
            )
    grid, resting_year = _grid(cut, interval)
    said.extend(_closed_beside_others(cut, grid))
    times_of = {symbol: index_times(table) for symbol, table in cut.items()}
    closes = grid + np.timedelta64(interval, "ns")

    further = sorted({str(c) for table in cut.values() for c in table.columns} - set(CANDLE_FIELDS))
    paid = {symbol: s for symbol, s in (settlements or {}).items() if symbol in cut and len(s.timestamps)}
    fields = (*CANDLE_FIELDS, *further, *(["funding_rate"] if paid else []))
    values = np.full((len(grid), len(cut), len(fields)), np.nan)
    for a, (symbol, table) in enumerate(cut.items()):
        at = int(np.searchsorted(grid, times_of[symbol][0]))
        for f, name in enumerate(fields):
            if name in table.columns:
                values[at : at + len(table), a, f] = table[name].to_numpy(dtype=np.float64)
        if symbol in paid:
            rates = known_funding(closes, paid[symbol])
            listed = slice(at, at + len(table))
            values[listed, a, -1] = rates[listed]
    within = {}
    for symbol, s in paid.items():
        keep = (s.timestamps >= first) & (s.timestamps < closes[-1])
        within[symbol] = Settlements(s.timestamps[keep], s.rates[keep])
    return Panel(
        grid, tuple(cut), fields, values, interval, source, simulated, within, regimes, tuple(regime_names), tuple(said),
        yearly_bars=resting_year,
    )  # fmt: skip


def _grid(tables: Mapping[str, pd.DataFrame], interval: int) -> tuple[TimeArray, float | None]:
    """All open times of any table, and the bars a year where that leaves times out: then every market rests there."""
    times = [index_times(table) for table in tables.values()]
    first, last = min(t[0] for t in times), max(t[-1] for t in times)
    bars = int((last - first) // np.timedelta64(interval, "ns")) + 1
    longest = max(len(t) for t in times)
    if bars > MOST_APART * longest and bars > 1_000_000:
        spans = ", ".join(f"{s} from {say_time(t[0])} to {say_time(t[-1])}" for s, t in zip(tables, times, strict=True))
        raise InputError(f"the symbols lie too far apart for one table of {bars:,} bars: {spans}")
    if all(len(t) * np.timedelta64(interval, "ns") == t[-1] - t[0] + np.timedelta64(interval, "ns") for t in times):
        return np.arange(first, last + np.timedelta64(1, "ns"), np.timedelta64(interval, "ns")), None
    grid: TimeArray = np.unique(np.concatenate(times))
    return grid, None if len(grid) == bars else yearly_bars(grid)


def _closed_beside_others(tables: dict[str, pd.DataFrame], grid: TimeArray) -> list[str]:
    """Fills the bars in which one market rests and another does not; the notes on it."""
    notes = []
    for symbol, table in tables.items():
        times = index_times(table)
        own = grid[(grid >= times[0]) & (grid <= times[-1])]
        if len(own) > len(table):
            tables[symbol] = fill_bars(table, np.setdiff1d(own, times))
            notes.append(
                f"{symbol} rests in {len(own) - len(table)} bars of the others: last close, zero volume, not traded"
            )
    return notes
