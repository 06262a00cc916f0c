"""The user's own candles and funding: CSV, Parquet, Feather, JSON, packed or not. What was assumed is said, what is not clear refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from data.assembly import build_panel, check_candles, index_times, infer_interval_ns, resampled
from data.calendar import rests_at_weekends
from data.columns import CANDLE_TARGETS, FUNDING_TARGETS, PRICES, Columns, base_volume, price_order, row_numbers
from data.coverage import check_covers
from data.dialect import Sheet, key, read_sheet
from data.errors import InputError, shortened
from data.intervals import DAY_NS, HOUR_NS, interval_name, parse_length, say_time
from data.panel import CANDLE_FIELDS, Panel, Settlements, TimeArray
from data.symbols import parse_symbol
from data.times import commonest_step, local_zone, on_days, on_minutes, opening, parse_timezone, read_times, to_utc
from data.units import check_rates, check_rhythm, implausible_fields, leap, numbers, of_percent, rate_unit, smoothed

NO_ZONE = "times have no zone and are read as UTC (else: --timezone)"


@dataclass(frozen=True)
class Reading:
    """How files are to be read where they do not say it themselves. columns: what it is -> name. timezone: as of `--timezone`."""

    columns: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    any_candles: bool = False


def load_files(
    symbols: Sequence[str],
    files: Sequence[Path],
    *,
    interval: str | None = None,
    funding_files: Sequence[Path] = (),
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    fill_gaps: bool = False,
    reading: Reading = Reading(),
) -> Panel:
    """One candle file per symbol, in order; the same for funding files (fewer are fine: the first symbols get them).

    interval: None takes the files' own; a longer one makes longer candles of theirs.
    """
    if len(files) != len(symbols):
        raise InputError(
            f"{len(files)} --data files for {len(symbols)} symbols ({', '.join(symbols)}); give one file per symbol"
        )
    if len(funding_files) > len(symbols):
        raise InputError(
            f"{len(funding_files)} --funding files for {len(symbols)} symbols; give at most one per symbol"
        )
    tables: dict[str, pd.DataFrame] = {}
    notes: list[str] = []
    lengths: dict[str, int] = {}
    for symbol, path in zip(symbols, files, strict=True):
        tables[symbol], lengths[symbol], said = read_candles(path, reading, symbol)
        notes += [f"{path.name}: {note}" for note in said]
    asked = None if interval is None else parse_length(interval)
    if asked is None and len(set(lengths.values())) > 1:
        listed = ", ".join(f"{symbol} {interval_name(length)}" for symbol, length in lengths.items())
        raise InputError(f"the --data files have different intervals ({listed}); give --interval, a multiple of all")
    length = asked or lengths[symbols[0]]
    for symbol, path in zip(symbols, files, strict=True):
        own = lengths[symbol]
        if own == length:
            continue
        if length % own:
            raise InputError(
                f"{path} holds {interval_name(own)} bars, of which no {interval_name(length)} bars can be made (--interval {interval}); "
                "leave --interval out or give a multiple"
            )
        tables[symbol] = resampled(tables[symbol], own, length, rests_at_weekends(index_times(tables[symbol]), own))
        if len(tables[symbol]) < 2:
            raise InputError(
                f"{path} holds {len(tables[symbol])} complete bars of {interval_name(length)} (--interval {interval}); "
                "at least 2 are needed"
            )
        notes.append(
            f"{path.name}: {interval_name(length)} bars made of its {interval_name(own)} bars, complete ones only"
        )
    settlements = {}
    for symbol, path in zip(symbols, funding_files, strict=False):
        settlements[symbol], said = read_settlements(path, reading, symbol)
        notes += [f"{path.name}: {note}" for note in said]
    panel = build_panel(
        tables, length, source="file", start=start, end=end, settlements=settlements, fill_gaps=fill_gaps, notes=notes
    )
    for symbol, path in zip(symbols, funding_files, strict=False):
        check_covers(panel, symbol, settlements[symbol].timestamps, str(path))
    return panel


def read_candles(
    path: Path, reading: Reading = Reading(), symbol: str | None = None
) -> tuple[pd.DataFrame, int, tuple[str, ...]]:
    """Candles indexed by open time (UTC, naive), checked; their length in ns; what was assumed, a line each.

    symbol: whose rows count where the file holds several markets.
    """
    sheet, notes = _own_rows(read_sheet(path), path, symbol)
    meant = {k: v for k, v in reading.columns.items() if k in CANDLE_TARGETS}
    columns = Columns(sheet, path, meant)
    if sheet.names or meant:
        places, closing = columns.times()
        found, volumes = columns.candles(), columns.volumes()
    else:
        places, found, volumes, order = _without_header(sheet, path)
        closing = False
        notes.append(order)
    if sheet.table.empty:
        raise InputError(f"{path} holds 0 bars; at least 2 are needed")
    times = read_times(sheet, places, path)
    values = {name: numbers(sheet.table[place], sheet, name, path) for name, place in found.items()}
    counted = {str(place): numbers(sheet.table[place], sheet, "volume", path) for place in volumes}
    chosen = base_volume({name: v.to_numpy() for name, v in counted.items()}, values["close"].to_numpy())
    values["volume"] = counted[chosen]
    columns.used.add(int(chosen))
    if len(volumes) > 1:
        notes.append(f"volume is its column {shortened(sheet.names[int(chosen)])!r}")
    table = pd.DataFrame({name: values.pop(name) for name in CANDLE_FIELDS} | values)
    notes += times.notes
    table, stamps = _in_order(table, times.stamps, notes)
    stamps = _as_utc(stamps, times.zoned, reading, "data", path, notes)
    table, stamps = _sorted(table, stamps, notes)
    if not times.zoned and parse_timezone(reading.timezone, "data") is None:
        check_local(stamps, path)  # also where they were out of order
    table.index = pd.DatetimeIndex(stamps, name="timestamp")
    for name, why in implausible_fields(table).items():
        notes.append(f"column {name} ignored: {why}")
        table = table.drop(columns=name)
    check_candles(table, str(path))
    rough = commonest_step(stamps)
    for correct in (lambda t, i: opening(t, i, closing), on_days):
        stamps, note = correct(stamps, rough)
        notes += [note] if note else []
    table.index = pd.DatetimeIndex(stamps, name="timestamp")
    length = infer_interval_ns(table, str(path))
    if not times.zoned and length < DAY_NS and parse_timezone(reading.timezone, "data") is None:
        notes.append(NO_ZONE)
    notes += [jump] if (jump := leap(table)) else []
    if ignored := columns.ignored():
        notes.append(f"columns ignored: {', '.join(ignored)}")
    what = smoothed(table)
    if what is not None:
        if not reading.any_candles:
            raise InputError(
                f"{path} holds {what}: nobody could trade at them; give the market's candles, or insist with --any-candles"
            )
        notes.append(f"these are {what}, no prices: no result on them says anything of a market")
    return table, length, tuple(notes)


def read_settlements(
    path: Path, reading: Reading = Reading(), symbol: str | None = None
) -> tuple[Settlements, tuple[str, ...]]:
    """Settlement times and rates (fractions of notional), and what was assumed, a line each."""
    sheet, notes = _own_rows(read_sheet(path), path, symbol)
    known = {key(name) for name in sheet.names}
    meant = {k: v for k, v in reading.columns.items() if k in FUNDING_TARGETS and (k != "time" or key(v) in known)}
    columns = Columns(sheet, path, meant)
    place, unit = columns.rate()
    places = columns.times()[0] if sheet.names else [0]
    cells = sheet.table[place]
    if not len(cells):
        raise InputError(f"{path} holds no settlement; {sheet.found()}")
    times = read_times(sheet, places, path)
    notes += times.notes
    percent = of_percent(cells, path)
    table = pd.DataFrame({"funding_rate": numbers(cells, sheet, "funding_rate", path)})
    table, stamps = _in_order(table, times.stamps, notes)
    stamps = _as_utc(stamps, times.zoned, reading, "funding", path, notes)
    stamps, note = on_minutes(stamps)
    notes += [note] if note else []
    table, stamps = _sorted(table, stamps, notes)
    if not times.zoned and parse_timezone(reading.timezone, "funding") is None:
        check_local(stamps, path)  # also where they were out of order
    rates = table["funding_rate"].to_numpy(dtype=np.float64)
    if not np.isfinite(rates).all():
        check_rates(stamps, rates, path)
    if percent:
        unit, note = 0.01, "rates in percent (%) divided by 100"
    elif unit is None:
        unit, note = rate_unit(rates, path)
    else:
        note = f"rates multiplied by {unit:g}, as their column says" if unit != 1.0 else None
    notes += [note] if note else []
    rates = rates * unit
    check_rates(stamps, rates, path)
    twice = np.flatnonzero(np.diff(stamps.astype(np.int64)) == 0)
    if len(twice):
        raise InputError(f"{path}: {say_time(stamps[twice[0]])} has two settlements that differ; keep one")
    check_rhythm(stamps, rates, path)
    if not times.zoned and parse_timezone(reading.timezone, "funding") is None:
        _check_settlement_hours(stamps, path)
        notes.append(NO_ZONE)
    return Settlements(stamps, rates), tuple(notes)


def read_parquet(path: Path) -> pd.DataFrame:
    """A table that this project wrote. InputError where it is not there or damaged."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from both
        raise InputError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _own_rows(sheet: Sheet, path: Path, symbol: str | None) -> tuple[Sheet, list[str]]:
    """The rows of one market, where a column says of which each is."""
    notes = list(sheet.notes)
    place = next(
        (i for i, name in enumerate(sheet.names) if key(name) in ("symbol", "ticker", "pair", "instrument")), None
    )
    if place is None or sheet.table.empty:
        return sheet, notes
    cells = sheet.table[place].astype(str)
    there = cells.unique()
    if len(there) == 1:
        if not _same(there[0], symbol):
            notes.append(f"its rows are of {shortened(there[0])}" + (f", read as {symbol}" if symbol else ""))
        return sheet, notes
    own = cells.map({name: _same(name, symbol) for name in there}).to_numpy(dtype=bool)
    if not own.any():
        raise InputError(
            f"{path} holds rows of {len(there)} symbols ({', '.join(map(shortened, there[:5]))}), none of them {symbol}; "
            "name one with --symbol"
        )
    notes.append(f"rows of {symbol} taken, of {len(there)} symbols")
    return Sheet(sheet.table[own].reset_index(drop=True), sheet.names, sheet.separator, None, sheet.notes), notes


def _same(name: str, symbol: str | None) -> bool:
    try:
        return symbol is not None and parse_symbol(name).upper() == symbol.upper()
    except InputError:
        return False


def _without_header(sheet: Sheet, path: Path) -> tuple[list[int], dict[str, int], list[int], str]:
    """Places of time, prices and volume by what stands in them: time first, then four prices, then the volume."""
    table, width = sheet.table, sheet.table.shape[1]
    start = 0
    if width > 6 and row_numbers(table[0]):
        start = 1
    clock = width > start + 6 and ":" in str(table[start + 1].iloc[0]) and len(str(table[start + 1].iloc[0])) <= 12
    first = start + 1 + clock
    order = None
    if width >= first + 5 and len(table):
        prices = np.column_stack([numbers(table[i], sheet, f"column {i + 1}", path) for i in range(first, first + 4)])
        stamps = read_times(sheet, range(start, first), path).stamps
        order = price_order(prices[np.argsort(stamps, kind="stable")])
    if order is None:
        raise InputError(
            f"{path} has no header, and its columns are not clearly time, open, high, low, close, volume; {sheet.found()}; say "
            "which is which by number: --columns time=1,open=2,high=3,low=4,close=5,volume=6"
        )
    places = {name: first + order.index(name) for name in PRICES}
    said = f"no header: columns taken as time, {', '.join(order)}, volume"
    return list(range(start, first)), places, [first + 4], said


def _in_order(table: pd.DataFrame, stamps: TimeArray, notes: list[str]) -> tuple[pd.DataFrame, TimeArray]:
    """Oldest first, where the file is newest first, and without repetitions; else as it is: local times need their order."""
    steps = np.diff(stamps.astype(np.int64))
    if len(steps) and np.mean(steps < 0) > 0.9 and not np.any(steps > HOUR_NS):
        notes.append("newest row first: turned round")
        table, stamps = table.iloc[::-1].reset_index(drop=True), stamps[::-1].copy()
    return _once(table, stamps, notes)


def _sorted(table: pd.DataFrame, stamps: TimeArray, notes: list[str]) -> tuple[pd.DataFrame, TimeArray]:
    """By time, each row once."""
    back = np.diff(stamps.astype(np.int64)) < 0
    if back.any():
        notes.append(f"rows sorted by time (row {int(np.argmax(back)) + 2} is before the one above it)")
        order = np.argsort(stamps, kind="stable")
        table, stamps = table.iloc[order].reset_index(drop=True), stamps[order]
    return _once(table, stamps, notes)


def _once(table: pd.DataFrame, stamps: TimeArray, notes: list[str]) -> tuple[pd.DataFrame, TimeArray]:
    """Without rows that repeat the one above in everything, as where files were joined."""
    same = np.concatenate([[False], np.diff(stamps.astype(np.int64)) == 0])
    if same.any():
        values = table.to_numpy()
        same[1:] &= (values[1:] == values[:-1]).all(1)
    if not same.any():
        return table, stamps
    rows = f"{int(same.sum())} row{'s' * (int(same.sum()) > 1)}"
    notes.append(f"{rows} that repeat another dropped, the first at {say_time(stamps[int(np.argmax(same))])}")
    return table[~same].reset_index(drop=True), stamps[~same]


def _as_utc(stamps: TimeArray, zoned: bool, reading: Reading, kind: str, path: Path, notes: list[str]) -> TimeArray:
    """Times of a file, oldest first, as UTC. InputError where they look like local time and nobody said of where."""
    zone = parse_timezone(reading.timezone, kind)
    if zoned:
        if zone not in (None, "UTC"):
            notes.append(f"its times say their zone themselves; --timezone {zone} is not needed")
        return stamps
    if zone is not None:
        if zone != "UTC":
            notes.append(f"times of {zone} turned into UTC")
        return to_utc(stamps, zone, path)
    check_local(stamps, path)
    return stamps


def check_local(stamps: TimeArray, path: Path) -> None:
    """InputError where an hour too much or too little stands where clocks change."""
    where = local_zone(stamps, commonest_step(stamps)) if len(stamps) > 2 else None
    if where is not None:
        raise InputError(
            f"{path}: its times look like local time, as of {where[0]}, whose clocks change by an hour just before {str(where[1])[:16]}; "
            f"give --timezone {where[0]} (or the zone they are of; --timezone UTC where they are UTC and the hour is another fault)"
        )


def _check_settlement_hours(stamps: TimeArray, path: Path) -> None:
    """Settlements every four hours or more stand on full multiples UTC (00, 08, 16; BitMEX: 04, 12, 20), or they are local time."""
    step = commonest_step(stamps)
    if step < 4 * HOUR_NS or step % HOUR_NS:
        return
    off = stamps.astype(np.int64) % (4 * HOUR_NS)
    if np.mean(off != 0) > 0.5:
        clock = sorted({str(s)[11:16] for s in stamps[:12]})
        raise InputError(
            f"{path}: settlements at {', '.join(clock[:4])} look like local time (exchanges settle at 00:00, 08:00 and 16:00 UTC); "
            "give e.g. --timezone funding=Europe/Berlin, or --timezone funding=UTC where they are UTC"
        )
