"""SQLite for journals: every failure of the file or the disk is one line for a person, wherever it shows."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from data.panel import InputError

_MOST_FINDINGS = 5


class JournalError(InputError):
    """The journal cannot be read or written now: a full disk, a damaged file, somebody else's lock."""


class Connection(sqlite3.Connection):
    """A connection whose failures, other than broken constraints, are `JournalError`s. path: set by `connect`."""

    path: Path

    def cursor(self, *_: Any, **__: Any) -> Any:
        return super().cursor(_Cursor)

    def execute(self, *arguments: Any) -> Any:
        return self.cursor().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self.cursor().executemany(*arguments)


class _Cursor(sqlite3.Cursor):
    def execute(self, *arguments: Any) -> Any:
        return self._told(super().execute, *arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self._told(super().executemany, *arguments)

    def fetchone(self) -> Any:
        return self._told(super().fetchone)

    def fetchall(self) -> Any:
        return self._told(super().fetchall)

    def __next__(self) -> Any:
        return self._told(super().__next__)

    def _told(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except sqlite3.IntegrityError:
            raise  # a program's mistake, not the file's
        except (sqlite3.Error, OverflowError) as error:
            path: Path = getattr(self.connection, "path")  # noqa: B009 (typeshed knows the plain connection only)
            raise unusable(path, error) from None


def unusable(path: Path, error: BaseException | str) -> JournalError:
    """What to say of a journal that cannot be used."""
    return JournalError(
        f"{path} cannot be used as a journal ({error}); make room on the disk, or move {path.parent} away and start anew"
    )


def connect(path: Path, read_only: bool) -> Connection:
    """JournalError where the file is no database or cannot be opened."""
    target = f"{path.resolve().as_uri()}?mode=ro" if read_only else str(path)
    try:
        db = sqlite3.connect(
            target, uri=read_only, timeout=10, isolation_level=None, factory=Connection, check_same_thread=True
        )
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    db.path = path
    return db


# what a sound journal holds

_STATES = ("", "never started", "reconciling", "running", "halted", "stopping", "stopped")
_STATUSES = ("intended", "sent", "unknown", "open", "filled", "cancelled", "rejected", "lost")


def _decimal(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _whole(value: Any) -> bool:
    return isinstance(value, int)


def _real(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _none_or(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _json(kind: type) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        try:
            return isinstance(json.loads(value), kind)
        except (TypeError, ValueError):
            return False

    return check


def _float(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _one_of(known: Iterable[Any]) -> Callable[[Any], bool]:
    names = frozenset(known)
    return lambda value: value in names


#: table -> column -> what its values must be
_SOUND: dict[str, dict[str, Callable[[Any], bool]]] = {
    "meta": {"key": _text, "value": _text},
    "candles": {"symbol": _text, "open_ms": _whole, **{c: _none_or(_real) for c in ("open", "high", "low", "close", "volume")}},
    "settlements": {"symbol": _text, "time_ms": _whole, "rate": _real},
    "decisions": {"open_ms": _whole, "symbol": _text, "decided_ms": _whole, "model": _text, "features_hash": _text,
                  "forecast": _none_or(_real), "volatility": _none_or(_real), "target": _real, "acted": _one_of((0, 1)),
                  "note": _text},
    "equity": {"open_ms": _whole, "time_ms": _whole, "equity": _decimal, "wallet": _decimal},
    "companions": {"series": _text, "time_ms": _whole, "numbers": _json(list)},
    "intents": {"link_id": _text, "open_ms": _whole, "symbol": _text, "side": _one_of(("Buy", "Sell")), "qty": _decimal,
                "kind": _one_of(("Market", "Limit")), "price": _none_or(_decimal), "reduce_only": _one_of((0, 1)),
                "position_idx": _one_of((0, 1, 2)), "reference": _real, "written_ms": _whole, "status": _one_of(_STATUSES),
                "sends": _whole, "filled": _decimal, "average": _none_or(_decimal), "settled_ms": _none_or(_whole)},
    "executions": {"exec_id": _text, "order_id": _text, "link_id": _text, "symbol": _text, "side": _one_of(("Buy", "Sell")),
                   "qty": _decimal, "price": _decimal, "fee": _decimal, "kind": _text, "maker": _one_of((0, 1)),
                   "time_ms": _whole, "seq": _none_or(_whole), "source": _text},
    "positions": {"id": _whole, "time_ms": _whole, "symbol": _text, "size": _decimal, "average": _decimal},
    "events": {"id": _whole, "time_ms": _whole, "kind": _text, "text": _text},
}  # fmt: skip
#: keys of `meta` whose values are read as something
_META: dict[str, Callable[[Any], bool]] = {
    "state": _one_of(_STATES), "baseline_wallet": _decimal, "baseline_size": _decimal, "baseline_average": _decimal, "reached": _float,
    "began_ms": str.isdigit, "synced": lambda v: v.lstrip("-").isdigit(), "risk_since": lambda v: v.lstrip("-").isdigit(),
    "settings": _json(dict), "before": _json(list),
}  # fmt: skip


def findings(db: Connection) -> list[str]:
    """What is wrong with a journal: of the file (integrity_check), of tables, columns and values. Empty where nothing is."""
    try:
        told = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({_MOST_FINDINGS})").fetchall()]
        if told != ["ok"]:
            return told
        found: list[str] = []
        for table, columns in _SOUND.items():
            found += _of_table(db, table, columns)
        return found
    except JournalError as error:
        return [str(error)]


def _of_table(db: Connection, table: str, columns: dict[str, Callable[[Any], bool]]) -> list[str]:
    there = {row[1] for row in db.execute(f"PRAGMA table_info({table})").fetchall()}
    lacking = sorted(set(columns) - there)
    if lacking:
        return [f"table {table} lacks {', '.join(lacking)}"]
    names, found = tuple(columns), []
    for number, row in enumerate(db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall(), 1):
        for name, value in zip(names, tuple(row), strict=True):
            if not columns[name](value):
                found.append(f"{table} row {number}: {name} is {str(value)[:60]!r}")
        if table == "meta" and not found and row[0].split(":")[0] in _META and not _META[row[0].split(":")[0]](row[1]):
            found.append(f"meta {row[0]} is {str(row[1])[:60]!r}")
        if len(found) >= _MOST_FINDINGS:
            break
    return found
