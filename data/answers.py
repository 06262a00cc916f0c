"""From a v5 answer to rows, believing nothing: whatever does not look exactly as it must is a BadAnswer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data.panel import FloatArray
from data.series import KINDS, Rows, SeriesKey, Stamps, no_rows, on_grid

#: numbers in decimal notation, joined by "|": no nan, no inf, no underscore, no blank
_NUMBERS = re.compile(r"[0-9.eE+\-|]*")
_STAMPS = re.compile(r"[0-9|]*")
#: 2100-01-01; a later stamp is seconds, micro- or nanoseconds taken for milliseconds
FAR_MS = 4_102_444_800_000


class BadAnswer(Exception):
    """An answer that cannot be what the exchange meant to say: ask again."""


def read_rows(answer: Any, key: SeriesKey, start_ms: int, end_ms: int) -> tuple[Rows, int]:
    """Rows of an answer to a request for [start, end], oldest first, and how many rows it held before duplicates went.

    BadAnswer: a row outside the request or off the time grid, two different rows of one time, anything not a finite
    decimal number in a string, prices that contradict each other, another symbol.
    """
    result = _field(answer, "result", dict)
    listed = _field(result, "list", list)
    columns = len(KINDS[key.kind].columns)
    if _said(result, "category", key.category) != key.category or _said(result, "symbol", key.symbol) != key.symbol:
        raise BadAnswer(f"the answer is about {result.get('category')} {result.get('symbol')}, not {key}")
    if not listed:
        return no_rows(columns), 0
    times, values = _READERS.get(key.kind, _read_bars)(listed, key, columns)
    if not (np.all(times >= start_ms) and np.all(times <= end_ms)):
        raise BadAnswer(f"{key}: a row at {int(times[(times < start_ms) | (times > end_ms)][0])} ms was not asked for")
    if KINDS[key.kind].regular and not on_grid(key.interval, times):
        raise BadAnswer(f"{key}: a row does not stand on the {key.interval} grid")
    rows = _once(times, values, key)
    _check_values(rows.values, key)
    return rows, len(listed)


def server_time(answer: Any) -> int:
    """Milliseconds of /v5/market/time."""
    result = _field(answer, "result", dict)
    nano = result.get("timeNano")
    if not isinstance(nano, str) or not re.fullmatch(r"[0-9]{16,20}", nano):
        raise BadAnswer("the exchange's time is no number of nanoseconds")
    return int(nano) // 1_000_000


def decimal_text(cell: Any) -> str:
    """The cell, a number >= 0 in decimal notation; BadAnswer where it is something else."""
    if not isinstance(cell, str) or not re.fullmatch(r"[0-9]{1,30}(\.[0-9]{1,30})?", cell):
        raise BadAnswer("a number is not written as a decimal number")
    return cell


def _field(holder: Any, name: str, kind: type) -> Any:
    if not isinstance(holder, Mapping) or not isinstance(holder.get(name), kind):
        raise BadAnswer(f"the answer has no {name} (expected a {kind.__name__})")
    return holder[name]


def _said(result: Mapping[str, Any], name: str, default: str) -> Any:
    """funding and ratio answers leave category or symbol out; their rows carry the symbol."""
    return result.get(name, default)


def _read_bars(listed: Sequence[Any], key: SeriesKey, columns: int) -> tuple[Stamps, FloatArray]:
    if not all(isinstance(row, list) and len(row) == columns + 1 for row in listed):
        raise BadAnswer(f"{key}: a row does not have {columns + 1} cells")
    times = _stamps([row[0] for row in listed], key)
    return times, _numbers([cell for row in listed for cell in row[1:]], key).reshape(len(listed), columns)


def _read_named(stamp: str, *names: str) -> Callable[[Sequence[Any], SeriesKey, int], tuple[Stamps, FloatArray]]:
    """Rows that are objects: the stamp's name and the names of the numbers."""

    def read(listed: Sequence[Any], key: SeriesKey, columns: int) -> tuple[Stamps, FloatArray]:
        for row in listed:
            if not isinstance(row, Mapping) or stamp not in row or any(name not in row for name in names):
                raise BadAnswer(f"{key}: a row lacks {stamp} or {', '.join(names)}")
            if row.get("symbol", key.symbol) != key.symbol:
                raise BadAnswer(f"{key}: a row is about {row['symbol']!r}")
        times = _stamps([row[stamp] for row in listed], key)
        return times, _numbers([row[n] for row in listed for n in names], key).reshape(len(listed), columns)

    return read


_READERS = {
    "funding": _read_named("fundingRateTimestamp", "fundingRate"),
    "open-interest": _read_named("timestamp", "openInterest"),
    "long-short-ratio": _read_named("timestamp", "buyRatio"),
}


def _joined(cells: Sequence[Any], pattern: re.Pattern[str], what: str, key: SeriesKey) -> None:
    try:
        text = "|".join(cells)
    except TypeError:
        raise BadAnswer(f"{key}: a {what} is no string") from None
    if not pattern.fullmatch(text) or not all(cells):
        raise BadAnswer(f"{key}: a {what} is not written as a decimal number")


def _stamps(cells: Sequence[Any], key: SeriesKey) -> Stamps:
    _joined(cells, _STAMPS, "time", key)
    if max(map(len, cells)) > 13:
        raise BadAnswer(f"{key}: a time is no millisecond stamp of this century")
    times = np.array([int(cell) for cell in cells], dtype=np.int64)
    if np.any(times >= FAR_MS) or np.any(times <= 0):
        raise BadAnswer(f"{key}: a time is no millisecond stamp of this century")
    return times


def _numbers(cells: Sequence[Any], key: SeriesKey) -> FloatArray:
    _joined(cells, _NUMBERS, "number", key)
    try:
        numbers = np.array([float(cell) for cell in cells])
    except ValueError:
        raise BadAnswer(f"{key}: a number is not written as a decimal number") from None
    if not np.all(np.isfinite(numbers)):
        raise BadAnswer(f"{key}: a number is not finite")
    return numbers


def _once(times: Stamps, values: FloatArray, key: SeriesKey) -> Rows:
    """Sorted, identical duplicates dropped."""
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    again = np.flatnonzero(np.diff(times) == 0)
    if len(again):
        if not np.array_equal(values[again], values[again + 1]):
            raise BadAnswer(f"{key}: two different rows at {int(times[again[0]])} ms")
        keep = np.ones(len(times), dtype=bool)
        keep[again + 1] = False
        times, values = times[keep], values[keep]
    return Rows(times, values)


def _check_values(values: FloatArray, key: SeriesKey) -> None:
    if key.kind == "funding":
        good = np.abs(values) < 0.5
    elif key.kind == "long-short-ratio":
        good = (values >= 0) & (values <= 1)
    elif key.kind == "open-interest":
        good = values >= 0
    else:
        opens, highs, lows, closes = values[:, :4].T
        good = (highs >= np.maximum(opens, closes)) & (lows <= np.minimum(opens, closes))
        if key.kind != "premium-index":
            good &= lows > 0
        if values.shape[1] > 4:
            good &= np.all(values[:, 4:] >= 0, axis=1)
    if not np.all(good):
        raise BadAnswer(f"{key}: a row's numbers contradict each other")
