"""The live page: what it shows, to whom, and that nothing of it can be led astray."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from data.panel import InputError
from reports.paper_live import LiveServer, state_of
from strategies.paper.records.journal import Execution, Journal

HOUR_MS = 3_600_000
HOSTILE = '<script>alert("x")</script>'


def written(folder: Path, bars: int = 1300) -> Journal:
    journal = Journal(folder / "journal.sqlite")
    journal.set(
        id="acct",
        symbols="BTCUSDT",
        interval="60",
        venue="local",
        model="/runs/a-run/models/3",
        state="halted",
        why=HOSTILE,
    )
    with journal.together():
        for k in range(bars):
            journal.equity(k * HOUR_MS, k, Decimal(1000 + k), Decimal(1000))
        journal.add_candles("BTCUSDT", [(0, 1.0, 1.0, 1.0, 100.0, 1.0)])
        journal.decide(0, "BTCUSDT", model="m", features_hash="h", forecast=0.25, volatility=0.01, target=0.5)
    journal.add_executions(
        [Execution("e", "o", "l", "BTCUSDT", "Buy", Decimal("2"), Decimal(100), Decimal(0), "Trade", False, 5, 1)],
        "rest",
    )
    journal.intend("l", open_ms=0, symbol="BTCUSDT", side="Buy", qty="2", kind="Market", price=None, reduce_only=0, position_idx=0,
                   reference=1.0)  # fmt: skip
    journal.event("order", HOSTILE)
    return journal


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    written(tmp_path).close()
    made = LiveServer(tmp_path / "journal.sqlite")
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def ask(server: LiveServer, path: str, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, headers={"Host": host or server.hosts[0]})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


def test_state_has_equity_target_held_orders_decision_and_age(tmp_path: Path) -> None:
    journal = written(tmp_path)
    decided = journal.rows("SELECT decided_ms FROM decisions")[0]["decided_ms"]
    state = state_of(journal, decided + 5_000)
    (symbol,) = state["symbols"]
    assert (symbol["forecast"], symbol["target"], symbol["held"]) == (0.25, 0.5, "2")
    assert symbol["weight"] == pytest.approx(200 / (1000 + 1299))
    assert state["age_s"] == 5.0
    assert 400 <= len(state["equity"]) <= 500
    assert state["equity"][-1][1] == 2299.0
    assert state["orders"][0]["link_id" if "link_id" in state["orders"][0] else "qty"]
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert state_of(written(tmp_path / "new", bars=0), 0)["equity"] == []


def test_the_page_and_its_state_are_served_to_this_machine_only(server: LiveServer) -> None:
    status, headers, page = ask(server, "/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert f'<script nonce="{nonce}">' in page
    assert page.count("<script") == 1
    assert "innerHTML" not in page
    assert ask(server, "/")[1]["Content-Security-Policy"] != policy, "a nonce is used once"
    status, headers, text = ask(server, "/state")
    assert (status, headers["Cache-Control"], headers["Content-Type"]) == (
        200,
        "no-store",
        "application/json; charset=utf-8",
    )
    assert json.loads(text)["why"] == HOSTILE
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", ""):
        assert ask(server, "/state", host=host or "x")[0] == 403
    assert ask(server, "/state", host=f"localhost:{server.server_port}")[0] == 200
    assert ask(server, "/../../etc/passwd")[0] == 404
    assert ask(server, "/state?x=1")[0] == 404
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "/", method)[0] == 501


def test_what_is_written_meanwhile_is_seen_without_reload(server: LiveServer) -> None:
    before = json.loads(ask(server, "/state")[2])["state"]
    journal = Journal(server.journal_path)
    journal.set(state="running", why="")
    journal.close()
    assert (before, json.loads(ask(server, "/state")[2])["state"]) == ("halted", "running")


def test_a_port_that_is_taken_is_one_line(server: LiveServer) -> None:
    with pytest.raises(InputError, match=f"--port {server.server_port} cannot be used"):
        LiveServer(server.journal_path, server.server_port)


def test_a_damaged_journal_is_said_not_served(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"no database" * 500)
    made = LiveServer(tmp_path / "journal.sqlite")
    threading.Thread(target=made.serve_forever, daemon=True).start()
    assert ask(made, "/state")[0] == 503
    made.shutdown()
    made.server_close()
