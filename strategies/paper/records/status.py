"""What the journal of a paper account says now, as values: the document of `--json`, where the status table is for a person."""

from __future__ import annotations

from typing import Any

from strategies.paper.records.journal import Journal

META = ("id", "state", "why", "venue", "interval", "run", "model")
EVENTS = 5


def standing(journal: Journal) -> dict[str, Any]:
    """State, last decision (a row per symbol), equity (text: decimals as the exchange said them), position per symbol, counts, events."""
    equity = _rows(journal, "SELECT * FROM equity ORDER BY open_ms DESC LIMIT 1")
    return {
        **{name: journal.get(name) for name in META},
        "symbols": list(journal.symbols),
        "decisions": _rows(journal, "SELECT * FROM decisions WHERE open_ms = (SELECT MAX(open_ms) FROM decisions)"),
        "equity": equity[0] if equity else None,
        "positions": _rows(
            journal, "SELECT * FROM positions WHERE id IN (SELECT MAX(id) FROM positions GROUP BY symbol)"
        ),
        "orders": _counts(journal, "SELECT status AS name, COUNT(*) AS n FROM intents GROUP BY status ORDER BY status"),
        "executions": _counts(
            journal, "SELECT kind AS name, COUNT(*) AS n FROM executions GROUP BY kind ORDER BY kind"
        ),
        "events": _rows(journal, f"SELECT time_ms, kind, text FROM events ORDER BY id DESC LIMIT {EVENTS}"),
    }


def _rows(journal: Journal, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in journal.rows(query)]


def _counts(journal: Journal, query: str) -> dict[str, int]:
    return {row["name"]: row["n"] for row in journal.rows(query)}
