"""A page that follows a paper account while it trades: read-only, on this machine only, from its journal; it needs no reload."""

from __future__ import annotations

import functools
import json
import secrets
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from data.panel import InputError
from strategies.paper.records.holdings import exposure, holdings
from strategies.paper.records.journal import Journal

_POINTS, _ROWS = 500, 12


def state_of(journal: Journal, now_ms: int) -> dict[str, Any]:
    """What the page shows: plain JSON. Ages in seconds; equity as [time in ms, value], at most 500 points."""
    equity = journal.rows("SELECT open_ms, equity FROM equity ORDER BY open_ms")
    every = max(1, -(-len(equity) // _POINTS))
    points = [[row["open_ms"], float(row["equity"])] for row in (equity[::-1][::every])[::-1]]
    worth = float(equity[-1]["equity"]) if equity else 0.0
    held = holdings(journal, worth)
    last = journal.last_decision()
    decided = journal.decision(int(last["open_ms"])) if last is not None else {}
    gross, net = exposure(held)
    symbols = []
    for symbol, holding in held.items():
        row = decided.get(symbol)
        symbols.append({
            "symbol": symbol, "forecast": row["forecast"] if row else None, "target": row["target"] if row else None,
            "held": str(holding.size), "weight": holding.weight, "entry": str(holding.average or ""),
            "stop": float(journal.get(f"stop_distance:{symbol}") or 0.0), "note": row["note"] if row else "",
        })  # fmt: skip
    orders = journal.rows(
        "SELECT written_ms, symbol, side, qty, kind, status, filled, average, reason FROM intents ORDER BY written_ms DESC, "
        "link_id LIMIT ?", _ROWS,
    )  # fmt: skip
    events = journal.rows("SELECT time_ms, kind, text FROM events ORDER BY id DESC LIMIT ?", _ROWS)
    return {
        "name": journal.get("id"), "venue": journal.get("venue"), "interval": journal.get("interval"),
        "model": Path(journal.get("model")).parent.parent.name,
        "state": journal.get("state", "never started"), "why": journal.get("why"), "now_ms": now_ms,
        "bar_ms": last["open_ms"] if last is not None else None,
        "age_s": (now_ms - last["decided_ms"]) / 1000 if last is not None else None,
        "equity": points, "gross": gross, "net": net, "symbols": symbols,
        "orders": [dict(row) for row in orders], "events": [dict(row) for row in events],
    }  # fmt: skip


def page_of(name: str, nonce: str) -> str:
    """The page itself; all that changes comes with `/state`."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    style = (resources.files("reports") / "templates" / "style.css").read_text(encoding="utf-8")
    return templates.get_template("paper_live.html.j2").render(name=name, nonce=nonce, style=Markup(style))


class LiveServer(HTTPServer):
    """Serves one account on loopback. A request that names another host (a page that was led here by DNS) is refused."""

    def __init__(
        self, journal_path: Path, port: int = 0, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(f"--port {port} cannot be used ({error.strerror}); give another, or 0 for any") from None
        self.journal_path, self.clock = journal_path, clock
        self.hosts = (f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}")
        self.url = f"http://{self.hosts[0]}/"

    @functools.cached_property
    def journal(self) -> Journal:
        """Opened by the first request, in the thread that serves; what is written meanwhile is seen."""
        return Journal(self.journal_path, read_only=True)


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    server_version, sys_version = "paper", ""

    def do_GET(self) -> None:
        nonce = secrets.token_urlsafe(12)
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(403, "text/plain", "this page answers to its own address only\n", nonce)
        elif self.path not in ("/", "/state"):
            self._answer(404, "text/plain", "there is / and /state\n", nonce)
        else:
            try:
                journal = self.server.journal
                if self.path == "/":
                    self._answer(200, "text/html", page_of(journal.get("id"), nonce), nonce)
                else:
                    self._answer(200, "application/json", json.dumps(state_of(journal, self.server.clock())), nonce)
            except InputError as error:
                self._answer(503, "text/plain", f"{error}\n", nonce)

    def _answer(self, status: int, kind: str, text: str, nonce: str) -> None:
        body = text.encode()
        self.send_response(status)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        )
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))), ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests every two seconds are no news."""
