"""What the journal of a paper account says now, as values: the document of `--json`, where the status table is for a person."""

from __future__ import annotations

import json
from typing import Any

from strategies.paper.records.journal import Journal

META = ("id", "state", "why", "flat", "venue", "interval", "run", "model")
EVENTS = 5
PRICE = "price"  # how far it may move, beside the risk targets by their names


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


def said_of_risk(journal: Journal) -> list[tuple[str, str]]:
    """(symbol, line that begins with the target) of every risk forecast of the newest bar."""
    told = json.loads(journal.get("risk", "{}"))
    return [(symbol, f"{target} {say_risk(target, *v)}") for symbol, mine in told.items() for target, v in mine.items()]


def say_risk(target: str, forecast: float, low: float, high: float, bars: int) -> str:
    """A risk forecast in a line: of the next `bars` bars, with the band that held 80% on validation.

    >>> say_risk("price", -0.019, -0.032, 0.018, 6)
    'over the next 6 bars: one time in 20 below -1.9%, in 100 below -3.2%, in 20 above +1.8%'
    """
    if target == PRICE:
        return f"over the next {bars} bars: one time in 20 below {forecast:+.1%}, in 100 below {low:+.1%}, in 20 above {high:+.1%}"
    if target == "volume":
        return f"{forecast:,.0f} per bar over the next {bars} bars (80%: {low:,.0f} to {high:,.0f}), quote currency"
    share = f"{forecast:.3%}", f"{low:.3%} to {high:.3%}"
    what = "of the price at most" if target == "drawdown" else "per bar"
    return f"{share[0]} {what} over the next {bars} bars (80%: {share[1]})"


def _rows(journal: Journal, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in journal.rows(query)]


def _counts(journal: Journal, query: str) -> dict[str, int]:
    return {row["name"]: row["n"] for row in journal.rows(query)}
