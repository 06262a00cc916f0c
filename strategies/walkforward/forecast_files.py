"""Forecasts that others made (`--forecasts FILE`): a row per bar and symbol, a column per model. What is not clear is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.columns import Columns
from data.dialect import Sheet, key, read_sheet
from data.errors import InputError, shortened
from data.files import NO_ZONE, check_local
from data.intervals import DAY_NS, say_time
from data.panel import FloatArray, Panel, TimeArray
from data.symbols import parse_symbol
from data.times import parse_timezone, read_times, to_utc
from data.units import numbers

SYMBOLS = ("symbol", "asset", "ticker", "pair", "instrument", "uniqueid")
MODELS = ("strategy", "model")  # of a long table, as forecasts.parquet of a run is
OURS = ("window",)  # a column of forecasts.parquet that forecasts nothing
MOST_MODELS = 50
FEW = 100  # known forecasts below that can be judged by nothing


@dataclass(frozen=True, eq=False)
class Given:
    """One model's forecasts. values: [T, A] on the panel's bars, NaN where its file has none. ours: a run wrote them."""

    name: str
    title: str
    values: FloatArray
    ours: bool = False


def fingerprint(files: Sequence[str]) -> str:
    """Of the content of the files: part of a run's name. InputError where one cannot be read."""
    digest = hashlib.sha256()
    for name in files:
        try:
            digest.update(Path(name).read_bytes())
        except OSError as error:
            raise InputError(
                f"{name} cannot be read ({error.strerror}); give --forecasts a CSV or Parquet file"
            ) from None
    return digest.hexdigest()[:16]


def read_forecasts(
    files: Sequence[str], panel: Panel, stamps: str = "open", timezone: str | None = None
) -> tuple[list[Given], list[str]]:
    """Every model of every file on the panel's bars, and what was assumed, a line each. stamps: whether rows bear a bar's open or close.

    InputError says in one line what is wrong with a file, and what to do.
    """
    found: list[Given] = []
    said: list[str] = []
    for name in files:
        given, notes = _read(Path(name), panel, stamps, timezone)
        found += given
        said += [f"{Path(name).name}: {note}" for note in notes]
    names = [given.name for given in found]
    for again in {name for name in names if names.count(name) > 1}:
        raise InputError(f"two models are called {again!r} in {', '.join(files)}: rename the column of one")
    if len(found) > MOST_MODELS:
        raise InputError(f"{', '.join(files)} hold {len(found)} models; at most {MOST_MODELS} are judged side by side")
    return found, said


def _read(path: Path, panel: Panel, stamped: str, timezone: str | None) -> tuple[list[Given], list[str]]:
    sheet = read_sheet(path)
    if not sheet.names:
        raise InputError(f"{path} has no header; give columns timestamp, symbol, forecast; {sheet.found()}")
    columns = Columns(sheet, path, {})
    places, closing = columns.times()
    by = next((columns.take("", (name,)) for name in SYMBOLS if name in columns.places), None)
    model = next((columns.take("", (name,)) for name in MODELS if name in columns.places), None)
    ours = model is not None and set(OURS) <= {*columns.places}
    for name in OURS if model is not None else ():
        columns.take("", (name,))
    valued = [i for i, name in enumerate(sheet.names) if i not in columns.used and i not in columns.unnamed]
    if not valued or sheet.table.empty:
        raise InputError(f"{path} holds no forecast; give columns timestamp, symbol, forecast; {sheet.found()}")
    if model is not None and len(valued) > 1:
        raise InputError(f"{path} has a column of models and several of forecasts; keep one way; {sheet.found()}")
    times = read_times(sheet, places, path)
    notes = [*sheet.notes, *times.notes]
    bars = _bars(
        path, panel, _utc(path, times.stamps, times.zoned, timezone, notes, panel), closing or stamped == "close", notes
    )
    assets = _assets(path, panel, sheet, by, notes)
    table = {i: numbers(sheet.table[i], sheet, str(sheet.names[i]), path).to_numpy(np.float64) for i in valued}
    labels = np.zeros(len(bars), int)
    titles = [_title(sheet.names[i], path) for i in valued]
    if model is not None:
        labels, named = pd.factorize(sheet.table[model].astype(str))
        titles = [str(name) for name in named]
    given = []
    for k, title in enumerate(titles):
        values = table[valued[0] if model is not None else valued[k]]
        own = (bars >= 0) & (assets >= 0) & ((labels == k) if model is not None else True)
        grid = _on_grid(path, title, panel, bars, assets, values, own)
        given.append(Given(_plain(title), title, grid, ours))
    return given, notes


def _utc(path: Path, stamps: TimeArray, zoned: bool, timezone: str | None, notes: list[str], panel: Panel) -> TimeArray:
    """As UTC. Local times are known by the hours that their clocks leave out and repeat."""
    zone = parse_timezone(timezone, "data")
    if zoned:
        return stamps
    once = np.unique(stamps)
    if zone is not None:
        if zone == "UTC":
            return stamps
        notes.append(f"times of {zone} turned into UTC")
        return to_utc(once, zone, path)[np.searchsorted(once, stamps)]
    check_local(once, path)
    if panel.interval_ns < DAY_NS:
        notes.append(NO_ZONE)
    return stamps


def _bars(path: Path, panel: Panel, stamps: TimeArray, closing: bool, notes: list[str]) -> npt.NDArray[np.int64]:
    """The bar of every row; -1 outside the market's history. InputError where stamps lie between bars."""
    whole = stamps.astype("datetime64[s]").astype("datetime64[ns]")
    whole = np.where(stamps - whole >= np.timedelta64(500_000_000, "ns"), whole + np.timedelta64(1, "s"), whole)
    length = np.timedelta64(panel.interval_ns, "ns")
    opens = whole - length if closing else whole
    if closing:
        notes.append("rows are stamped with the close of their bar")
    bars = np.searchsorted(panel.timestamps, opens)
    inside = (opens >= panel.timestamps[0]) & (opens <= panel.timestamps[-1])
    hit = inside & (panel.timestamps[np.minimum(bars, len(panel) - 1)] == opens)
    if not inside.any():
        raise InputError(
            f"{path}: its forecasts run from {say_time(opens.min())} to {say_time(opens.max())}, the candles from "
            f"{say_time(panel.timestamps[0])} to {say_time(panel.timestamps[-1])}: no bar is in both; "
            "give other --start and --end, or another file"
        )
    between = inside & ~hit
    if between.mean() > 0.01:
        row = int(np.argmax(between))
        raise InputError(
            f"{path}: {say_time(opens[row])} (row {row + 1}) is no opening time of a bar of these candles, nor are "
            f"{int(between.sum()) - 1:,} others; "
            "stamps name the bar at whose close the forecast was known: give the zone (--timezone), the candles' own --interval, "
            "or --forecast-stamps close"
        )
    if between.any():
        notes.append(
            f"{int(between.sum())} rows between bars left out, the first at {say_time(opens[int(np.argmax(between))])}"
        )
    if outside := int((~inside).sum()):
        notes.append(f"{outside:,} rows before or after the candles left out")
    return np.where(hit, bars, -1)


def _assets(path: Path, panel: Panel, sheet: Sheet, place: int | None, notes: list[str]) -> npt.NDArray[np.int64]:
    """The asset of every row; -1 for symbols that this run does not trade."""
    if place is None:
        if len(panel.assets) > 1:
            raise InputError(
                f"{path} has no column symbol, and this run trades {', '.join(panel.assets)}: say of which symbol each row "
                f"is; {sheet.found()}"
            )
        return np.zeros(len(sheet.table), np.int64)
    codes, names = pd.factorize(sheet.table[place].astype(str))
    known = {asset.upper(): a for a, asset in enumerate(panel.assets)}
    of = []
    for name in names:
        try:
            of.append(known.get(parse_symbol(str(name)).upper(), -1))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    strange = [shortened(str(name)) for name, a in zip(names, of, strict=True) if a < 0]
    missing = [asset for a, asset in enumerate(panel.assets) if a not in of]
    if missing:
        held = f"it holds {', '.join(strange[:5])}" if strange else f"it holds {', '.join(map(str, names[:5]))}"
        raise InputError(f"{path} has no forecast of {', '.join(missing)}: {held}; give the --symbol that it forecasts")
    if strange:
        notes.append(f"rows of {', '.join(strange[:5])} left out: not in --symbol")
    return np.array(of, np.int64)[codes]


def _on_grid(
    path: Path,
    title: str,
    panel: Panel,
    bars: npt.NDArray[np.int64],
    assets: npt.NDArray[np.int64],
    values: FloatArray,
    own: npt.NDArray[np.bool_],
) -> FloatArray:
    """[T, A]. InputError where a bar has two forecasts that differ, or none can be judged."""
    at = bars[own] * len(panel.assets) + assets[own]
    told = values[own]
    if np.isinf(told).any():
        row = int(np.flatnonzero(own)[int(np.argmax(np.isinf(told)))])
        raise InputError(f"{path}: {title} in row {row + 1} is infinite; give a number, or leave the row out")
    order = np.argsort(at, kind="stable")
    at, told = at[order], told[order]
    same = at[1:] == at[:-1]
    differ = same & ~((told[1:] == told[:-1]) | (np.isnan(told[1:]) & np.isnan(told[:-1])))
    if differ.any():
        first = int(at[int(np.argmax(differ))])
        raise InputError(
            f"{path}: {title} has two different forecasts of {panel.assets[first % len(panel.assets)]} for "
            f"{say_time(panel.timestamps[first // len(panel.assets)])}, and so in {int(differ.sum()) - 1:,} more places: keep the "
            "one that was known at the bar's close"
        )
    grid = np.full(len(panel) * len(panel.assets), np.nan)
    grid[at] = told
    known = int(np.isfinite(grid).sum())
    if known < FEW:
        raise InputError(
            f"{path}: {title} has {known} known forecasts on these bars ({int(np.isnan(told).sum()):,} rows are NaN "
            f"or empty); at least {FEW} are needed"
        )
    return grid.reshape(len(panel), len(panel.assets))


def _title(name: str, path: Path) -> str:
    """A column called `forecast` is the model that its file is named after."""
    return path.stem if key(name) in ("forecast", "prediction", "yhat", "signal") else name


def _plain(title: str) -> str:
    """What files and tables call a model."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", title).strip("_.")[:60] or "forecast"
