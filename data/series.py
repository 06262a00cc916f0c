"""What can be downloaded: kinds of history, their columns, their time grid, and rows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.intervals import BYBIT_INTERVALS, DAY_NS, INTERVAL_NS
from data.panel import FloatArray, InputError
from data.symbols import parse_symbol

CATEGORIES = ("linear", "inverse", "spot")
DAY_MS = DAY_NS // 1_000_000
#: weeks open on Mondays; 1970-01-05 was one
FIRST_MONDAY_MS = 4 * DAY_MS

Stamps = npt.NDArray[np.int64]
Span = tuple[int, int]


@dataclass(frozen=True)
class Kind:
    """One kind of history. columns: of a row. page_rows: most rows in one answer. periods: intervals it comes in.

    regular: a row for every interval; else (funding) rows at times of the exchange's choosing. recorded: kept from the
    stream by `data.record`; there is no history of it to download.
    """

    name: str
    columns: tuple[str, ...]
    page_rows: int
    periods: tuple[str, ...]
    regular: bool = True
    derivatives_only: bool = True
    recorded: bool = False


#: levels whose order flow is followed one by one
FLOW_LEVELS = 5
#: features of a recorded order book per bar; docs/data.md says what each is
BOOK_COLUMNS = (
    "mid", "spread", "imbalance", "depth_imbalance", "weighted_mid", "micro_adjustment", "bid_slope", "ask_slope",
    *(f"ofi_{level}" for level in range(1, FLOW_LEVELS + 1)), "updates",
)  # fmt: skip

_PERIODS = ("5", "15", "30", "60", "240", "D")
_BARS = ("open", "high", "low", "close")
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("klines", (*_BARS, "volume", "turnover"), 1000, BYBIT_INTERVALS, derivatives_only=False),
        Kind("mark-price", _BARS, 1000, BYBIT_INTERVALS),
        Kind("index-price", _BARS, 1000, BYBIT_INTERVALS),
        Kind("premium-index", _BARS, 1000, BYBIT_INTERVALS),
        Kind("funding", ("funding_rate",), 200, ("settlements",), regular=False),
        Kind("open-interest", ("open_interest",), 200, _PERIODS),
        Kind("long-short-ratio", ("long_ratio",), 500, _PERIODS),
        Kind("orderbook", BOOK_COLUMNS, 0, ("1", "3", "5", "15", "30", "60"), derivatives_only=False, recorded=True),
    )
}


@dataclass(frozen=True)
class SeriesKey:
    """One series of the store. `interval` is a Bybit name, or "settlements" for funding."""

    category: str
    symbol: str
    kind: str
    interval: str

    def __str__(self) -> str:
        return f"{self.symbol} {self.kind} {self.interval}" if self.kind != "funding" else f"{self.symbol} funding"


def series_key(category: str, symbol: str, kind: str, interval: str) -> SeriesKey:
    """A checked key; no symbol becomes a path.

    Statistics that come in fewer periods than bars take the longest period not above `interval`.
    """
    if category not in CATEGORIES:
        raise InputError(f"unknown category {category!r}; expected {', '.join(CATEGORIES)}")
    if kind not in KINDS:
        raise InputError(f"unknown --what {kind!r}; expected {', '.join(KINDS)}")
    what = KINDS[kind]
    if what.derivatives_only and category == "spot":
        raise InputError(f"{kind} exists for linear and inverse contracts only, not for spot")
    if not what.regular:
        interval = "settlements"
    elif interval not in what.periods:
        asked = INTERVAL_NS.get(interval, 31 * DAY_NS)
        fitting = [name for name in what.periods if INTERVAL_NS[name] <= asked]
        interval = fitting[-1] if fitting else what.periods[0]
    return SeriesKey(category, parse_symbol(symbol), kind, interval)


def downloads_of(category: str, symbols: Sequence[str], what: str, intervals: Sequence[str]) -> list[SeriesKey]:
    """Every series that `--what` asks for, each once. what: kinds, comma separated, or `all`."""
    kinds = [name.strip() for name in what.split(",")]
    if kinds == ["all"]:
        kinds = [name for name in DOWNLOADS if category != "spot" or not KINDS[name].derivatives_only]
    for kind in kinds:
        if kind not in DOWNLOADS:
            hint = "; python -m data.record records it" if kind in KINDS else ""
            raise InputError(f"unknown --what {kind!r}; expected {', '.join(DOWNLOADS)}, or all{hint}")
    return list(
        dict.fromkeys(
            series_key(category, name, kind, step) for name in symbols for kind in kinds for step in intervals
        )
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """times: [n] int64 ms, strictly increasing (open time of a bar, stamp of a statistic); values: [n, columns] float64."""

    times: Stamps
    values: FloatArray

    def __len__(self) -> int:
        return len(self.times)

    def within(self, start_ms: int, end_ms: int) -> Rows:
        """Rows with start <= time < end."""
        low, high = np.searchsorted(self.times, [start_ms, end_ms])
        return Rows(self.times[low:high], self.values[low:high])


#: what can be fetched
DOWNLOADS = tuple(name for name, kind in KINDS.items() if not kind.recorded)


def no_rows(columns: int) -> Rows:
    """Nothing, of a kind with so many columns."""
    return Rows(np.empty(0, dtype=np.int64), np.empty((0, columns)))


def merge(parts: list[Rows]) -> Rows:
    """All rows in time order, each time once; where two parts hold the same time, the later part wins."""
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    _, last = np.unique(times[::-1], return_index=True)
    kept = len(times) - 1 - last
    return Rows(times[kept], values[kept])


def open_times(interval: str, start_ms: int, end_ms: int) -> Stamps:
    """Open times t of an interval's bars with start <= t < end, UTC; weeks open on Monday, months on the first."""
    if interval == "M":
        first = np.datetime64(int(start_ms), "ms").astype("datetime64[M]")
        last = np.datetime64(int(end_ms), "ms").astype("datetime64[M]") + 1
        months = np.arange(first, last).astype("datetime64[ms]").astype(np.int64)
        return months[(months >= start_ms) & (months < end_ms)]
    length, offset = INTERVAL_NS[interval] // 1_000_000, FIRST_MONDAY_MS if interval == "W" else 0
    begin = -(-(start_ms - offset) // length) * length + offset
    return np.arange(begin, end_ms, length, dtype=np.int64)


def on_grid(interval: str, times: Stamps) -> bool:
    """Whether every time is an open time of the interval."""
    if interval == "M":
        months = times.astype("datetime64[ms]").astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)
        return bool(np.all(months == times))
    offset = FIRST_MONDAY_MS if interval == "W" else 0
    return bool(np.all((times - offset) % (INTERVAL_NS[interval] // 1_000_000) == 0))


def last_closed(interval: str, now_ms: int) -> int:
    """The end of what is complete at `now`: bars that open before it have closed."""
    if interval == "M":
        return int(open_times("M", now_ms - 31 * DAY_MS, now_ms + 1)[-1])
    length, offset = INTERVAL_NS[interval] // 1_000_000, FIRST_MONDAY_MS if interval == "W" else 0
    return (now_ms - offset) // length * length + offset


def add_spans(spans: list[Span], more: list[Span]) -> list[Span]:
    """The union of half-open spans, merged and sorted."""
    out: list[Span] = []
    for begin, end in sorted([*spans, *more]):
        if begin >= end:
            continue
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return out


def without_spans(spans: list[Span], removed: list[Span]) -> list[Span]:
    """What of `spans` is not in `removed`."""
    out = []
    for begin, end in add_spans(spans, []):
        for low, high in add_spans(removed, []):
            if high <= begin or low >= end:
                continue
            if low > begin:
                out.append((begin, low))
            begin = max(begin, high)
        if begin < end:
            out.append((begin, end))
    return out
