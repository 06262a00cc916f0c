"""The Parquet store: `category/symbol/kind/interval/YYYY-MM.parquet` under `data/cache` or `$REGIME_CACHE`.

Every file appears whole or not at all and carries a checksum of its content, which each reading verifies. Beside the
months, `coverage.json` says which spans are known, so that a hole in the exchange's own history is asked for once only.
The months are written before the coverage: a process killed in between has fetched a little for nothing, nothing else.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from data.atomic import write_atomically, write_text
from data.instruments import InstrumentInfo
from data.series import KINDS, Rows, SeriesKey, Span, Stamps, add_spans, merge, no_rows, open_times, without_spans

CACHE_VARIABLE = "REGIME_CACHE"
_CHECKSUM = b"regime.crc32"


class Damaged(Exception):
    """A file of the store is not what was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


def default_root() -> Path:
    """`$REGIME_CACHE`, or `data/cache` beside this code."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(__file__).resolve().parent / "cache"


@dataclass(frozen=True)
class Held:
    """What the store holds of one series: rows, span of times [first, last] in ms, missing bars in gaps, bytes on disk."""

    key: SeriesKey
    rows: int
    first_ms: int
    last_ms: int
    gaps: tuple[Span, ...]
    missing: int
    size: int


class Series:
    """One series on disk. Reading needs no lock: months are replaced whole."""

    def __init__(self, root: Path, key: SeriesKey) -> None:
        self.key = key
        self.folder = root / key.category / key.symbol / key.kind / key.interval
        self.columns = KINDS[key.kind].columns

    def lock(self) -> FileLock:
        """Held while this series is fetched or changed; released by the system if its process dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    def sweep(self) -> None:
        """Remove what a killed process left half written. Hold the lock: nobody else writes then."""
        for left in self.folder.glob(".*.part"):
            left.unlink(missing_ok=True)

    def covered(self) -> list[Span]:
        """Half-open spans whose rows are known."""
        path = self.folder / "coverage.json"
        try:
            return add_spans([(int(a), int(b)) for a, b in json.loads(path.read_text("utf-8"))["covered"]], [])
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            return []  # damaged: everything counts as unknown and is asked for again

    def missing(self, start_ms: int, end_ms: int) -> list[Span]:
        """What of [start, end) has never been fetched."""
        return without_spans([(start_ms, end_ms)], self.covered())

    def read(self, start_ms: int, end_ms: int) -> Rows:
        """Rows with start <= time < end, every file checked. Raises Damaged."""
        parts = [
            _read_month(self.folder / f"{month}.parquet", self.columns)
            for month in _months(start_ms, end_ms)
            if (self.folder / f"{month}.parquet").exists()
        ]
        if not parts:
            return no_rows(len(self.columns))
        times = np.concatenate([rows.times for rows in parts])
        return Rows(times, np.concatenate([rows.values for rows in parts])).within(start_ms, end_ms)

    def add(self, rows: Rows, covered: list[Span]) -> None:
        """Merge rows into their months, then note the spans as known. Hold the lock."""
        if len(rows):
            for month in _months(int(rows.times[0]), int(rows.times[-1]) + 1):
                new = rows.within(*_month_span(month))
                if not len(new):
                    continue
                path = self.folder / f"{month}.parquet"
                try:
                    old = [_read_month(path, self.columns)] if path.exists() else []
                except Damaged:
                    self.drop(path)
                    old = []
                _write_month(path, merge([*old, new]), self.columns)
        self._note(add_spans(self.covered(), covered))

    def drop(self, path: Path) -> None:
        """Forget a month (a damaged file): its span counts as unknown, then the file goes. Hold the lock."""
        self._note(without_spans(self.covered(), [_month_span(path.stem)]))
        path.unlink(missing_ok=True)

    def _note(self, spans: list[Span]) -> None:
        write_text(self.folder / "coverage.json", json.dumps({"covered": spans}) + "\n")

    def gaps(self, times: Stamps, start_ms: int, end_ms: int) -> list[Span]:
        """Spans [first missing, next present) of a regular series inside [start, end), given the times present."""
        if not KINDS[self.key.kind].regular:
            return []
        wanted = open_times(self.key.interval, start_ms, end_ms)
        lost = wanted[~np.isin(wanted, times, assume_unique=True)]
        if not len(lost):
            return []
        place = np.searchsorted(wanted, lost)
        breaks = np.flatnonzero(np.diff(place) > 1)
        firsts = np.concatenate(([0], breaks + 1))
        lasts = np.concatenate((breaks, [len(lost) - 1]))
        following = np.append(wanted[1:], end_ms)
        return [(int(lost[a]), int(following[place[b]])) for a, b in zip(firsts, lasts, strict=True)]

    def held(self) -> Held | None:
        """None where there is nothing; raises Damaged."""
        files = sorted(self.folder.glob("*.parquet"))
        if not files:
            return None
        rows = self.read(_month_span(files[0].stem)[0], _month_span(files[-1].stem)[1])
        first, last = int(rows.times[0]), int(rows.times[-1])
        gaps = self.gaps(rows.times, first, last + 1)
        missing = sum(len(open_times(self.key.interval, *gap)) for gap in gaps)
        size = sum(path.stat().st_size for path in files)
        return Held(self.key, len(rows), first, last, tuple(gaps), missing, size)


class Store:
    """All series under one folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def series(self, key: SeriesKey) -> Series:
        """One series of the store, whether it holds anything yet or not."""
        return Series(self.root, key)

    def keep_instrument(self, info: InstrumentInfo) -> None:
        """Keep what the exchange says of a symbol: `category/symbol/instrument.json`, the newest word only."""
        path = self.root / info.category / info.symbol / "instrument.json"
        write_text(path, json.dumps(asdict(info), indent=1) + "\n")

    def instrument(self, category: str, symbol: str) -> InstrumentInfo | None:
        """What was kept; None where nothing was, or where it cannot be read (it is asked for again then)."""
        try:
            return InstrumentInfo(**json.loads((self.root / category / symbol / "instrument.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def __iter__(self) -> Iterator[SeriesKey]:
        """Every series that has a file."""
        for folder in sorted({path.parent for path in self.root.glob("*/*/*/*/*.parquet")}):
            category, symbol, kind, interval = folder.relative_to(self.root).parts
            if kind in KINDS:
                yield SeriesKey(category, symbol, kind, interval)


def _months(start_ms: int, end_ms: int) -> list[str]:
    first = np.datetime64(int(start_ms), "ms").astype("datetime64[M]")
    last = np.datetime64(int(max(end_ms - 1, start_ms)), "ms").astype("datetime64[M]")
    return [str(month) for month in np.arange(first, last + 1)]


def _month_span(month: str) -> Span:
    first = np.datetime64(month, "M")
    return int(first.astype("datetime64[ms]").astype(np.int64)), int(
        (first + 1).astype("datetime64[ms]").astype(np.int64)
    )


def _checksum(rows: Rows, columns: tuple[str, ...]) -> bytes:
    value = zlib.crc32(",".join(columns).encode())
    value = zlib.crc32(np.ascontiguousarray(rows.times).data, value)
    for column in range(len(columns)):
        value = zlib.crc32(np.ascontiguousarray(rows.values[:, column]).data, value)
    return f"{value:08x}:{len(rows)}".encode()


def _write_month(path: Path, rows: Rows, columns: tuple[str, ...]) -> None:
    arrays = [pa.array(rows.times).cast(pa.timestamp("ms", tz="UTC"))]
    arrays += [pa.array(rows.values[:, i]) for i in range(len(columns))]
    table = pa.table(arrays, names=["timestamp", *columns]).replace_schema_metadata(
        {_CHECKSUM: _checksum(rows, columns)}
    )
    write_atomically(path, lambda file: pq.write_table(table, file, compression="zstd", write_statistics=False))


def _read_month(path: Path, columns: tuple[str, ...]) -> Rows:
    try:
        table: Any = pq.read_table(path, memory_map=False, use_threads=True, partitioning=None)
        if table.column_names != ["timestamp", *columns]:
            raise Damaged(path)
        times = table.column(0).cast(pa.int64()).to_numpy()
        values = np.empty((len(times), len(columns)), order="F")
        for i in range(len(columns)):
            values[:, i] = table.column(i + 1).to_numpy()
        written = (table.schema.metadata or {}).get(_CHECKSUM)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError):
        raise Damaged(path) from None
    rows = Rows(times, values)
    if written != _checksum(rows, columns):
        raise Damaged(path)
    return rows
