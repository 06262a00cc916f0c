"""Times out of files: epoch numbers of any unit, dates as text or numbers, local time, times of closing. Plausible, or refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from data.dialect import Sheet
from data.errors import InputError, shortened
from data.intervals import DAY_NS, HOUR_NS, MINUTE_NS, say_time
from data.panel import TimeArray

SECOND_NS = 10**9
#: below these an epoch number is in seconds, milliseconds, microseconds; above in nanoseconds
_UNITS = ((1e11, SECOND_NS, "s"), (1e14, 10**6, "ms"), (1e17, 10**3, "us"), (np.inf, 1, "ns"))
#: no epoch number of a market is older (a row number, a trade's id, another calendar's count) or younger
_EARLIEST, _LATEST = np.datetime64("1980-01-01", "ns"), np.datetime64("2100-01-01", "ns")
#: what pandas does not guess
_FORMATS = (
    "%Y-%m-%d %I-%p", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %I:%M %p", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p",
    "%m/%d/%y", "%d/%m/%y", "%m/%d/%y %H:%M", "%d/%m/%y %H:%M", "%d.%m.%y", "%d.%m.%y %H:%M", "%d-%b-%y", "%b %d %Y", "%d-%m-%Y %H:%M",
    "%m-%d-%Y %H:%M", "%Y%m%d %H%M%S", "%b %d, %Y", "%d %b %Y", "%B %d, %Y", "%d %B %Y",  # May is short and long
)  # fmt: skip
#: numbers that are written dates: digits -> format
_WRITTEN = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
#: zones whose clocks change, likeliest first; the rest of the world's come after
ZONES = (
    "Europe/Berlin", "Europe/London", "America/New_York", "Europe/Athens", "America/Chicago", "America/Los_Angeles", "America/Denver",
    "Australia/Sydney", "America/Toronto", "Asia/Jerusalem", "Pacific/Auckland", "America/Santiago",
)  # fmt: skip


@dataclass(frozen=True)
class Read:
    """stamps: [n], UTC where `zoned`, else as they are written, in the file's order. notes: what was assumed."""

    stamps: TimeArray
    zoned: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Whose times are read, for errors."""

    sheet: Sheet
    path: Path

    def check(self, column: pd.Series, lost: npt.NDArray[np.bool_]) -> None:
        """InputError for the first row whose time was lost."""
        if lost.any():
            row = int(np.argmax(lost))
            cell = column.iloc[row]
            what = (
                "has no time"
                if pd.isna(cell)
                else f"holds {shortened(cell)!r}, which is no time like {shortened(column.iloc[0])!r}"
            )
            raise InputError(f"{self.path}: {self.sheet.where(row)} {what}")


def parse_timezone(text: str | None, of: str) -> str | None:
    """The zone for files of a kind (`data`, `funding`) out of `Europe/Berlin` or `data=UTC,funding=Europe/Berlin`."""
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        kind, sign, zone = part.rpartition("=")
        if sign and kind not in ("data", "funding"):
            raise InputError(
                f"--timezone {part!r} names no kind of file; give Europe/Berlin, or data=UTC,funding=Europe/Berlin"
            )
        if zone not in available_timezones():
            raise InputError(
                f"--timezone {zone!r} is no time zone; give one like Europe/Berlin, America/New_York or UTC"
            )
        if kind in ("", of):
            return zone
    return None


def read_times(sheet: Sheet, places: Sequence[int], path: Path) -> Read:
    """Times of a column, or of a date and a clock. Errors name the first bad row."""
    at, column = Place(sheet, path), sheet.table[places[0]]
    if len(places) == 2:
        clock = sheet.table[places[1]]
        if pd.api.types.is_numeric_dtype(clock):  # 93000, or 930
            clock = clock.astype(np.int64).astype(str).str.zfill(6 if clock.max() > 2359 else 4)
            clock = clock.str.replace(r"(\d\d)(?=\d)", r"\1:", regex=True)
        column = column.astype(str).str.strip() + " " + clock.astype(str).str.strip()
    if pd.api.types.is_datetime64_any_dtype(column):
        at.check(column, column.isna().to_numpy())
        return _of_index(pd.DatetimeIndex(column))
    if not len(column):
        return Read(np.empty(0, "datetime64[ns]"), True)
    if pd.api.types.is_numeric_dtype(column):
        return _of_numbers(column, column, at)
    text = column.astype(str).str.strip()
    if _is_number(text.iloc[0]):
        numbers = pd.to_numeric(text, errors="coerce")
        return _of_numbers(numbers, column, at)
    return _of_text(text, column, at)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _of_index(found: pd.DatetimeIndex) -> Read:
    zoned = found.tz is not None
    plain = found.tz_convert("UTC").tz_localize(None) if zoned else found
    return Read(plain.as_unit("ns").to_numpy(), zoned)


def _of_numbers(numbers: pd.Series, column: pd.Series, at: Place) -> Read:
    values = numbers.to_numpy()
    bad = ~np.isfinite(values.astype(np.float64))
    at.check(column, bad)
    if len(values) and np.all(values == np.floor(values)):
        digits = len(str(int(values[0])))
        if digits in _WRITTEN and 1900 <= int(str(int(values[0]))[:4]) <= 2100:
            text = pd.Series(values.astype(np.int64)).astype(str)
            dates = pd.to_datetime(text, format=_WRITTEN[digits], errors="coerce")
            if dates.notna().all():
                return Read(_nanoseconds(dates), False)
    if np.all((values >= 20_000) & (values < 80_000)):
        seconds = np.round((values.astype(np.float64) - 25_569) * 86_400).astype(
            np.int64
        )  # 25569: 1970-01-01 in a workbook
        return Read(
            (seconds * SECOND_NS).view("datetime64[ns]"), False, ("times are a workbook's day numbers (1900 system)",)
        )
    if np.any(np.abs(values.astype(np.float64)) >= 9.2e18):
        raise InputError(_implausible(at, column, int(np.argmax(np.abs(values.astype(np.float64)) >= 9.2e18))))
    size = np.abs(values)
    unit = np.select([size < limit for limit, _, _ in _UNITS], range(len(_UNITS)))
    scale = np.array([ns for _, ns, _ in _UNITS], dtype=np.int64)[unit]
    whole = np.floor(values).astype(np.int64)
    part = np.round((values - whole) * scale).astype(np.int64) if values.dtype.kind == "f" else 0
    stamps: TimeArray = (whole * scale + part).view("datetime64[ns]")
    # counts since the years 1 or 1601 look like microseconds or nanoseconds of years before markets were kept in such
    wrong = (stamps < _EARLIEST) | (stamps >= _LATEST) | ((unit >= 2) & (stamps < np.datetime64("2000-01-01")))
    if wrong.any():
        raise InputError(_implausible(at, column, int(np.argmax(wrong))))
    notes: tuple[str, ...] = ()
    if len(unit) and np.any(unit != unit[0]):
        row = int(np.argmax(unit != unit[0]))
        notes = (
            f"times change from {_UNITS[unit[0]][2]} to {_UNITS[unit[row]][2]} in {at.sheet.where(row)}; each is read in its own unit",
        )
    return Read(stamps, True, notes)


def _implausible(at: Place, column: pd.Series, row: int) -> str:
    return (
        f"{at.path}: {shortened(column.iloc[row])} in {at.sheet.where(row)} is no plausible time (epoch s, ms, us or ns since 1980, "
        "a date, or a workbook's day number); say which column is the time: --columns time=NAME"
    )


def _of_text(text: pd.Series, column: pd.Series, at: Place) -> Read:
    first = str(text.iloc[0])
    if re.search(r"(UTC|GMT)$", first):  # 2024-01-01 00:00:00 UTC
        text = text.str.replace(r"\s*(UTC|GMT)$", "Z", regex=True)
    elif re.search(r"(UTC|GMT)[+-]\d", first):  # 01.01.2024 00:00:00.000 GMT+0100
        text = text.str.replace(r"\s*(UTC|GMT)([+-])", r" \2", regex=True)
    try:
        index = pd.DatetimeIndex(pd.to_datetime(text, format="ISO8601"))
        at.check(column, np.asarray(index.isna()))
        return _of_index(index)
    except InputError:
        raise
    except (ValueError, OverflowError, TypeError) as error:
        if "Mixed timezones" in str(error):
            return _mixed_offsets(text, column, at)
        iso = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
        if pd.notna(iso.iloc[0]):
            at.check(column, iso.isna().to_numpy())
    plain = pd.Series(text.str.replace(r"Z$", "", regex=True))
    zoned = bool(str(text.iloc[0]).endswith("Z"))
    readings = {}
    for format_ in dict.fromkeys(_formats(str(plain.iloc[0]))):
        try:
            read = pd.to_datetime(plain, format=format_, errors="coerce", utc=True)
        except (ValueError, OverflowError):
            continue
        if read.notna().mean() > 0.5:
            readings[format_] = read
    if not readings:
        raise InputError(
            f"{at.path}: times are neither epoch s/ms nor ISO (first: {shortened(column.iloc[0])!r}); "
            "save them like 2024-01-31 08:00"
        )
    most = max(read.notna().sum() for read in readings.values())
    full = {f: read for f, read in readings.items() if read.notna().sum() == most}
    format_ = _steadiest(full, at, column) if len(full) > 1 else next(iter(full))
    at.check(column, full[format_].isna().to_numpy())
    found = _of_index(pd.DatetimeIndex(full[format_]))
    day = "day" if re.match(r"%d", format_) else "month"
    notes = (
        (f"dates read with the {day} first ({shortened(column.iloc[0])!r} is {str(found.stamps[0])[:10]})",)
        if re.match(r"%[dm].%[dm]", format_)
        else ()
    )
    return Read(found.stamps, zoned or "%z" in format_, notes)


def _mixed_offsets(text: pd.Series, column: pd.Series, at: Place) -> Read:
    """Times with more than one UTC offset; all must have one."""
    bare = ~text.str.contains(r"(?:Z|[+-]\d\d:?(?:\d\d)?)$", regex=True)
    bare |= text.str.fullmatch(r"\d{4}-\d\d(-\d\d)?")
    if bare.any():
        row = int(np.argmax(bare.to_numpy()))
        raise InputError(
            f"{at.path}: {at.sheet.where(row)}: {shortened(column.iloc[row])!r} has no UTC offset, other rows have one; write all alike"
        )
    return _of_index(pd.DatetimeIndex(pd.to_datetime(text, format="ISO8601", utc=True)))


def _formats(first: str) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a day above 12 was taken for the day
        guessed = [guess_datetime_format(first, dayfirst=day) for day in (False, True)]
    return [f for f in (*guessed, *_FORMATS) if f and not re.match(r"%Y.%d.%m", f)]  # which nobody writes


def _steadiest(readings: dict[str, pd.Series], at: Place, column: pd.Series) -> str:
    """Of readings that all fit (day or month first), the one whose steps are most alike. InputError where they are equally so."""

    def evenness(format_: str) -> float:
        steps = np.abs(np.diff(_nanoseconds(readings[format_]).astype(np.int64)))
        steps = steps[steps > 0]
        return float(np.unique(steps, return_counts=True)[1].max() / len(steps)) if len(steps) else 0.0

    distinct: dict[bytes, str] = {}
    for format_, read in readings.items():
        distinct.setdefault(_nanoseconds(read).tobytes(), format_)
    ranked = sorted(distinct.values(), key=evenness, reverse=True)
    if len(ranked) > 1 and evenness(ranked[0]) <= evenness(ranked[1]):
        raise InputError(
            f"{at.path}: {shortened(column.iloc[0])!r} may have the day or the month first, and the rows fit both; "
            "save times like 2024-01-31 08:00"
        )
    return ranked[0]


def _nanoseconds(times: pd.Series) -> TimeArray:
    found = pd.DatetimeIndex(times)
    return (found.tz_localize(None) if found.tz is not None else found).as_unit("ns").to_numpy()


def to_utc(stamps: TimeArray, zone: str, path: Path) -> TimeArray:
    """Local times, oldest first, as UTC. In the hour that comes twice in autumn the first of a time is summer's, and steps go on evenly."""
    local = pd.DatetimeIndex(stamps)
    try:
        summer, winter = (
            local.tz_localize(ZoneInfo(zone), ambiguous=np.full(len(local), which)).tz_convert("UTC").tz_localize(None)
            for which in (True, False)
        )
    except ValueError as error:
        reason = str(error).splitlines()[0].strip('"')
        raise InputError(f"{path}: its times are not those of --timezone {zone}: {shortened(reason, 120)}") from None
    early, late = (one.as_unit("ns").to_numpy().copy() for one in (summer, winter))
    if np.any(early != late) and np.any(np.diff(stamps.astype(np.int64)) < -HOUR_NS):
        twice = str(stamps[int(np.argmax(early != late))])[:16]
        raise InputError(
            f"{path}: rows are not in time order, and {twice} comes twice in {zone}; give them in order, oldest or newest first"
        )
    step = np.timedelta64(commonest_step(stamps), "ns")
    for i in np.flatnonzero(early != late):
        before = early[i - 1] if i else early[i] - step
        if early[i] <= before or (early[i] - before != step and late[i] - before == step):
            early[i] = late[i]
    return early


def commonest_step(stamps: TimeArray) -> int:
    """Of the steps forward, in ns; 0 where there is none."""
    steps = np.diff(stamps.astype(np.int64))
    found, counts = np.unique(steps[steps > 0], return_counts=True)
    return int(found[np.argmax(counts)]) if len(found) else 0


def local_zone(stamps: TimeArray, interval: int) -> tuple[str, np.datetime64] | None:
    """The zone whose change of clocks explains an hour too much or too little between rows, and that row's time; None where none does.

    stamps: as they are written, in the file's order.
    """
    steps = np.diff(stamps.astype(np.int64))
    off = steps - interval
    at = np.flatnonzero(np.abs(off) == HOUR_NS)
    if not 0 < len(at) <= 200 or interval > DAY_NS:
        return None
    before, after = pd.DatetimeIndex(stamps[at]), pd.DatetimeIndex(stamps[at + 1])
    for zone in (*ZONES, *sorted(available_timezones() - set(ZONES))):
        moved = _offset(after, zone, False) - _offset(before, zone, True)
        hit = moved == off[at]
        if hit.any():
            return zone, stamps[at[int(np.argmax(hit))] + 1]
        if zone == ZONES[-1] and not np.any(off < 0):
            return None  # a missing hour alone is more often a gap than a rare zone
    return None


def _offset(local: pd.DatetimeIndex, zone: str, summer: bool) -> npt.NDArray[np.int64]:
    """[n]: what a zone's clocks are ahead of UTC, ns."""
    try:
        utc = local.tz_localize(ZoneInfo(zone), ambiguous=np.full(len(local), summer), nonexistent="shift_forward")
    except (ValueError, OverflowError):
        return np.zeros(len(local), np.int64)
    return (local.as_unit("ns").to_numpy() - utc.tz_convert("UTC").tz_localize(None).as_unit("ns").to_numpy()).astype(
        np.int64
    )


def opening(stamps: TimeArray, interval: int, closing: bool) -> tuple[TimeArray, str | None]:
    """Times of opening, where stamps are those of closing: by their column's name, or because they lie a unit before full minutes."""
    ns = stamps.astype(np.int64)
    grid = int(np.gcd(interval, MINUTE_NS))
    late = next((u for u in (SECOND_NS, 10**6, 10**3, 1) if grid > u and np.all((ns + u) % grid == 0)), None)
    if late is None and not closing:
        return stamps, None
    shifted: TimeArray = (ns + (late or 0) - interval).view("datetime64[ns]")
    return (
        shifted,
        f"times are those of closing (first {str(stamps[0])[:23]}): moved to the opening, {say_time(shifted[0])}",
    )


def on_days(stamps: TimeArray, interval: int) -> tuple[TimeArray, str | None]:
    """Days of a place whose clocks change begin at two times UTC; all are moved to the later one, so that none is known too early."""
    ns = stamps.astype(np.int64)
    if interval % DAY_NS or not len(ns):
        return stamps, None
    begins = np.unique(ns % DAY_NS)
    if len(begins) != 2 or (begins[1] - begins[0]) not in (HOUR_NS, DAY_NS - HOUR_NS):
        return stamps, None
    # 23:00 is before 00:00 of the next day
    early = begins[0] if begins[1] - begins[0] == HOUR_NS else begins[1]
    moved: TimeArray = np.where(ns % DAY_NS == early, ns + HOUR_NS, ns).view("datetime64[ns]")
    return moved, f"days begin at two times UTC, as clocks change: all taken to begin at {str(moved[0])[11:16]} UTC"


def on_minutes(stamps: TimeArray) -> tuple[TimeArray, str | None]:
    """Settlements within 15 s of a full minute belong to it: a stamp of 04:00:00.001 is that of 04:00."""
    ns = stamps.astype(np.int64)
    full = (ns + MINUTE_NS // 2) // MINUTE_NS * MINUTE_NS
    off = np.abs(ns - full)
    moved = (off > 0) & (off <= 15 * SECOND_NS)
    if not moved.any():
        return stamps, None
    note = f"{int(moved.sum())} settlements up to {off[moved].max() / 1e6:,.0f} ms off a full minute: taken for that minute"
    return np.where(moved, full, ns).view("datetime64[ns]"), note
