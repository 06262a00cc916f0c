"""The disk under a journal: SQLite in memory that outlives its processes. What a kill leaves is what was committed; what a power cut
leaves is what was synced.

With `PRAGMA synchronous=FULL` a commit is synced. With less, the commits since the last sync may be lost: they are kept in a list
then, and a power cut replays some of them only.
"""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

from strategies.paper.records import database
from tests.strategies.paper.simulation.hub import Process

_DURABLE = ("FULL", "EXTRA", "2", "3")


class _Cursor(database._Cursor):
    def execute(self, *arguments: Any) -> Any:
        return self._write(super().execute, *arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self._write(super().executemany, *arguments)

    def _write(self, run: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("SELECT"):
            return run(sql, *rest)
        disk: Disk = self.connection.disk  # type: ignore[attr-defined]
        if disk.owner is None:
            return run(sql, *rest)
        disk.owner.point()  # killed here: nothing of it is on the disk
        if disk.full and sql.startswith(("INSERT", "UPDATE", "COMMIT", "CREATE", "BEGIN")):
            if self.connection.in_transaction and disk.dice.random() < 0.5:
                super().execute("ROLLBACK")  # as SQLite may do by itself
                disk.note("ROLLBACK", (), many=False)
            disk.refused += 1
            self._told(disk.refuse)
        found = run(sql, *rest)
        disk.writes += 1
        disk.note(sql, rest, many=run.__name__ == "executemany")
        if sql.startswith("PRAGMA synchronous"):
            disk.synced = sql.rpartition("=")[2].strip().upper() in _DURABLE
        disk.owner.point()  # killed here: it is
        return found


class _Connection(database.Connection):
    disk: Disk

    def cursor(self, *_: Any, **__: Any) -> Any:
        return sqlite3.Connection.cursor(self, _Cursor)

    def close(self) -> None:
        if self.in_transaction:
            super().execute("ROLLBACK")
            self.disk.note("ROLLBACK", (), many=False)

    def end(self) -> None:
        super().close()


class Disk:
    """full: writes fail. owner: the process whose writes count (None: the auditor's)."""

    def __init__(self, dice: random.Random) -> None:
        self.dice, self.full, self.refused, self.writes = dice, False, 0, 0
        self.owner: Process | None = None
        self.synced = False
        self._unsynced: list[tuple[str, tuple[Any, ...], bool]] = []
        self.db = self._fresh()

    def _fresh(self) -> _Connection:
        db = sqlite3.connect(":memory:", isolation_level=None, factory=_Connection, check_same_thread=False)
        db.disk, db.path = self, Path("journal.sqlite")
        return db

    def open(self, process: Process | None) -> _Connection:
        self.owner = process
        return self.db

    @staticmethod
    def refuse() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    def note(self, sql: str, rest: tuple[Any, ...], many: bool) -> None:
        if not self.synced:
            self._unsynced.append((sql, rest, many))

    def crash(self, power: bool) -> None:
        """The owner is gone: what was not committed is lost; in a power cut also some of what was committed but not synced."""
        if self.db.in_transaction:
            sqlite3.Connection.execute(self.db, "ROLLBACK")
            self.note("ROLLBACK", (), many=False)
        self.owner = None
        if not power or self.synced or not self._unsynced:
            return
        lost = self.dice.randrange(1, min(len(self._unsynced), 60))
        self._unsynced = self._unsynced[:-lost]
        self.db.end()
        self.db = self._fresh()
        for sql, rest, many in self._unsynced:
            (self.db.executemany if many else self.db.execute)(sql, *rest)
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
            self.note("ROLLBACK", (), many=False)

    def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Of what the running process sees; for the auditor."""
        cursor = sqlite3.Connection.cursor(self.db)
        cursor.row_factory = None
        return sqlite3.Cursor.execute(cursor, query, arguments).fetchall()

    def image(self) -> bytes:
        """The journal's bytes."""
        return self.db.serialize()
