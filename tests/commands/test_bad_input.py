"""Input as a person gets it wrong: one line that says what to do, exit code 2, nothing half-written, no control codes from a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data.commandline import application, command
from data.errors import InputError
from data.files import load_files
from data.info import app as info
from nas.network.model import load_model
from nas.search.__main__ import app as search
from nas.tasks.cluster import _answers
from strategies.audit import app as audit
from strategies.paper.__main__ import app as paper
from strategies.walkforward.__main__ import app as walkforward
from strategies.walkforward.config import resolve
from strategies.walkforward.trading import portfolio_of, position_rule, trading_terms
from tests.commands.small_run import CONFIG, environment, market
from tests.strategies.paper.rig import market_panel, save_model

NOW = ("--source", "simulated", "--start", "2024-01-01", "--end", "2024-02-15")


def refused(app: object, *words: str) -> str:
    """The one line that a command ends with."""
    done = CliRunner().invoke(app, list(words))  # type: ignore[arg-type]
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"horizon": "0"},
            "--horizon must be at least 1, not '0' (Bars ahead that are forecast: 6 or 1,6,24; the first one trades)",
        ),
        ({"seed": -1}, "--seed must be at least 0, not -1"),
        ({"seed": 10**22}, "--seed must be at most 4294967295"),
        ({"seeds": 0}, "--seeds must be at least 1, not 0 (Searches per window"),
        ({"training_epochs": 0}, "--training-epochs must be at least 1"),
        ({"thresholds": ()}, "setting thresholds needs at least 1"),
        ({"thresholds": (-1.0,)}, "setting thresholds must be at least 0.0, not -1.0"),
        ({"evidence": 0.0}, "--evidence must be above 0"),
        ({"gross_limit": float("nan")}, "--gross-limit must be a finite number"),
        ({"symbol": ","}, "--symbol needs at least 1"),
        ({"target_volatility": -1.0}, "target_volatility"),
        ({"max_leverage": 0.0}, "max_leverage"),
        ({"maintenance_margin": 2.0}, "maintenance_margin"),
        ({"taker_fee_bps": 20_000.0}, "taker_fee_bps"),
        ({"order": "ioc"}, "no order kind 'ioc'"),
        ({"instruments": {"BTCUSDT": {"lots": 1.0}}}, "Input should be 'lot'"),
        ({"symbol": "A,B", "weighting": "hrp", "target_volatility": 0.0}, "needs a target_volatility above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_computed(
    settings: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError) as told:
        [fits(resolve("quick", None, settings)) for fits in (trading_terms, position_rule, portfolio_of)]
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--horizon", "0"), "--horizon must be at least 1, not '0'"),
        (("--seed", str(10**22)), "--seed"),
        (("--out", "file"), "--out: file cannot be written"),
        (("--out", "/proc/no"), "--out: /proc/no cannot be written"),
    ],
)
def test_a_search_says_so_before_it_searches(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert said in refused(search, *NOW, *words)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "/proc/no"), "--out: /proc/no/runs"),
        (("--out", "market.csv"), "market.csv"),
        (("--slippage-model", "spread"), "recorded order books"),
        (("--mlflow", "nonsense://x"), "MLflow at nonsense://x refused"),
    ],
)
def test_the_main_job_says_so_before_it_searches(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    market(1_300).to_csv("market.csv")
    Path("small.toml").write_text(CONFIG)
    given = ("--config", "small.toml", "--data", "market.csv", "--quiet", "--jobs", "1", *words)
    assert said in refused(walkforward, *given)
    assert not [p for p in tmp_path.glob("reports/runs/*") if not p.name.startswith(".")]


def test_a_text_of_another_encoding_says_how_to_save_it(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(market(30).rename_axis("Zeit (Österreich)").to_csv().encode("latin-1"))
    with pytest.raises(InputError, match="save it as CSV in UTF-8"):
        load_files(["BTCUSDT"], [tmp_path / "latin.csv"])


@pytest.mark.parametrize("name", ["genotype.json", "features.json", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b'{"format": 1}', b"\xff\x00"])
def test_a_damaged_model_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    save_model(tmp_path, market_panel(700))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="rerun the walk-forward") as told:
        load_model(tmp_path)
    assert "\n" not in str(told.value)


def test_a_run_without_its_files_is_not_audited(tmp_path: Path) -> None:
    assert "no readable run.json" in refused(audit, "--run", str(tmp_path))


@pytest.mark.parametrize("command", ["status", "stop", "replay"])
def test_a_damaged_journal_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "paper" / "acct").mkdir(parents=True)
    (tmp_path / "paper" / "acct" / "journal.sqlite").write_text("no journal")
    assert "cannot be used as a journal" in refused(paper, command, "--out", str(tmp_path))


def test_nothing_at_the_address_of_a_cluster_is_said_at_once() -> None:
    with pytest.raises(InputError, match="no Ray cluster answers"):
        _answers("127.0.0.1:1")
    for unknown in (None, "auto"):
        _answers(unknown)


def test_a_store_that_is_a_file_is_no_empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REGIME_CACHE", str(tmp_path / "file"))
    assert "is no folder" in refused(info)


def test_what_a_file_holds_reaches_the_terminal_without_its_control_codes() -> None:
    app = application()

    @command(app)
    def main() -> None:
        raise InputError("row 1 is \x1b[31mred\x07\nand goes on")

    assert refused(app) == "error: row 1 is ?[31mred? and goes on\n"


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: a search's result does not fit into it.

    The limit comes after a search with room, in the same process: kernels that are not on disk yet are compiled and kept by that one.
    """
    words = ("nas.search", *NOW, "--search-epochs", "1", "--quiet", "--out")
    limited = f"""
import contextlib, resource, runpy, sys
for out, room in (({str(tmp_path / "before")!r}, None), ({str(tmp_path / "found")!r}, 500)):
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    sys.argv = [*{list(words)!r}, out]
    with contextlib.suppress(SystemExit) if room is None else contextlib.nullcontext():
        runpy.run_module("nas.search", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", limited], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 2, done.stderr
    assert "search.part: File too large; the system limits the size of files" in done.stderr.splitlines()[-1]
    assert (tmp_path / "before" / "search.json").is_file()
    assert not [p for p in (tmp_path / "found").rglob("*") if p.is_file()]
