"""From one table of candles per symbol to a Panel: cut, check for gaps, align, attach funding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.calendar import rests
from data.coverage import EIGHT_HOURS_NS
from data.intervals import DAY_NS, interval_name, say_time
from data.panel import CANDLE_FIELDS, FloatArray, InputError, Panel, Settlements, TimeArray

#: bars that may be filled for every bar there is; more is a wrong time, not a gap
MOST_FILLED = 1.0
#: bars of a common table for every bar of the longest symbol
MOST_APART = 20


def index_times(table: pd.DataFrame) -> TimeArray:
    """The index of a candle table as datetime64[ns]."""
    out: TimeArray = table.index.to_numpy().astype("datetime64[ns]")
    return out


def check_candles(table: pd.DataFrame, name: str) -> None:
    """One row per candle, strictly increasing open times, sane prices.

    Parameters
    ----------
    table : DataFrame
        Columns open, high, low, close, volume; index: opening times, UTC.
    name : str
        What messages call it.

    Raises
    ------
    InputError
        Naming the first bad row.

    Examples
    --------
    >>> import pandas as pd
    >>> from data import check_candles
    >>> bar = {"open": 1.0, "high": 2.0, "low": 1.5, "close": 1.8, "volume": 3.0}
    >>> table = pd.DataFrame([bar, bar], pd.date_range("2024-01-01", periods=2, freq="h"))
    >>> check_candles(table, "mine")
    Traceback (most recent call last):
    ...
    data.errors.InputError: mine: open or close lies outside low..high at 2024-01-01 00:00 UTC (open 1, high 2, low 1.5, close 1.8)
    """
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


def resampled(table: pd.DataFrame, interval: int, length: int, resting: bool = False) -> pd.DataFrame:
    """Longer candles of shorter ones; length: a multiple of `interval`. Only complete ones, unless the market rests.

    Weeks begin on Mondays, all others at multiples since 1970 (UTC), as far off as the bars' own grid.
    """
    ns = index_times(table).astype(np.int64)
    offset = (4 * DAY_NS if length % (7 * DAY_NS) == 0 else 0) + (int(ns[0]) % interval if len(ns) else 0)
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "turnover": "sum"}
    groups = table.groupby((ns - offset) // length * length + offset)
    out: pd.DataFrame = groups.agg({name: how.get(str(name), "last") for name in table.columns})
    whole = groups.size().to_numpy() == length // interval  # a candle with a bar missing is not that candle
    if resting:  # how many bars it should have is not known: it is complete once the next one has begun
        whole |= np.arange(len(out)) < len(out) - 1
    out = out[whole]
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
    """(first missing open time, number of missing bars) of every hole between the first and the last bar; rests are none."""
    steps = np.diff(times.astype(np.int64)) // interval
    lost = (steps > 1) & ~rests(times, interval)
    return [(times[i] + np.timedelta64(interval, "ns"), int(steps[i]) - 1) for i in np.flatnonzero(lost)]


def close_gaps(table: pd.DataFrame, symbol: str, interval: int, fill: bool) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table without holes but the market's rests, and the notes on it. Holes are an InputError unless `fill`."""
    times = index_times(table)
    resting = int(rests(times, interval).sum())
    said = (
        (f"{symbol}: {resting} nights, weekends or holidays without bars: the market rests, no gaps",)
        if resting
        else ()
    )
    holes = missing_bars(times, interval)
    if not holes:
        return table, said
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
    step = np.timedelta64(interval, "ns")
    grid = np.concatenate([times, *(start + np.arange(n) * step for start, n in holes)])
    filled = stand_still(table, np.sort(grid))
    note = (
        f"{symbol}: {total} missing bars in {len(holes)} gaps filled with the last close and zero volume, first at "
        f"{say_time(first)}; nothing is traded in them"
    )
    return filled, (*said, note)


def stand_still(table: pd.DataFrame, grid: TimeArray) -> pd.DataFrame:
    """The table on a finer grid: bars it lacks have the close before them as every price and no volume, which no account trades."""
    filled = table.reindex(pd.DatetimeIndex(grid, name=table.index.name))
    lost = filled["close"].isna().to_numpy()
    filled["close"] = filled["close"].ffill()
    for column in ("open", "high", "low"):
        filled[column] = filled[column].where(~lost, filled["close"])
    filled["volume"] = filled["volume"].where(~lost, 0.0)
    return filled


def known_funding(close_times: TimeArray, settlements: Settlements) -> FloatArray:
    """[T]: the last rate settled strictly before each close; NaN before the first settlement, and where the last is older than
    two intervals. The interval is the shortest of the last three steps between settlements: exchanges change it.
    """
    stamps = settlements.timestamps.astype("datetime64[ns]").astype(np.int64)
    if not len(stamps):
        return np.full(len(close_times), np.nan)
    steps = np.r_[np.iinfo(np.int64).max, np.diff(stamps)]
    last = np.lib.stride_tricks.sliding_window_view(np.r_[steps[:1], steps[:1], steps], 3)
    interval = np.r_[EIGHT_HOURS_NS, last.min(1)[1:]]  # of the first settlement nothing is known
    closes = close_times.astype("datetime64[ns]").astype(np.int64)
    at = np.searchsorted(stamps, closes, side="left") - 1
    known = np.maximum(at, 0)
    fresh = (at >= 0) & (closes - stamps[known] <= 2 * interval[known])
    return np.where(fresh, settlements.rates[known], np.nan)


def spans_of(
    tables: Mapping[str, pd.DataFrame],
    start: np.datetime64 | None,
    end: np.datetime64 | None,
    interval: int,
    fill_gaps: bool,
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """(the tables cut to [start, end), their gaps closed; what was filled). InputError where a span has no bars, or gaps."""
    cut: dict[str, pd.DataFrame] = {}
    said: list[str] = []
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
    return cut, said


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
    """Candle tables on one grid. Bars before a listing or after a delisting stay NaN.

    Where every market rests (nights, weekends: `data.calendar`) the grid has no bars; where only some do, theirs stand still.

    Parameters
    ----------
    tables : mapping of symbol to DataFrame
        As `check_candles` lets them pass; further columns become further fields.
    interval : int
        Length of a bar in nanoseconds.
    source : str
        What pages say the data come from.
    start, end : datetime64, optional
        The span to keep, UTC.
    settlements : mapping of symbol to Settlements, optional
        Funding.
    fill_gaps : bool
        Fill missing bars with the last close, instead of refusing them.
    simulated, regimes, regime_names
        Of a simulated market; regimes [T] for the cut span.
    notes : sequence of str
        Told to the user with the panel.

    Raises
    ------
    InputError
        For a span without bars, and gaps that are not to be filled.

    Examples
    --------
    >>> import pandas as pd
    >>> from data import build_panel, interval_ns
    >>> bar = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.8, "volume": 3.0}
    >>> table = pd.DataFrame([bar] * 3, pd.date_range("2024-01-01", periods=3, freq="h"))
    >>> len(build_panel({"COIN": table}, interval_ns("60"), source="mine"))
    3
    """
    cut, filled = spans_of(tables, start, end, interval, fill_gaps)
    said = [*notes, *filled]
    times_of = {symbol: index_times(table) for symbol, table in cut.items()}
    first = min(times[0] for times in times_of.values())
    for symbol, times in times_of.items():
        if (times[0] - first) % np.timedelta64(interval, "ns") != np.timedelta64(0, "ns"):
            raise InputError(f"{symbol}: bars open at {say_time(times[0])}, off the grid of the other symbols")
    grid = _grid(times_of, interval)
    closes = grid + np.timedelta64(interval, "ns")
    for symbol, times in times_of.items():
        listed = grid[(grid >= times[0]) & (grid <= times[-1])]
        if len(listed) > len(times):
            cut[symbol] = stand_still(cut[symbol], listed)
        if times[-1] < grid[-1]:
            last = say_time(times[-1] + np.timedelta64(interval, "ns"))
            said.append(
                f"{symbol} ends at {last}, before the others: a position is closed there at its last price, at cost"
            )

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
            values[at : at + len(table), a, -1] = rates[at : at + len(table)]
    within = {}
    for symbol, s in paid.items():
        keep = (s.timestamps >= first) & (s.timestamps < closes[-1])
        within[symbol] = Settlements(s.timestamps[keep], s.rates[keep])
    resting = bool(np.any(np.diff(grid.astype(np.int64)) != interval))
    return Panel(
        grid, tuple(cut), fields, values, interval, source, simulated, within, regimes, tuple(regime_names), tuple(said),
        rests=resting,
    )  # fmt: skip


def _grid(times_of: Mapping[str, TimeArray], interval: int) -> TimeArray:
    """All open times of any symbol, without holes where none of them rests."""
    first, last = min(t[0] for t in times_of.values()), max(t[-1] for t in times_of.values())
    step = np.timedelta64(interval, "ns")
    bars = int((last - first) // step) + 1
    if bars > 1_000_000 and bars > MOST_APART * max(len(t) for t in times_of.values()):
        spans = ", ".join(f"{s} from {say_time(t[0])} to {say_time(t[-1])}" for s, t in times_of.items())
        raise InputError(f"the symbols lie too far apart for one table of {bars:,} bars: {spans}")
    if all((len(t) - 1) * step == t[-1] - t[0] for t in times_of.values()):
        grid: TimeArray = np.arange(first, last + step, step)
        return grid
    return np.unique(np.concatenate(list(times_of.values())))
