"""Looking after paper accounts from outside: the webhook on a halt, the live view, the kill switch with and without a process."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from data.panel import InputError
from strategies.paper.records.journal import Journal
from strategies.paper.session import _View
from strategies.paper.supervision import Held, show_status, stop_paper
from tests.strategies.paper.rig import KEYS, SYMBOL, Hook, Rig, save_model

ROOT = Path(__file__).resolve().parents[3]
Make = Callable[..., Rig]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig whose folder is a paper account under tmp_path/reports, with a position; its keys are in the environment."""
    made = Rig(tmp_path / "reports" / "paper" / "acct")
    made.journal.set(settings=json.dumps({"endpoint": made.standin.url}), endpoint=made.standin.url)
    made.act()
    made.bar(3)
    assert made.exchange.account.size(SYMBOL)
    monkeypatch.setenv("BYBIT_API_KEY", KEYS.key)
    monkeypatch.setenv("BYBIT_API_SECRET", KEYS.secret)
    yield made
    made.close()


def _shown(view: _View, text: io.StringIO, wanted: tuple[str, ...]) -> str:
    with view:
        deadline = time.monotonic() + 10
        while not all(word in text.getvalue() for word in wanted) and time.monotonic() < deadline:
            time.sleep(0.05)
    return text.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_view_shows_state_target_and_outcome(rig: Make, terminal: bool) -> None:
    r = rig()
    last = r.bar(2)
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=150, color_system=None)
    target = f"target {last['target']:+.3f}"
    wanted = ("running", target, *(("equity", "position", "orders") if terminal else ()))
    shown = _shown(_View(console, r.trader, lambda: None, quiet=False), text, wanted)
    assert all(word in shown for word in wanted), shown
    r.trader._halt("a reason to look [bold]")
    text.seek(text.truncate(0))
    shown = _shown(_View(console, r.trader, lambda: None, quiet=False), text, ("halted", "a reason to look [bold]"))
    assert "a reason to look [bold]" in shown, "nothing is taken for markup"
    text.seek(text.truncate(0))
    assert not _shown(_View(Console(file=text, quiet=True), r.trader, lambda: None, quiet=True), text, ())


def test_stop_without_a_process_cancels_and_flattens_and_needs_no_model(account: Rig, tmp_path: Path) -> None:
    account.crash()
    shutil.rmtree(account.folder / "model")
    account.clock.advance(50 * 3_600_000)  # long after the last candle the journal knows
    assert stop_paper(tmp_path / "reports", None, False, None) == 0
    assert account.exchange.account.size(SYMBOL), "kept unless asked"
    assert stop_paper(tmp_path / "reports", "acct", True, None) == 0
    assert account.exchange.account.size(SYMBOL) == 0
    assert not account.world.calls("/v5/order/cancel-all"), "a person's orders of the symbol would go with it"
    account.journal = journal = Journal(account.folder / "journal.sqlite")
    assert (journal.get("state"), journal.get("why")) == ("stopped", "flat")
    assert {e.exec_id for e in journal.executions()} == {f.exec_id for f in account.exchange.fills}


def test_with_json_standard_output_is_one_document(
    account: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reports"
    assert show_status(out, None, as_json=True) == 0
    (now,) = json.loads(capsys.readouterr().out)
    assert (now["symbols"], now["alive"]) == ([SYMBOL], False)
    assert now["decisions"][0]["open_ms"] == account.journal.last_decision()["open_ms"]
    assert [p["symbol"] for p in now["positions"]] == [SYMBOL]
    assert float(now["equity"]["equity"]) > 0
    assert now["executions"]["Trade"] > 0
    account.crash()
    assert stop_paper(out, None, True, None, as_json=True) == 0
    ended = json.loads(capsys.readouterr().out)
    assert (ended["state"], ended["why"], ended["clean"]) == ("stopped", "flat", True)


def test_stop_says_when_the_exchange_does_not_answer_or_is_gone(account: Rig, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    with Held(account.folder), pytest.raises(InputError, match="being traded already"), Held(account.folder):
        pass
    account.journal.set(settings=json.dumps({"endpoint": "None"}))
    account.crash()
    with pytest.raises(InputError, match="its stand-in exchange ended with it"):
        stop_paper(out, None, True, None)
    account.journal = journal = Journal(account.folder / "journal.sqlite")
    journal.set(settings=json.dumps({"endpoint": account.standin.url}))
    account.standin.stop()
    assert stop_paper(out, None, True, None, wait_s=0.0) == 1
    assert journal.get("why").startswith("NOT clean")


@pytest.mark.slow
def test_the_command_halts_tells_the_webhook_and_is_stopped(hook: Hook, tmp_path: Path) -> None:
    """The real processes: refused keys halt, the webhook hears of it, `stop` ends it; then `stop --flatten` without a process."""
    rig = Rig(tmp_path / "rig")
    rig.crash()
    save_model(tmp_path / "run" / "models" / "0", rig.panel)
    rig.clock.set(rig.clock.now_ms(), speed=7_200.0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200",
                   "BYBIT_API_KEY": KEYS.key, "BYBIT_API_SECRET": KEYS.secret}  # fmt: skip
    command = [sys.executable, "-m", "strategies.paper"]
    arguments = [
        "--run",
        "run",
        "--venue",
        "local",
        "--endpoint",
        rig.standin.url,
        "--history",
        "700",
        "--webhook",
        hook.url,
    ]
    process = subprocess.Popen([*command, *arguments], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    def until(true: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert true()

    try:
        until(lambda: rig.exchange.account.size(SYMBOL))
        rig.fault("code_10003", "/v5/position/list", times=None)
        until(lambda: any(told["kind"] == "halt" for told in hook.told))
        (halt,) = [told for told in hook.told if told["kind"] == "halt"]
        assert halt["state"] == "halted"
        assert "keys" in halt["why"]
        assert KEYS.key not in json.dumps(hook.told)
        told = subprocess.run(
            [*command, "stop"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert told.returncode == 0, told.stderr
        assert process.wait(30) == 1, "it was stopped while halted"
        rig.world.faults.clear()
        size = rig.exchange.account.size(SYMBOL)
        assert size
        told = subprocess.run(
            [*command, "stop", "--flatten"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert told.returncode == 0, told.stderr
        assert "halted" in told.stdout, "what a person has to look at stays so"
        assert rig.exchange.account.size(SYMBOL) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        rig.standin.stop()
