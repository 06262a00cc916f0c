"""The journal of paper trading: SQLite (WAL, fsync at every commit), so that a killed process forgets nothing it has sent.

An order is written here before it is sent; an execution once, by its exchange id. Amounts are decimal text, as on the wire.
"""

from __future__ import annotations

import json
import math
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import filelock

from data.panel import InputError
from strategies.paper.records.database import Connection, JournalError, connect, findings, unusable
from strategies.paper.records.journal_layout import LAYOUT, bring_up, layout_of

Candle = tuple[int, float, float, float, float, float]
#: statuses of an intent whose order may be alive, or whose fate is not known yet
UNSETTLED = ("intended", "sent", "unknown", "open")


@dataclass(frozen=True)
class Execution:
    """One fill, funding payment or liquidation, as the exchange reports it. qty, price, fee: decimals; fee > 0 is paid."""

    exec_id: str
    order_id: str
    link_id: str
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    fee: Decimal
    kind: str  # Trade, Funding, BustTrade, ...
    maker: bool
    time_ms: int
    seq: int

    @property
    def signed(self) -> Decimal:
        """Change of the position; a funding payment changes none."""
        if self.kind == "Funding":
            return Decimal(0)
        return self.qty if self.side == "Buy" else -self.qty


@dataclass(frozen=True)
class Ledger:
    """What the executions add up to. cash: money received minus paid for base units; fees and funding are subtracted apart."""

    size: Decimal = Decimal(0)
    cash: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    funding: Decimal = Decimal(0)  # paid, negative: received

    def profit(self, price: Decimal) -> Decimal:
        return self.cash + self.size * price - self.fees - self.funding


class Journal:
    """One writer at a time; readers (status, page) may look at any moment. Every method commits before it returns."""

    def __init__(self, path: Path, read_only: bool = False, nonce: str | None = None) -> None:
        """JournalError in one line where the file is no journal, is damaged, or cannot be written (a full disk). nonce: makes the
        ids of a new journal's orders its own (default: at random)."""
        self.path = path
        self._db = self._open(path, read_only)
        self._db.row_factory = sqlite3.Row
        wrong = findings(self._db)
        if wrong:
            self._db.close()
            raise unusable(path, f"damaged: {wrong[0]}" + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""))
        self._sums: dict[str, Ledger] = {}
        self._summed = 0
        self._identity = ""
        if not read_only and not self.get("nonce") and not self.rows("SELECT 1 FROM intents LIMIT 1"):
            self.set(nonce=secrets.token_hex(4) if nonce is None else nonce)

    def _open(self, path: Path, read_only: bool) -> Connection:
        try:
            if read_only:
                _modern(path)
                return connect(path, read_only=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            db = connect(path, read_only=False)
            path.chmod(0o600)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            bring_up(db, path)
        except (sqlite3.Error, OSError) as error:
            raise unusable(path, error) from None
        return db

    @property
    def identity(self) -> str:
        """Of this journal and no other, also not of one that has its name later: what the ids of orders are derived from."""
        if not self._identity:
            nonce, name = self.get("nonce"), self.get("id")
            whole = f"{name}/{nonce}" if nonce else name
            self._identity = whole if name else ""  # both stay once they are there
            return whole
        return self._identity

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Everything inside is committed as one, or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled back by itself
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # settings and events

    def get(self, key: str, default: str = "") -> str:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else str(row["value"])

    def set(self, **values: str) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    @property
    def symbols(self) -> tuple[str, ...]:
        """What this account trades."""
        return tuple(name for name in self.get("symbols").split(",") if name)

    def event(self, kind: str, text: str) -> None:
        self._db.execute("INSERT INTO events (time_ms, kind, text) VALUES (?, ?, ?)", (now_ms(), kind, text))

    def rows(self, query: str, *arguments: Any) -> list[sqlite3.Row]:
        """Any SELECT, for pages and tests."""
        found: list[sqlite3.Row] = self._db.execute(query, arguments).fetchall()
        return found

    # candles and funding rates

    def add_candles(self, symbol: str, rows: Iterable[Candle]) -> None:
        """Closed candles (open_ms, open, high, low, close, volume); one that is known stays as it was first seen. NaN: unknown."""
        found = [(symbol, *row) for row in rows]
        self._db.executemany("INSERT OR IGNORE INTO candles VALUES (?, ?, ?, ?, ?, ?, ?)", found)

    def candles(self, symbol: str = "") -> list[Candle]:
        """Of a symbol (of the first one), NaN where the bar is unknown."""
        query = "SELECT open_ms, open, high, low, close, volume FROM candles WHERE symbol = ? ORDER BY open_ms"
        found = self._db.execute(query, (symbol or next(iter(self.symbols), ""),))
        return [(row[0], *(math.nan if v is None else v for v in tuple(row)[1:])) for row in found]  # type: ignore[misc]

    def last_candle_ms(self) -> int:
        """Open time of the newest bar; 0 before the first."""
        return int(self._db.execute("SELECT MAX(open_ms) FROM candles").fetchone()[0] or 0)

    def add_settlements(self, symbol: str, rates: Iterable[tuple[int, float]]) -> None:
        found = [(symbol, *row) for row in rates]
        self._db.executemany("INSERT OR IGNORE INTO settlements VALUES (?, ?, ?)", found)

    def settlements(self, symbol: str) -> list[tuple[int, float]]:
        query = "SELECT time_ms, rate FROM settlements WHERE symbol = ? ORDER BY time_ms"
        return [tuple(row) for row in self._db.execute(query, (symbol,))]

    def add_companion_rows(self, series: str, rows: Iterable[tuple[int, list[float]]]) -> None:
        """Rows of a series that a model reads beside its candles (strategies.paper.decisions.side_inputs)."""
        found = [(series, time, json.dumps(numbers)) for time, numbers in rows]
        self._db.executemany("INSERT OR IGNORE INTO companions VALUES (?, ?, ?)", found)

    def companion_rows(self, series: str) -> list[tuple[int, list[float]]]:
        query = "SELECT time_ms, numbers FROM companions WHERE series = ? ORDER BY time_ms"
        return [(row["time_ms"], json.loads(row["numbers"])) for row in self._db.execute(query, (series,))]

    # decisions

    def decide(self, open_ms: int, symbol: str, **columns: Any) -> None:
        row = {"open_ms": open_ms, "symbol": symbol, "decided_ms": now_ms(), "acted": 0, "note": "", **columns}
        self._insert("decisions", row, "OR IGNORE")

    def acted(self, open_ms: int, note: str, symbol: str = "") -> None:
        """The decision of this bar has been carried out (or refused: `note` says why) for a symbol, or for all that are left."""
        query = "UPDATE decisions SET acted = 1, note = ? WHERE open_ms = ? AND acted = 0 AND ? IN ('', symbol)"
        self._db.execute(query, (note, open_ms, symbol))

    def last_decision(self) -> sqlite3.Row | None:
        """A row of the newest bar; one that is not carried out yet where there is one."""
        query = "SELECT * FROM decisions ORDER BY open_ms DESC, acted, rowid LIMIT 1"
        row: sqlite3.Row | None = self._db.execute(query).fetchone()
        return row

    def decision(self, open_ms: int) -> dict[str, sqlite3.Row]:
        """The rows of a bar, by symbol."""
        rows = self._db.execute("SELECT * FROM decisions WHERE open_ms = ? ORDER BY rowid", (open_ms,))
        return {row["symbol"]: row for row in rows}

    def forecasts_since_change(self, model: str) -> list[sqlite3.Row]:
        """Forecasts (open_ms, symbol, forecast) of the newest bars that `model` decided without another in between."""
        query = (
            "SELECT open_ms, symbol, forecast FROM decisions WHERE open_ms > "
            "(SELECT COALESCE(MAX(open_ms), -1) FROM decisions WHERE model != ?) ORDER BY open_ms"
        )
        return self.rows(query, model)

    # orders

    def intend(self, link_id: str, **columns: Any) -> None:
        """Must be called before an order is sent. IntegrityError where the id was used before."""
        self._insert("intents", {"link_id": link_id, "written_ms": now_ms(), "status": "intended", **columns})

    def update_intent(self, link_id: str, **columns: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE intents SET {names} WHERE link_id = ?", (*columns.values(), link_id))

    def intent(self, link_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute("SELECT * FROM intents WHERE link_id = ?", (link_id,)).fetchone()
        return row

    def unsettled(self) -> list[sqlite3.Row]:
        marks = ", ".join("?" for _ in UNSETTLED)
        query = f"SELECT * FROM intents WHERE status IN ({marks}) ORDER BY written_ms"
        return self.rows(query, *UNSETTLED)

    # executions

    def add_executions(self, executions: Iterable[Execution], source: str) -> list[Execution]:
        """Keeps each once, by exec_id; returns those that were new. source: stream or rest.

        Those of before the journal began (`before`: they are part of its starting position) are left out. A fill of an order that was
        called lost shows that it exists: its fate is open again, to be looked up.
        """
        executions = list(executions)
        if not executions:
            return []
        known = {*json.loads(self.get("before", "[]")), *self._known(executions)}
        new = []
        for e in executions:
            if e.exec_id in known:
                continue
            values = (e.exec_id, e.order_id, e.link_id, e.symbol, e.side, str(e.qty), str(e.price), str(e.fee), e.kind,
                      int(e.maker), e.time_ms, e.seq, source)  # fmt: skip
            marks = ", ".join("?" for _ in values)
            intent = self.intent(e.link_id) if e.kind != "Funding" else None
            if intent is not None and intent["status"] == "lost":
                # before the fill is written: a kill in between leaves an order to look up, not a false record
                self.update_intent(e.link_id, status="open", order_id=e.order_id, settled_ms=None)
                self.event("order", f"{e.link_id}: was called lost, and {e.qty} were filled: looked up again")
            if self._db.execute(f"INSERT OR IGNORE INTO executions VALUES ({marks})", values).rowcount:
                new.append(e)
        return new

    def _known(self, executions: list[Execution]) -> list[str]:
        asked = json.dumps([e.exec_id for e in executions])
        rows = self.rows("SELECT exec_id FROM executions WHERE exec_id IN (SELECT value FROM json_each(?))", asked)
        return [str(row["exec_id"]) for row in rows]

    def executions(self) -> list[Execution]:
        return [_execution(row) for row in self._db.execute("SELECT * FROM executions ORDER BY time_ms, seq, exec_id")]

    def filled(self, link_id: str) -> Decimal:
        """Quantity of one order that has been filled, by the executions known."""
        rows = self._db.execute("SELECT qty FROM executions WHERE link_id = ? AND kind != 'Funding'", (link_id,))
        return sum((Decimal(row["qty"]) for row in rows), Decimal(0))

    def last_execution_ms(self, symbol: str) -> int:
        value = self._db.execute("SELECT MAX(time_ms) FROM executions WHERE symbol = ?", (symbol,)).fetchone()[0]
        return int(value or 0)

    def ledger(self, symbol: str) -> Ledger:
        """Sum over all executions of a symbol (kept as a running sum: only new rows are read again)."""
        query = (
            "SELECT rowid AS number, symbol, kind, side, qty, price, fee FROM executions WHERE rowid > ? ORDER BY rowid"
        )
        for row in self._db.execute(query, (self._summed,)):
            self._summed = row["number"]
            s, fee = self._sums.get(row["symbol"], Ledger()), Decimal(row["fee"])
            if row["kind"] == "Funding":
                s = Ledger(s.size, s.cash, s.fees, s.funding + fee)
            else:
                signed = Decimal(row["qty"]) if row["side"] == "Buy" else -Decimal(row["qty"])
                s = Ledger(s.size + signed, s.cash - signed * Decimal(row["price"]), s.fees + fee, s.funding)
            self._sums[row["symbol"]] = s
        return self._sums.get(symbol, Ledger())

    # account

    def position(self, time_ms: int, symbol: str, size: Decimal, average: Decimal) -> None:
        last = self._db.execute(
            "SELECT size FROM positions WHERE symbol = ? ORDER BY id DESC LIMIT 1", (symbol,)
        ).fetchone()
        if last is None or Decimal(last["size"]) != size:
            self._insert(
                "positions", {"time_ms": time_ms, "symbol": symbol, "size": str(size), "average": str(average)}
            )

    def equity(self, open_ms: int, time_ms: int, equity: Decimal, wallet: Decimal) -> None:
        row = {"open_ms": open_ms, "time_ms": time_ms, "equity": str(equity), "wallet": str(wallet)}
        self._insert("equity", row, "OR REPLACE")

    def _insert(self, table: str, row: Mapping[str, Any], conflict: str = "") -> None:
        names, marks = ", ".join(row), ", ".join("?" for _ in row)
        self._db.execute(f"INSERT {conflict} INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def _modern(path: Path) -> None:
    """A reader of an older journal brings it up to date first; not while a process of that version writes it."""
    db = connect(path, read_only=True)
    try:
        if layout_of(db) >= LAYOUT:
            return
    finally:
        db.close()
    lock = filelock.FileLock(path.parent / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"{path.parent.name} is being traded by an older version of this program; stop that first"
        ) from None
    Journal(path).close()
    lock.release()


def _execution(row: sqlite3.Row) -> Execution:
    return Execution(
        row["exec_id"], row["order_id"], row["link_id"], row["symbol"], row["side"], Decimal(row["qty"]),
        Decimal(row["price"]), Decimal(row["fee"]), row["kind"], bool(row["maker"]), row["time_ms"], row["seq"],
    )  # fmt: skip


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def settings_of(journal: Journal) -> dict[str, Any]:
    """What `run` was started with (never keys)."""
    text = journal.get("settings", "{}")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


__all__ = ["Candle", "Execution", "Journal", "JournalError", "Ledger", "UNSETTLED", "now_ms", "settings_of"]
