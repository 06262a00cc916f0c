"""What kind of table a file is: packed or not, Parquet, Feather, JSON or text; of a text its separator, the lines above, the header."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pandas as pd

from data.errors import InputError, shortened

HEAD_BYTES = 1 << 16
#: more columns than any table of candles; a file of a million would take minutes
MOST_COLUMNS = 500
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", r"\s+": "space"}
_BYTE_ORDERS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_NOT_TABLES = {
    b"\x89HDF": "HDF5", b"SQLite": "SQLite", b"\x80\x04\x95": "a pickle", b"\x80\x05\x95": "a pickle",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
}  # fmt: skip
#: a number, a percentage or a time, as against a name
_VALUE = re.compile(
    r"[-+$€£]{0,2}\.?\d[\d\s.,:/\-+TZ%eE]*(UTC|GMT[+-]?\d*|[AP]M|[KMBT])?"
    r"|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}|\d{1,2}[- ][A-Za-z]{3}[- ]\d{2,4}.*|nan|null",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sheet:
    """A table as its file has it. names: of the columns, as written, "" where there is none; empty without a header.

    first_line: the file's line that holds row 0 (None where it has no lines). separator: in words; empty where it is no text.
    """

    table: pd.DataFrame
    names: tuple[str, ...] = ()
    separator: str = ""
    first_line: int | None = None
    notes: tuple[str, ...] = field(default=())

    def where(self, row: int) -> str:
        """Where the file has a row: `row 3 (line 5)`, and whether it is the header again, as where files were joined."""
        line = f"line {self.first_line + row}" if self.first_line is not None else ""
        cells, names = ([key(str(cell)) for cell in row] for row in (self.table.iloc[row], self.names))
        again = "where the header stands again, as in joined files: remove it" if cells == names else ""
        more = ", ".join(filter(None, (line, again)))
        return f"row {row + 1}" + (f" ({more})" if more else "")

    def found(self) -> str:
        """What there is, for an error: separator, columns, first row."""
        columns = ", ".join(shortened(name) or "(unnamed)" for name in self.names[:20])
        head = f"columns {columns}" if self.names else f"{self.table.shape[1]} columns without a header"
        row = ", ".join(shortened(value) for value in self.table.iloc[0].tolist()[:12]) if len(self.table) else "none"
        return f"found {head}{f', separated by {self.separator}' if self.separator else ''}; first row: {row}"


def key(name: str) -> str:
    """A column's name as it is looked up: `<OPEN>`, `1. open` and `Open` are one."""
    return "".join(c for c in re.sub(r"^\d+\.\s*", "", name).lower() if c.isalnum())


def read_sheet(path: Path) -> Sheet:
    """The table of a file. InputError where there is none, with what was found."""
    if not path.exists():
        raise InputError(f"no such file: {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a CSV, Parquet or Feather file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; expected candles as CSV, Parquet or Feather")
    try:
        with _unpacked(path) as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            return _read(file, head, path)
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{path} may not be read (permission denied)") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no UTF-8 text and no Parquet; save it as CSV in UTF-8, or as Parquet") from None
    except Exception as error:  # pyarrow, pandas and the unpackers raise many kinds for damaged files
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} is neither readable CSV nor Parquet ({reason})") from None


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path)  # type: ignore[return-value]
    if magic.startswith(b"BZh"):
        return bz2.open(path)
    if magic == b"\xfd7zXZ\0":
        return lzma.open(path)
    if magic.startswith(b"PK\x03\x04"):
        archive = zipfile.ZipFile(path)
        inside = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if "[Content_Types].xml" in inside:
            raise InputError(f"{path} is an Excel workbook; save its sheet as CSV")
        if len(inside) != 1:
            raise InputError(
                f"{path} packs {len(inside)} files ({', '.join(map(shortened, inside[:3]))}); give one at a time"
            )
        return archive.open(inside[0])
    return path.open("rb")


def _read(file: IO[bytes], head: bytes, path: Path) -> Sheet:
    kind = next((kind for magic, kind in _NOT_TABLES.items() if head.startswith(magic)), None)
    if kind is not None:
        raise InputError(f"{path} is {kind}; save it as CSV, Parquet or Feather")
    if head.startswith(b"PAR1"):
        return _of_frame(pd.read_parquet(io.BytesIO(file.read())))
    if head.startswith((b"ARROW1", b"FEA1")):
        return _of_frame(pd.read_feather(io.BytesIO(file.read())))
    encoding = next((name for mark, name in _BYTE_ORDERS.items() if head.startswith(mark)), "utf-8")
    text = codecs.getincrementaldecoder(encoding)().decode(head)
    if "\0" in text:
        raise InputError(f"{path} is no UTF-8 text and no Parquet; save it as CSV in UTF-8, or as Parquet")
    if text.lstrip()[:2].rstrip() in ("[", "[[", "[{", "{", '{"'):
        return _of_frame(_from_json(file.read().decode(encoding), path))
    lines = text.splitlines()
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines = lines[:-1]  # may be cut off
    return _of_text(file, lines, encoding, path)


def _of_frame(frame: pd.DataFrame) -> Sheet:
    """Parquet, Feather, JSON: an index that is more than row numbers is a column like the others."""
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        frame = frame.reset_index(names=frame.index.name or "")
    columns = list(frame.columns)
    if [str(name) for name in columns] == [str(i) for i in range(len(columns))]:  # rows without names
        return Sheet(frame.set_axis(range(len(columns)), axis=1))
    names = tuple(" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in columns)
    return Sheet(frame.set_axis(range(len(names)), axis=1).reset_index(drop=True), names)


def _from_json(text: str, path: Path) -> pd.DataFrame:
    frame = pd.read_json(io.StringIO(text), dtype=False)
    if frame.map(lambda cell: isinstance(cell, (list, dict))).to_numpy().any():
        raise InputError(f"{path} is nested JSON; save its rows alone, as a list of lists or objects, or as CSV")
    return frame


def _of_text(file: IO[bytes], lines: Sequence[str], encoding: str, path: Path) -> Sheet:
    separator = _separator(lines)
    rows = _cells(lines, separator)
    # a table whose other columns are words or empty has one value a row
    scarce = next((i for i, row in enumerate(rows) if any(map(_is_value, row))), len(rows))
    first = next((i for i, row in enumerate(rows) if _is_data(row)), scarce)
    width = Counter(len(row) for row in rows[first : first + 200]).most_common(1)[0][0] if first < len(rows) else 0
    if width > MOST_COLUMNS:
        raise InputError(
            f"{path} has {width} columns; a table of candles has about six. Keep the time, prices and volume"
        )
    if width and _numbered(rows[first]) and first + 1 < len(rows) and _is_data(rows[first + 1]):
        header, first = [], first + 1  # names that pandas gives to columns without any: 0,1,2 ...
    else:
        header = _header(rows[:first], width)
    names = _joined(header, width or max(map(len, header), default=0), rows[first : first + 50])
    notes = []
    above = first - len(header) - sum(not line.strip() for line in lines[:first])
    if header and above > 0:
        notes.append(f"{above} line{'s' * (above > 1)} above the header skipped ({shortened(lines[0], 60)})")
    if len(header) > 1:
        notes.append(f"{len(header)} header lines read as one")
    if not (names or width):
        first_line = shortened(lines[0] if lines else "", 80)
        raise InputError(
            f"{path} holds no table (first line: {first_line!r}); expected time, open, high, low, close, volume"
        )
    if first >= len(rows):
        return Sheet(pd.DataFrame(columns=range(len(names))), names, SEPARATORS[separator], None, tuple(notes))
    table: pd.DataFrame = pd.read_csv(
        file, sep=separator, header=None, names=range(len(names) or width), skiprows=first, encoding=encoding, index_col=False,
        skipinitialspace=True, low_memory=False, on_bad_lines="error",
    )  # fmt: skip
    return Sheet(table, names, SEPARATORS[separator], first + 1, tuple(notes))


def _separator(lines: Sequence[str]) -> str:
    """The one that leaves the most numbers and times in equally long rows, judged by the end of the sample."""

    def score(separator: str) -> tuple[float, float]:
        rows = _cells([line for line in lines[-60:] if line.strip()], separator)
        widths = Counter(map(len, rows))
        if not widths:
            return 0.0, 0.0
        width, times = widths.most_common(1)[0]
        values = sum(sum(map(_is_value, row)) for row in rows if len(row) == width)
        return (values / len(rows) if width > 1 and times >= 0.5 * len(rows) else 0.0), width

    signs = [separator for separator in SEPARATORS if separator != r"\s+"]
    best = max(signs, key=score)
    return best if score(best)[0] >= 1 else r"\s+" if score(r"\s+")[0] >= 1 else ","


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    if separator == r"\s+":
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _is_value(cell: str) -> bool:
    return _VALUE.fullmatch(cell.strip()) is not None


def _is_data(row: Sequence[str]) -> bool:
    values = sum(map(_is_value, row))
    return values >= 2 or (values == 1 < len(row) and sum(map(bool, map(str.strip, row))) == 1)


def _numbered(row: Sequence[str]) -> bool:
    """0,1,2,3 ... with or without an unnamed column before."""
    cells = [cell.strip() for cell in (row[1:] if row and not row[0].strip() else row)]
    return len(cells) > 4 and cells == [str(i) for i in range(len(cells))]


def _header(above: Sequence[list[str]], width: int) -> list[list[str]]:
    """The last lines above the data that are as wide as it (or lack the name of one column)."""
    header: list[list[str]] = []
    for row in reversed(above):
        if not row or (width and len(row) not in (width, width - 1)):
            if row or header:
                break
            continue
        header.insert(0, row)
    return header


def _joined(header: Sequence[list[str]], width: int, data: Sequence[list[str]]) -> tuple[str, ...]:
    """One name per column of header lines; from several (as yfinance writes them) the first that is no repetition of its neighbours'."""
    if not header:
        return ()
    rows = []
    for row in header:
        if len(row) < width:
            trailing = all(len(cells) == width and not cells[-1].strip() for cells in data)
            row = [*row, ""] if trailing else ["", *row]
        rows.append([cell.strip() for cell in row])
    telling = max(rows, key=lambda row: len({cell.lower() for cell in row if cell}))
    return tuple(
        name if name and not (i == 0 and len(rows) > 1) else next((row[i] for row in reversed(rows) if row[i]), "")
        for i, name in enumerate(telling)
    )
