"""Bar intervals as Bybit v5 names them ("60", "240", "D"), their lengths, and dates typed by people."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from data.panel import InputError

MINUTE_NS = 60 * 1_000_000_000
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 1440 * MINUTE_NS

#: Bybit v5 interval -> length. "M" has no fixed length and is handled by name.
INTERVAL_NS: dict[str, int] = {
    **{str(minutes): minutes * MINUTE_NS for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": DAY_NS,
    "W": 7 * DAY_NS,
}
BYBIT_INTERVALS = (*INTERVAL_NS, "M")

_SPELLINGS = {"1h": "60", "2h": "120", "4h": "240", "6h": "360", "12h": "720", "1d": "D", "1w": "W", "d": "D", "w": "W"}

_LENGTH = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d|w)?", re.IGNORECASE)
_UNIT_NS = {"s": 10**9, "m": MINUTE_NS, "min": MINUTE_NS, "h": HOUR_NS, "d": DAY_NS, "w": 7 * DAY_NS}


def parse_interval(text: str) -> str:
    """The Bybit name of an interval; also takes "1h", "5m", "1d". InputError lists what there is."""
    asked = text.strip()
    if asked in BYBIT_INTERVALS:
        return asked
    lowered = asked.lower()
    if lowered in _SPELLINGS:
        return _SPELLINGS[lowered]
    if lowered.endswith("m") and asked != "1M" and lowered[:-1] in INTERVAL_NS:
        return lowered[:-1]
    raise InputError(
        f"unknown interval {text!r}; expected one of {', '.join(BYBIT_INTERVALS)} (minutes, day, week, month)"
    )


def interval_ns(name: str) -> int:
    """Length of an interval in nanoseconds.

    Parameters
    ----------
    name : str
        As Bybit names it: minutes, or D, W.

    Raises
    ------
    InputError
        For a month: it has no fixed length, so a panel cannot be built from it.

    Examples
    --------
    >>> from data import interval_ns
    >>> interval_ns("60") // 10**9
    3600
    """
    if name == "M":
        raise InputError("interval M (month) has no fixed length and cannot form a panel; choose W or shorter")
    return INTERVAL_NS[name]


def parse_length(text: str) -> int:
    """The length in ns of any interval: as Bybit names it, or as people do ("45", "10m", "8h", "2d"). InputError otherwise.

    >>> parse_length("480") == parse_length("8h") == 8 * HOUR_NS, parse_length("D") == DAY_NS
    (True, True)
    """
    asked = text.strip()
    if asked in INTERVAL_NS:
        return INTERVAL_NS[asked]
    found = _LENGTH.fullmatch(asked)
    length = round(float(found[1]) * _UNIT_NS[(found[2] or "m").lower()]) if found is not None and asked != "1M" else 0
    if length <= 0:
        raise InputError(
            f"unknown interval {text!r}; expected minutes, or one like 10m, 8h, D or W (months have no fixed length)"
        )
    return length


def interval_name(length_ns: int) -> str:
    """The Bybit name of a length, or a plain description ("7 min") where Bybit has none."""
    for name, length in INTERVAL_NS.items():
        if length == length_ns:
            return name
    return f"{length_ns / MINUTE_NS:g} min"


def parse_time(text: str, flag: str) -> np.datetime64:
    """A date or time a person typed (ISO; naive means UTC) as datetime64[ns]. `flag` names it in the error."""
    try:
        stamp = pd.Timestamp(text).as_unit("ns")
    except (ValueError, TypeError, OverflowError):
        stamp = None
    if stamp is None or pd.isna(stamp):
        raise InputError(f"{flag} {text!r} is no date; write it like 2024-01-31 or 2024-01-31T08:00 (UTC)")
    if stamp.tzinfo is not None:
        stamp = stamp.tz_convert("UTC").tz_localize(None)
    return stamp.to_datetime64()


def parse_span(start: str | None, end: str | None) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """--start and --end together; InputError where they do not leave a span."""
    first = None if start is None else parse_time(start, "--start")
    last = None if end is None else parse_time(end, "--end")
    if first is not None and last is not None and first >= last:
        raise InputError(f"--start {start} is not before --end {end}")
    return first, last


def say_time(stamp: np.datetime64) -> str:
    """2024-03-02 03:00 UTC."""
    return f"{pd.Timestamp(stamp):%Y-%m-%d %H:%M} UTC"
