"""`--forecasts FILE` as its user meets it: a page about the file, resumed and repeated like any run, refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from strategies.audit import app as audit
from strategies.walkforward.__main__ import app
from tests.commands.small_run import CONFIG, swinging_market


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Candles of which a return is 0.8 of the one before, a forecast that says so, and one that is noise; judged."""
    place = tmp_path_factory.mktemp("judged")
    table = swinging_market(2_400, 3)
    table.to_parquet(place / "candles.parquet")
    change = np.log(table["close"]).diff().to_numpy()
    frame = pd.DataFrame({"timestamp": table.index, "symbol": "BTCUSDT", "swing": change})
    frame["noise"] = np.random.default_rng(0).normal(size=len(frame))
    frame.fillna(0.0).to_parquet(place / "mine.parquet")
    (place / "small.toml").write_text(CONFIG.replace('baselines = ["linear"]', 'baselines = ["none"]'))
    done = judge(place)
    assert done.exit_code == 0, done.output
    return place


def judge(place: Path, *words: str):  # type: ignore[no-untyped-def]
    given = [
        "--symbol", "BTCUSDT", "--config", str(place / "small.toml"), "--data", str(place / "candles.parquet"), "--jobs", "1",
        "--any-candles", "--forecasts", str(place / "mine.parquet"), "--variant", "none", "--out", str(place / "reports"),
    ]  # fmt: skip
    return CliRunner().invoke(app, [*given, *words])


def test_the_page_is_about_the_forecasts(folder: Path) -> None:
    page = (folder / "reports/latest/index.html").read_text()
    assert "Are these forecasts worth trading?" in page
    assert "The forecast swing, the best of 2 that were given, " in page
    assert "Searched network" not in page
    assert page.count("Knows the next bar") == 2
    assert "The leak court convicts" not in page
    assert "Model Confidence Set keeps" in page
    assert (folder / "reports/latest/tearsheets/swing.html").is_file()


def test_judged_json_holds_what_the_architecture_page_says(folder: Path) -> None:
    told = json.loads((folder / "reports/latest/judged.json").read_text())
    text = (Path(__file__).resolve().parents[2] / "docs/architecture.md").read_text().partition("| `judged.json` | ")[2]
    keys = {*told[0], *told[0]["charges"][0]}
    assert [key for key in keys if f"`{key}`" not in text.splitlines()[0]] == []


def test_the_planted_one_earns_and_noise_does_not(folder: Path) -> None:
    headline = json.loads((folder / "reports/latest/run.json").read_text())["headline"]
    assert set(headline) == {"swing", "noise", "buy_and_hold"}
    assert headline["swing"]["sharpe"] > 3 > headline["noise"]["sharpe"]


def test_the_audit_takes_a_run_without_a_search(folder: Path) -> None:
    done = CliRunner().invoke(audit, ["--run", str(folder / "reports/latest"), "--windows", "1", "--quiet"])
    assert done.exit_code == 0, done.output
    assert done.exception is None


def test_the_same_command_finds_its_run_and_another_file_another(folder: Path) -> None:
    again = judge(folder)
    assert "finished already" in again.output
    frame = pd.read_parquet(folder / "mine.parquet")
    frame["noise"] *= 1.5
    frame.to_parquet(folder / "mine.parquet")
    assert "finished already" not in judge(folder, "--no-pages").output


def test_they_compete_with_a_search(folder: Path) -> None:
    done = judge(folder, "--variant", "darts", "--no-pages")
    assert done.exit_code == 0, done.output
    newest = max((folder / "reports/runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    assert {"searched", "swing", "noise"} <= set(json.loads(newest.read_text())["headline"])


def test_nobody_to_judge_is_one_line(folder: Path) -> None:
    done = CliRunner().invoke(
        app,
        [
            "--config",
            str(folder / "small.toml"),
            "--data",
            str(folder / "candles.parquet"),
            "--variant",
            "none",
            "--any-candles",
        ],
    )
    assert done.exit_code == 2
    assert "leaves nobody to judge" in done.stderr
    assert done.stderr.count("error:") == 1
