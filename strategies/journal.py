"""The journal of paper trading: SQLite (WAL, fsync at every commit), so that a killed process forgets nothing it has sent.

An order is written here before it is sent; an execution once, by its exchange id. Amounts are decimal text, as on the wire.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS candles (
    open_ms INTEGER PRIMARY KEY, open REAL, high REAL, low REAL, close REAL, volume REAL);
CREATE TABLE IF NOT EXISTS settlements (time_ms INTEGER PRIMARY KEY, rate REAL NOT NULL);
CREATE TABLE IF NOT EXISTS companions (series TEXT, time_ms INTEGER, numbers TEXT NOT NULL, PRIMARY KEY (series, time_ms));
CREATE TABLE IF NOT EXISTS decisions (
    open_ms INTEGER PRIMARY KEY, decided_ms INTEGER, model TEXT, features_hash TEXT, forecast REAL, volatility REAL,
    target REAL, position REAL, wait_bars INTEGER, rule_equity REAL, rule_peak REAL, smoothed REAL, acted INTEGER NOT NULL, note TEXT);
CREATE TABLE IF NOT EXISTS intents (
    link_id TEXT PRIMARY KEY, open_ms INTEGER NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL, qty TEXT NOT NULL,
    kind TEXT NOT NULL, price TEXT, reduce_only INTEGER NOT NULL, position_idx INTEGER NOT NULL, reference REAL NOT NULL,
    written_ms INTEGER NOT NULL, status TEXT NOT NULL, sends INTEGER NOT NULL DEFAULT 0, order_id TEXT, reason TEXT,
    filled TEXT NOT NULL DEFAULT '0', average TEXT, settled_ms INTEGER);
CREATE INDEX IF NOT EXISTS intents_by_status ON intents (status);
CREATE INDEX IF NOT EXISTS intents_by_bar ON intents (open_ms);
CREATE TABLE IF NOT EXISTS executions (
    exec_id TEXT PRIMARY KEY, order_id TEXT NOT NULL, link_id TEXT NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
    qty TEXT NOT NULL, price TEXT NOT NULL, fee TEXT NOT NULL, kind TEXT NOT NULL, maker INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, seq INTEGER, source TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS executions_by_time ON executions (time_ms);
CREATE INDEX IF NOT EXISTS executions_by_link ON executions (link_id);
CREATE TABLE IF NOT EXISTS positions (
    id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, symbol TEXT NOT NULL, size TEXT NOT NULL, average TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS equity (
    open_ms INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, equity TEXT NOT NULL, wallet TEXT NOT NULL, price REAL NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""
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

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        if read_only:
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
        self._db.row_factory = sqlite3.Row
        self._sum, self._summed = Ledger(), 0

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Everything inside is committed as one, or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # settings and events

    def get(self, key: str, default: str = "") -> str:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else str(row["value"])

    def set(self, **values: str) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    def event(self, kind: str, text: str) -> None:
        self._db.execute("INSERT INTO events (time_ms, kind, text) VALUES (?, ?, ?)", (now_ms(), kind, text))

    def rows(self, query: str, *arguments: Any) -> list[sqlite3.Row]:
        """Any SELECT, for pages and tests."""
        return self._db.execute(query, arguments).fetchall()

    # candles and funding rates

    def add_candles(self, rows: Iterable[tuple[int, float, float, float, float, float]]) -> int:
        """Closed candles (open_ms, open, high, low, close, volume); one that is known stays as it was first seen."""
        return self._db.executemany("INSERT OR IGNORE INTO candles VALUES (?, ?, ?, ?, ?, ?)", list(rows)).rowcount

    def candles(self) -> list[tuple[int, float, float, float, float, float]]:
        return [tuple(row) for row in self._db.execute("SELECT * FROM candles ORDER BY open_ms")]

    def add_settlements(self, rates: Iterable[tuple[int, float]]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO settlements VALUES (?, ?)", list(rates))

    def settlements(self) -> list[tuple[int, float]]:
        return [tuple(row) for row in self._db.execute("SELECT * FROM settlements ORDER BY time_ms")]

    def add_companion_rows(self, series: str, rows: Iterable[tuple[int, list[float]]]) -> None:
        """Rows of a series that a model reads beside its candles (strategies.companions)."""
        found = [(series, time, json.dumps(numbers)) for time, numbers in rows]
        self._db.executemany("INSERT OR IGNORE INTO companions VALUES (?, ?, ?)", found)

    def companion_rows(self, series: str) -> list[tuple[int, list[float]]]:
        query = "SELECT time_ms, numbers FROM companions WHERE series = ? ORDER BY time_ms"
        return [(row["time_ms"], json.loads(row["numbers"])) for row in self._db.execute(query, (series,))]

    # decisions

    def decide(self, open_ms: int, **columns: Any) -> None:
        row = {"open_ms": open_ms, "decided_ms": now_ms(), "acted": 0, "note": "", **columns}
        self._insert("decisions", row, "OR IGNORE")

    def acted(self, open_ms: int, note: str) -> None:
        """The decision of this bar has been carried out (or refused: `note` says why)."""
        self._db.execute("UPDATE decisions SET acted = 1, note = ? WHERE open_ms = ?", (note, open_ms))

    def last_decision(self) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute("SELECT * FROM decisions ORDER BY open_ms DESC LIMIT 1").fetchone()
        return row

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
        return self._db.execute(query, UNSETTLED).fetchall()

    # executions

    def add_executions(self, executions: Iterable[Execution], source: str) -> list[Execution]:
        """Keeps each once, by exec_id; returns those that were new. source: stream or rest.

        Those of before the journal began (`before`: they are part of its starting position) are left out.
        """
        new = []
        before = json.loads(self.get("before", "[]"))
        for e in executions:
            if e.exec_id in before:
                continue
            values = (e.exec_id, e.order_id, e.link_id, e.symbol, e.side, str(e.qty), str(e.price), str(e.fee), e.kind,
                      int(e.maker), e.time_ms, e.seq, source)  # fmt: skip
            marks = ", ".join("?" for _ in values)
            if self._db.execute(f"INSERT OR IGNORE INTO executions VALUES ({marks})", values).rowcount:
                new.append(e)
        return new

    def executions(self) -> list[Execution]:
        return [_execution(row) for row in self._db.execute("SELECT * FROM executions ORDER BY time_ms, seq, exec_id")]

    def filled(self, link_id: str) -> Decimal:
        """Quantity of one order that has been filled, by the executions known."""
        rows = self._db.execute("SELECT qty FROM executions WHERE link_id = ? AND kind != 'Funding'", (link_id,))
        return sum((Decimal(row["qty"]) for row in rows), Decimal(0))

    def last_execution_ms(self) -> int:
        value = self._db.execute("SELECT MAX(time_ms) FROM executions").fetchone()[0]
        return int(value or 0)

    def ledger(self) -> Ledger:
        """Sum over all executions (kept as a running sum: only new rows are read again)."""
        size, cash = self._sum.size, self._sum.cash
        fees, funding = self._sum.fees, self._sum.funding
        query = "SELECT rowid AS number, kind, side, qty, price, fee FROM executions WHERE rowid > ? ORDER BY rowid"
        for row in self._db.execute(query, (self._summed,)):
            self._summed = row["number"]
            fee = Decimal(row["fee"])
            if row["kind"] == "Funding":
                funding += fee
                continue
            signed = Decimal(row["qty"]) if row["side"] == "Buy" else -Decimal(row["qty"])
            size += signed
            cash -= signed * Decimal(row["price"])
            fees += fee
        self._sum = Ledger(size, cash, fees, funding)
        return self._sum

    # account

    def position(self, time_ms: int, symbol: str, size: Decimal, average: Decimal) -> None:
        last = self._db.execute("SELECT size FROM positions ORDER BY id DESC LIMIT 1").fetchone()
        if last is None or Decimal(last["size"]) != size:
            self._insert(
                "positions", {"time_ms": time_ms, "symbol": symbol, "size": str(size), "average": str(average)}
            )

    def equity(self, open_ms: int, time_ms: int, equity: Decimal, wallet: Decimal, price: float) -> None:
        row = {"open_ms": open_ms, "time_ms": time_ms, "equity": str(equity), "wallet": str(wallet), "price": price}
        self._insert("equity", row, "OR REPLACE")

    def _insert(self, table: str, row: Mapping[str, Any], conflict: str = "") -> None:
        names, marks = ", ".join(row), ", ".join("?" for _ in row)
        self._db.execute(f"INSERT {conflict} INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


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
