"""The look-ahead audit passes an honest run and catches a run, a rule and a forecast that know the future."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from data.panel import FloatArray, InputError, Panel
from strategies.audit import app
from strategies.backtest.execution import backtest
from strategies.backtest.rules import RULES
from strategies.walkforward.auditing import Audit, Check, another_future
from tests.commands.small_run import market, run

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    market().to_parquet(folder / "market.parquet")
    data = str(folder / "market.parquet")
    done = run(
        folder, "--data", data, "--no-pages", "--quiet", "--jobs", "1", "--baselines", "linear,last_value,donchian"
    )
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "reports" / "runs").glob("btcusdt-*")
    return found


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_an_honest_run_passes_training_included(finished: Path) -> None:
    checks = Audit.open(finished, QUIET).checks(windows=1)
    assert failed(checks) == []
    names = " ".join(check.name for check in checks)
    for wanted in ("searched: bar by bar", "search before a replaced", "linear: training", "last_value: training"):
        assert wanted in names
    ledger = pd.read_parquet(finished / "trades.parquet")
    assert {"searched", "linear", "donchian"} <= set(ledger["strategy"])  # something was there to be audited


def test_an_equity_that_was_touched_up_is_caught(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    equity = pd.read_parquet(copy / "equity.parquet")
    equity.loc[equity.index[-1], "linear"] += 0.01
    equity.to_parquet(copy / "equity.parquet")
    assert "linear: bar by bar" in failed(Audit.open(copy, QUIET).checks(windows=0))
    result = CliRunner().invoke(app, ["--run", str(copy), "--windows", "0", "--quiet"])
    assert result.exit_code == 1
    assert "not to be trusted" in result.output


def test_a_rule_that_reads_the_next_bar_is_caught(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def oracle(panel: Panel, asset: int, /, **_: float) -> FloatArray:
        close = panel.field("close")[:, asset]
        return np.sign(np.append(close[1:], close[-1]) - close)

    monkeypatch.setitem(RULES, "donchian", dataclasses.replace(RULES["donchian"], signal=oracle))
    assert failed(Audit.open(finished, QUIET).checks(windows=0)) == ["donchian: signals before a replaced future"]


def test_a_result_that_only_holds_at_once_is_caught(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    audit = Audit.open(copy, QUIET)
    start, stop = audit.stretch["start"], audit.stretch["stop"]
    opens = np.append(audit.panel.column("open", "BTCUSDT"), [np.nan, np.nan])
    foresight = np.sign(np.nan_to_num(opens[start + 2 : stop + 2] - opens[start + 1 : stop + 1]))[:, None]
    done = backtest(audit.panel, foresight, name="linear", **audit.stretch)
    positions = pd.read_parquet(copy / "positions.parquet")
    positions.loc[positions["strategy"] == "linear", "position"] = foresight[:, 0]
    positions.to_parquet(copy / "positions.parquet", index=False)
    equity = pd.read_parquet(copy / "equity.parquet")
    equity["linear"] = done.equity
    equity.to_parquet(copy / "equity.parquet")
    trades = pd.read_parquet(copy / "trades.parquet")
    pd.concat([trades[trades["strategy"] != "linear"], done.trades]).to_parquet(copy / "trades.parquet", index=False)
    assert failed(Audit.open(copy, QUIET).checks(windows=0)) == ["linear: one bar late"]


def test_another_future_changes_everything_from_the_cut_and_nothing_before(finished: Path) -> None:
    panel = Audit.open(finished, QUIET).panel
    other = another_future(panel, 1_500, seed=0)
    assert np.array_equal(panel.values[:1_500], other.values[:1_500], equal_nan=True)
    assert not np.any(panel.field("close")[1_500:] == other.field("close")[1_500:])
    assert np.all(other.field("high") >= other.field("low"))


def test_what_is_no_run_or_no_longer_the_same_data_is_said_in_one_line(finished: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--run", str(tmp_path)])
    assert result.exit_code == 2
    assert "no finished run" in result.stderr
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    info = (copy / "run.json").read_text()
    fingerprint = Audit.open(copy, QUIET).panel.fingerprint()
    (copy / "run.json").write_text(info.replace(fingerprint, "0" * len(fingerprint)))
    with pytest.raises(InputError, match="no longer the same"):
        Audit.open(copy, QUIET)
