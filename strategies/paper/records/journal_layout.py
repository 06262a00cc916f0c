"""The tables of a paper-trading journal, and how a journal of an older version gets them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from data.panel import InputError

#: 1: one symbol, named in `meta` only. 2: candles, settlements, decisions and positions by symbol
LAYOUT = 2
_META = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_BY_SYMBOL = (
    # values NULL: the bar counts as unknown for this symbol, whatever may come later
    """CREATE TABLE candles (symbol TEXT, open_ms INTEGER, open REAL, high REAL, low REAL, close REAL, volume REAL,
    PRIMARY KEY (symbol, open_ms))""",
    "CREATE TABLE settlements (symbol TEXT, time_ms INTEGER, rate REAL NOT NULL, PRIMARY KEY (symbol, time_ms))",
    """CREATE TABLE decisions (
    open_ms INTEGER, symbol TEXT, decided_ms INTEGER, model TEXT, features_hash TEXT, forecast REAL, volatility REAL, target REAL,
    acted INTEGER NOT NULL, note TEXT, PRIMARY KEY (open_ms, symbol))""",
    """CREATE TABLE equity (
    open_ms INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, equity TEXT NOT NULL, wallet TEXT NOT NULL)""",
)
_REST = (
    """CREATE TABLE IF NOT EXISTS companions (
    series TEXT, time_ms INTEGER, numbers TEXT NOT NULL, PRIMARY KEY (series, time_ms))""",
    """CREATE TABLE IF NOT EXISTS intents (
    link_id TEXT PRIMARY KEY, open_ms INTEGER NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL, qty TEXT NOT NULL,
    kind TEXT NOT NULL, price TEXT, reduce_only INTEGER NOT NULL, position_idx INTEGER NOT NULL, reference REAL NOT NULL,
    written_ms INTEGER NOT NULL, status TEXT NOT NULL, sends INTEGER NOT NULL DEFAULT 0, order_id TEXT, reason TEXT,
    filled TEXT NOT NULL DEFAULT '0', average TEXT, settled_ms INTEGER)""",
    "CREATE INDEX IF NOT EXISTS intents_by_status ON intents (status)",
    "CREATE INDEX IF NOT EXISTS intents_by_bar ON intents (open_ms)",
    """CREATE TABLE IF NOT EXISTS executions (
    exec_id TEXT PRIMARY KEY, order_id TEXT NOT NULL, link_id TEXT NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
    qty TEXT NOT NULL, price TEXT NOT NULL, fee TEXT NOT NULL, kind TEXT NOT NULL, maker INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, seq INTEGER, source TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS executions_by_time ON executions (time_ms)",
    "CREATE INDEX IF NOT EXISTS executions_by_link ON executions (link_id)",
    "CREATE INDEX IF NOT EXISTS executions_by_symbol ON executions (symbol, time_ms)",
    """CREATE TABLE IF NOT EXISTS positions (
    id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, symbol TEXT NOT NULL, size TEXT NOT NULL, average TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL)""",
)
#: what layout 1 kept once and layout 2 keeps by symbol: (table, columns that stay)
_MOVED = (
    ("candles", "open_ms, open, high, low, close, volume"),
    ("settlements", "time_ms, rate"),
    ("decisions", "open_ms, decided_ms, model, features_hash, forecast, volatility, target, acted, note"),
)
_META_BY_SYMBOL = ("baseline_size", "baseline_average", "reached", "foreign_order")


def layout_of(db: sqlite3.Connection) -> int:
    """0: no tables yet."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return version or (1 if "candles" in tables else 0)


def bring_up(db: sqlite3.Connection, path: Path) -> None:
    """All tables in this version's layout, in one transaction. InputError where a later version wrote the journal."""
    found = layout_of(db)
    if found > LAYOUT:
        raise InputError(
            f"{path} was written by a later version (layout {found}, this one reads {LAYOUT}); update first"
        )
    if found == LAYOUT:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        if layout_of(db) < LAYOUT:  # nobody was faster
            _move(db) if found == 1 else _make(db)
            db.execute(f"PRAGMA user_version = {LAYOUT}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _make(db: sqlite3.Connection) -> None:
    for statement in (_META, *_BY_SYMBOL, *_REST):
        db.execute(statement)


def _move(db: sqlite3.Connection) -> None:
    row = db.execute("SELECT value FROM meta WHERE key = 'symbol'").fetchone()
    symbol = str(row[0]) if row is not None else ""
    for table in ("candles", "settlements", "decisions", "equity"):
        db.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    _make(db)
    for table, columns in _MOVED:
        db.execute(f"INSERT INTO {table} (symbol, {columns}) SELECT ?, {columns} FROM {table}_1", (symbol,))
    db.execute("INSERT INTO equity SELECT open_ms, time_ms, equity, wallet FROM equity_1")
    for table in ("candles", "settlements", "decisions", "equity"):
        db.execute(f"DROP TABLE {table}_1")
    db.execute("UPDATE meta SET key = 'symbols' WHERE key = 'symbol'")
    for key in _META_BY_SYMBOL:
        db.execute("UPDATE meta SET key = ? WHERE key = ?", (f"{key}:{symbol}", key))
