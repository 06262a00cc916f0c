"""The user's own candles and funding: CSV or Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.assembly import build_panel, check_candles, infer_interval_ns
from data.coverage import check_covers
from data.intervals import interval_name, interval_ns, parse_interval
from data.panel import CANDLE_FIELDS, InputError, Panel, Settlements

TIME_COLUMNS = ("timestamp", "time", "datetime", "date", "open_time", "start_time", "fundingratetimestamp")
#: further columns a candle file may carry; each must be known at the bar's close
FURTHER_FIELDS = (
    "turnover", "open_interest", "mark_price", "index_price", "premium", "long_ratio", "spread", "imbalance",
)  # fmt: skip


def load_files(
    symbols: Sequence[str],
    files: Sequence[Path],
    *,
    interval: str | None = None,
    funding_files: Sequence[Path] = (),
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    fill_gaps: bool = False,
) -> Panel:
    """One candle file per symbol, in order; the same for funding files (fewer are fine: the first symbols get them)."""
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
        tables[symbol], ignored = read_candles(path)
        if ignored:
            notes.append(f"{path.name}: columns ignored: {', '.join(ignored)}")
        lengths[symbol] = infer_interval_ns(tables[symbol], str(path))
    found = set(lengths.values())
    if len(found) > 1:
        said = ", ".join(f"{symbol} {interval_name(length)}" for symbol, length in lengths.items())
        raise InputError(f"the --data files have different intervals ({said}); give files of one interval")
    length = found.pop()
    if interval is not None and interval_ns(parse_interval(interval)) != length:
        raise InputError(
            f"{files[0]} holds {interval_name(length)} bars but --interval {interval} was asked; "
            "leave --interval out or give a file of that interval"
        )
    settlements = {s: read_settlements(path) for s, path in zip(symbols, funding_files, strict=False)}
    panel = build_panel(
        tables, length, source="file", start=start, end=end, settlements=settlements, fill_gaps=fill_gaps, notes=notes
    )
    for symbol, path in zip(symbols, funding_files, strict=False):
        check_covers(panel, symbol, settlements[symbol].timestamps, str(path))
    return panel


def read_candles(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Candles indexed by open time (UTC, naive), checked; and the names of columns that were ignored."""
    table = _read_table(path)
    missing = [name for name in CANDLE_FIELDS if name not in table.columns]
    if missing:
        raise InputError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"expected timestamp, {', '.join(CANDLE_FIELDS)} (any case)"
        )
    kept = [*CANDLE_FIELDS, *(name for name in FURTHER_FIELDS if name in table.columns)]
    ignored = tuple(str(name) for name in table.columns if name not in kept)
    table = _numbers(table[kept], path)
    check_candles(table, str(path))
    return table, ignored


def read_settlements(path: Path) -> Settlements:
    """A file with the settlement time and the column `funding_rate` (or Bybit's `fundingRate`)."""
    table = _read_table(path).rename(columns={"fundingrate": "funding_rate"})
    if "funding_rate" not in table.columns:
        raise InputError(f"{path} lacks the column funding_rate; expected timestamp, funding_rate")
    if not len(table):
        raise InputError(f"{path} holds no settlement")
    table = _numbers(table[["funding_rate"]], path)
    rates = table["funding_rate"].to_numpy(dtype=np.float64)
    times = table.index.to_numpy().astype("datetime64[ns]")
    if not np.all(np.isfinite(rates)):
        raise InputError(
            f"{path}: funding_rate at {times[int(np.argmax(~np.isfinite(rates)))]} is missing or not a number"
        )
    if np.any(np.abs(rates) > 0.5):
        raise InputError(
            f"{path}: a funding_rate of {rates[int(np.argmax(np.abs(rates)))]:g} is no fraction of notional"
        )
    if np.any(np.diff(times.astype(np.int64)) <= 0):
        raise InputError(f"{path}: settlement times must increase, each once; sort them, oldest first")
    return Settlements(times, rates)


def read_parquet(path: Path) -> pd.DataFrame:
    """A table that this project wrote. InputError where it is not there or damaged."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from both
        raise InputError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _read_table(path: Path) -> pd.DataFrame:
    """The file with lower-case columns, indexed by time (UTC, naive)."""
    if not path.exists():
        raise InputError(f"no such file: {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a CSV or Parquet file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; expected candles as CSV or Parquet")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        table = pd.read_parquet(path) if magic == b"PAR1" else pd.read_csv(path, skipinitialspace=True)
    except PermissionError:
        raise InputError(f"{path} may not be read (permission denied)") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no UTF-8 text and no Parquet; save it as CSV in UTF-8, or as Parquet") from None
    except Exception as error:  # pyarrow and pandas raise many kinds for damaged files
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} is neither readable CSV nor Parquet ({reason})") from None
    lowered = [str(name).strip().lower() for name in table.columns]
    if len(set(lowered)) != len(lowered):
        twice = next(name for name in lowered if lowered.count(name) > 1)
        raise InputError(f"{path} has the column {twice!r} twice (capital letters make no difference)")
    table.columns = pd.Index(lowered)
    name = next((n for n in TIME_COLUMNS if n in table.columns), None)
    if name is not None:
        stamps = table.pop(name)
    elif isinstance(table.index, pd.DatetimeIndex) or str(table.index.name).lower() in TIME_COLUMNS:
        stamps = table.index.to_series()
    else:
        if len(lowered) == 1 and ";" in lowered[0]:
            raise InputError(f"{path} is separated by semicolons; save it with commas, and points in its numbers")
        raise InputError(f"{path} has no time column; expected timestamp (epoch s or ms, or ISO time)")
    table.index = pd.DatetimeIndex(_utc(stamps, path), name="timestamp")
    return table


def _utc(stamps: pd.Series, path: Path) -> pd.DatetimeIndex:
    """Epoch s/ms/us/ns or ISO text or datetimes as naive UTC nanoseconds."""
    numbers = pd.to_numeric(stamps, errors="coerce") if not pd.api.types.is_datetime64_any_dtype(stamps) else None
    try:
        if numbers is not None and len(numbers) and numbers.notna().all():
            # seconds stay below 1e11 until the year 5138, milliseconds below 1e14
            largest = float(numbers.abs().max())
            unit_ns = 10**9 if largest < 1e11 else 10**6 if largest < 1e14 else 10**3 if largest < 1e17 else 1
            whole = numbers.astype(np.int64)
            part = ((numbers - whole) * unit_ns).round().astype(np.int64) if unit_ns > 1 else 0
            return pd.DatetimeIndex((whole * unit_ns + part).to_numpy().astype("datetime64[ns]"))
        parsed = pd.to_datetime(
            stamps, utc=True, format=None if pd.api.types.is_datetime64_any_dtype(stamps) else "ISO8601"
        )
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{path}: times are neither epoch s/ms nor ISO (first: {stamps.iloc[0]!r})") from None
    if parsed.isna().any():
        raise InputError(f"{path}: row {int(np.argmax(parsed.isna().to_numpy())) + 1} has no time")
    return pd.DatetimeIndex(parsed).tz_localize(None).as_unit("ns")


def _numbers(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    out = {}
    for name in table.columns:
        column = pd.to_numeric(table[name], errors="coerce")
        wrong = (column.isna() & table[name].notna()).to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(f"{path}: {name} in row {row + 1} is {table[name].iloc[row]!r}, not a number")
        out[name] = column.astype(np.float64)
    return pd.DataFrame(out, index=table.index)
