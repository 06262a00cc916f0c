"""The paper command as a person meets it: targets of the backtest, keys that never show, errors that say what to do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from data.panel import InputError
from nas.features.bank import causal_volatility
from strategies.backtest.positions import target_positions
from strategies.paper.__main__ import app
from strategies.paper.decisions.decide import decide, nothing_before
from strategies.paper.decisions.history import History
from strategies.paper.decisions.strategy import load_strategy
from strategies.paper.orders.account_rows import Instrument
from strategies.paper.orders.keys import Keys, load_keys
from strategies.paper.orders.placement import legs, link_id, wanted_size
from strategies.paper.records.journal import Journal
from strategies.paper.replay import explain, targets_again
from strategies.walkforward.provenance import decision_files
from tests.strategies.paper import table
from tests.strategies.paper.rig import (
    HISTORY,
    HOUR_MS,
    KEYS,
    SYMBOL,
    Rig,
    bars_of,
    candle_rows,
    market_panel,
    rewrite,
    save_model,
)

ROOT = Path(__file__).resolve().parents[3]
Make = Callable[..., Rig]


def test_bar_by_bar_decisions_are_those_of_the_batch(tmp_path: Path) -> None:
    panel = market_panel(900)
    strategy = load_strategy(save_model(tmp_path / "m", panel, threshold=0.1), SYMBOL, "60")
    rows = candle_rows(panel)
    history, past, got = History((SYMBOL,), HOUR_MS, bars_of(rows[:HISTORY])), nothing_before(strategy), []
    for bar in bars_of(rows[HISTORY:]):
        history.add([bar])
        (decision,) = decide(strategy, history, past, history.count - 1, history.count)
        past = np.vstack([past, [decision.forecast]])
        got.append(decision.target)
    forecasts = strategy.model.predict(panel, HISTORY, len(panel))[:, 0]
    volatility = causal_volatility(panel)[HISTORY:, 0]
    expected = target_positions(forecasts, volatility, strategy.rule, panel.bars_per_year)
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(np.array(got), expected)


def test_features_bar_by_bar_are_those_of_the_batch_to_the_last_bit(tmp_path: Path) -> None:
    panel = market_panel(760)
    strategy = load_strategy(save_model(tmp_path / "m", panel), SYMBOL, "60")
    batch = strategy.model.bank(panel).values
    history = History((SYMBOL,), HOUR_MS, bars_of(candle_rows(panel)))
    for stop in (HISTORY, HISTORY + 1, 731, 760):
        np.testing.assert_array_equal(strategy.model.bank(history.panel(stop)).values, batch[:, :, :stop])


def test_a_decision_ignores_what_comes_after_it(tmp_path: Path) -> None:
    panel = market_panel(720)
    strategy = load_strategy(save_model(tmp_path / "m", panel), SYMBOL, "60")
    rows = candle_rows(panel)
    other = rows[: HISTORY + 1] + [(t, o * 2, h * 3, low, c * 2.5, v * 9) for t, o, h, low, c, v in rows[HISTORY + 1 :]]
    histories = [History((SYMBOL,), HOUR_MS, bars_of(each)) for each in (rows, other)]
    first, second = (decide(strategy, h, nothing_before(strategy), HISTORY, HISTORY + 1) for h in histories)
    assert first == second


def test_replay_finds_identical_targets_and_explains_the_profit(rig: Make) -> None:
    r = rig()
    r.bar(20)
    r.restart()
    r.bar(10)
    r.settle()
    told = explain(r.journal)
    assert told.identical == told.compared == 31
    parts = told.price + told.latency + told.slippage + told.fee + told.funding
    assert told.backtest + parts == pytest.approx(told.live, abs=1e-6)
    ledger = r.journal.ledger(SYMBOL)
    close = Decimal(str(r.journal.candles()[-1][4]))
    end = r.newest_ms + HOUR_MS
    late = [e for e in r.journal.executions() if e.time_ms >= end]
    expected = ledger.profit(close) + sum((e.signed * (e.price - close) + e.fee for e in late), Decimal(0))
    assert told.live == pytest.approx(float(expected), abs=1e-4), "explained profit is the executions' profit"


def test_replay_notices_a_target_that_is_not_the_backtests(rig: Make) -> None:
    r = rig()
    r.bar(3)
    r.journal._db.execute(
        "UPDATE decisions SET target = target + 1e-15 * (1 + abs(target)) WHERE open_ms = ?", (r.newest_ms,)
    )
    _, _, said, again, _ = targets_again(r.journal)
    assert list((said == again)[:, 0]) == [True, True, True, False]


def test_page_is_offline_and_escapes(rig: Make, tmp_path: Path) -> None:
    from reports.paper import build_paper_page

    r = rig()
    r.bar(6)
    r.journal.event("trouble", "<script>alert(1)</script>")
    text = build_paper_page(r.journal.path, tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "7 of 7 targets are identical" in text
    assert "SIMULATED MARKET" in text


def test_ids_are_short_valid_and_derived() -> None:
    one = link_id("run", "BTCUSDT", 1_700_000_000_000, 0, 0)
    assert one == link_id("run", "BTCUSDT", 1_700_000_000_000, 0, 0)
    others = {link_id(*a) for a in (("r", "BTCUSDT", 1_700_000_000_000, 0, 0), ("run", "ETHUSDT", 1_700_000_000_000, 0, 0),
              ("run", "BTCUSDT", 1_700_000_060_000, 0, 0), ("run", "BTCUSDT", 1_700_000_000_000, 1, 0),
              ("run", "BTCUSDT", 1_700_000_000_000, 0, 1))}  # fmt: skip
    assert len(others | {one}) == 6
    longest = link_id("x" * 90, "1000000BABYDOGEUSDT", 4_000_000_000_000, 1, 199)
    assert len(longest) <= 36
    assert set(longest) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@pytest.mark.parametrize(
    ("held", "wanted", "hedge", "expected"),
    [
        ("0", "1", False, [("Buy", "1", False, 0)]), ("2", "1", False, [("Sell", "1", True, 0)]),
        ("1", "-1", False, [("Sell", "2", False, 0)]), ("-1", "0", False, [("Buy", "1", True, 0)]),
        ("1", "-2", True, [("Sell", "1", True, 1), ("Sell", "2", False, 2)]), ("0", "-1", True, [("Sell", "1", False, 2)]),
        ("-1", "0", True, [("Buy", "1", True, 2)]), ("-1", "3", True, [("Buy", "1", True, 2), ("Buy", "3", False, 1)]),
        ("1", "1", False, []),
    ],
)  # fmt: skip
def test_legs(held: str, wanted: str, hedge: bool, expected: list[tuple[str, str, bool, int]]) -> None:
    got = [
        (leg.side, str(leg.qty), leg.reduce_only, leg.position_idx)
        for leg in legs(Decimal(held), Decimal(wanted), hedge)
    ]
    assert got == expected


def test_sizes_follow_the_backtests_rule() -> None:
    btc = Instrument(SYMBOL, *(Decimal(x) for x in ("0.1", "0.001", "0.001", "100", "50", "5", "100")))
    size = wanted_size(0.5, 0.0, Decimal(0), Decimal(10_000), 30_000.0, btc, 0.1)
    assert size == Decimal("0.166"), "towards zero"
    assert wanted_size(0.5, 0.5, Decimal("0.166"), Decimal(10_000), 31_000.0, btc, 0.1) is None
    assert wanted_size(0.5, 0.5, Decimal("0.266"), Decimal(10_000), 31_000.0, btc, 0.1) == Decimal("0.161")
    assert wanted_size(-0.5, 0.0, Decimal(0), Decimal(10_000), 30_000.0, btc, 0.1) == Decimal("-0.166")


def test_key_file_must_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "keys"
    file.write_text('BYBIT_API_KEY=abc\nexport BYBIT_API_SECRET="def"\n')
    file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        load_keys(file, "testnet")
    file.chmod(0o600)
    assert load_keys(file, "testnet") == Keys("abc", "def")
    with pytest.raises(InputError, match="--venue local"):
        load_keys(None, "testnet")


def test_keys_never_show_in_text() -> None:
    assert KEYS.key not in f"{KEYS!r} {KEYS}"
    assert KEYS.secret not in repr(KEYS)
    assert KEYS.redact(f"a {KEYS.key} b {KEYS.secret}") == "a [redacted] b [redacted]"


def test_docs_hold_the_tables() -> None:
    assert len(table.rows()) >= 30
    assert table.written("faults") == table.table()
    assert table.written("codes") == table.codes()


def _command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BYBIT_")}
    return subprocess.run(
        [sys.executable, "-m", "strategies.paper", *arguments], cwd=cwd, text=True, capture_output=True, timeout=200,
        env={**clean, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def _refused(folder: Path, *words: str) -> Result:
    """What the command says, in this process, where it must not begin."""
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET"):
            patch.delenv(name, raising=False)
        done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2, done.output
    return done


def test_without_keys_it_says_what_to_do(tmp_path: Path) -> None:
    save_model(tmp_path / "run" / "models" / "0", market_panel(700))
    told = _refused(tmp_path, "--run", "run")
    assert told.stderr.startswith("error: no API keys")
    assert "BYBIT_API_KEY" in told.stderr
    assert "Traceback" not in told.stderr


def test_without_a_run_or_for_mainnet_it_says_what_to_do(tmp_path: Path) -> None:
    assert "strategies.walkforward" in _refused(tmp_path, "--run", "nowhere").stderr
    assert "mainnet is not offered" in _refused(tmp_path, "--venue", "mainnet").stderr


def test_a_model_of_other_code_is_refused_with_both_versions(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", market_panel(700))
    rewrite(folder, "features.json", decision_version="0123456789ab")
    with pytest.raises(InputError, match="decision code 0123456789ab"):
        load_strategy(folder, SYMBOL, "60")
    assert load_strategy(folder, SYMBOL, "60", any_code=True).traded == (SYMBOL,)
    with pytest.raises(InputError, match="interval 60, asked for 15"):
        load_strategy(folder, SYMBOL, "15", any_code=True)
    with pytest.raises(InputError, match="not on ETHUSDT"):
        load_strategy(folder, "ETHUSDT", "60", any_code=True)


def test_the_version_of_decisions_is_that_of_what_they_depend_on() -> None:
    named = {path.relative_to(ROOT).as_posix() for path in decision_files()}
    needed = ("nas/network/model.py", "nas/network/cell.py", "nas/space/ops.py", "nas/features/bank.py", "nas/features/inputs.py",
              "nas/features/transforms.py",
              "nas/kernels/moments.py", "nas/kernels/__init__.py", "strategies/backtest/positions.py",
              "data/alignment.py", "data/panel.py")  # fmt: skip
    assert not set(needed) - named
    assert not [n for n in named if n.startswith(("strategies/paper", "data/bybit"))]


@pytest.mark.slow
def test_the_command_trades_stops_and_never_shows_a_key(tmp_path: Path) -> None:
    """The real command against a stand-in in this process; afterwards every file, all output and the process list are searched."""
    rig = Rig(tmp_path / "rig")
    rig.crash()
    save_model(tmp_path / "run" / "models" / "0", rig.panel)
    rig.clock.set(rig.clock.now_ms(), speed=7_200.0)
    rig.fault("code_10004", "/v5/position/list", times=1)
    rig.fault("http_500", "/v5/order/create", times=1)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200",
                   "BYBIT_API_KEY": KEYS.key, "BYBIT_API_SECRET": KEYS.secret}  # fmt: skip
    arguments = ["--run", "run", "--venue", "local", "--endpoint", rig.standin.url, "--history", "700", "--any-code",
                 "--bars", "12", "--webhook", "http://127.0.0.1:9/hook"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "strategies.paper", *arguments], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    listed = ""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        listed += (
            (Path("/proc") / str(process.pid) / "cmdline").read_text(errors="replace") if process.poll() is None else ""
        )
        time.sleep(0.2)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 0, output
    status = _command("status", cwd=tmp_path)
    assert "stopped" in status.stdout
    haystack = output + listed + status.stdout + status.stderr
    files = [p for p in (tmp_path / "reports").rglob("*") if p.is_file()]
    assert any(p.name == "journal.sqlite" for p in files)
    assert any(p.suffix == ".html" for p in files)
    for needle in (KEYS.key, KEYS.secret):
        assert needle not in haystack
        for path in files:
            assert needle.encode() not in path.read_bytes(), path.name
    journal = Journal(next(p for p in files if p.name == "journal.sqlite"), read_only=True)
    traded = {f.exec_id for f in rig.exchange.fills if f.kind == "Trade"}  # funding goes on after the stop
    assert {e.exec_id for e in journal.executions() if e.kind == "Trade"} == traded
    assert len(traded) > 3
    told = explain(journal)
    assert told.identical == told.compared >= 12
    journal.close()
    rig.standin.stop()


def test_tracebacks_of_the_exchange_door_hold_no_key(rig: Make) -> None:
    import traceback

    r = rig()
    shown = []
    for kind in ("http_500", "drop", "not_json", "code_10003", "code_110007"):
        r.fault(kind, "/v5/order/create")
        from strategies.paper.orders.connection import ExchangeError
        from strategies.paper.orders.exchange import Order

        try:
            r.trader.exchange.create(Order(f"leak-{kind}".replace("_", "-"), SYMBOL, "Buy", Decimal("0.010")))
        except ExchangeError:
            shown.append(traceback.format_exc())
    assert len(shown) == 5
    for text in shown:
        assert KEYS.key not in text
        assert KEYS.secret not in text


@pytest.mark.slow
def test_short_soak(tmp_path: Path) -> None:
    """Forty bars, a fault every third, three SIGKILLs; the long one is python -m tests.strategies.paper.soak."""
    from tests.strategies.paper.soak import Soak

    report = Soak(40, 3, 3, 1, tmp_path).run(lambda _text: None)
    assert report["ok"], report
