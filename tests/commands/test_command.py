"""The main job through its command: reproducible to the byte, blind to the future, and clear when the input is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from strategies.walkforward.__main__ import app
from tests.commands.small_run import command, environment, files_of, market, run, started

QUIET = ("--no-pages", "--quiet", "--jobs", "1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one whole run on an undisturbed market."""
    folder = tmp_path_factory.mktemp("undisturbed")
    market().to_parquet(folder / "market.parquet")
    done = run(folder, "--data", "market.parquet", *QUIET)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def only_run(folder: Path) -> Path:
    (found,) = (folder / "reports" / "runs").glob("btcusdt-*")
    return found


def test_run_folder_holds_the_contract(finished: Path) -> None:
    names = set(files_of(finished))
    assert {"run.json", "windows.json", "forecasts.parquet", "positions.parquet", "equity.parquet"} <= names
    assert {"trades.parquet", "trials.parquet", "trial_returns.parquet"} <= names
    windows = json.loads((finished / "windows.json").read_text())
    for window in windows:
        for name in ("genotype.json", "features.json", "weights.safetensors"):
            assert f"models/{window['window']}/{name}" in names
    forecasts = pd.read_parquet(finished / "forecasts.parquet")
    traded = forecasts[forecasts["window"] >= 0]
    for window in windows:
        mine = traded[traded["window"] == window["window"]]["timestamp"]
        assert mine.min() == pd.Timestamp(window["test"]["start"])
        assert pd.Timestamp(window["validation"]["stop"]) < mine.min()


def test_help_and_pages_load_no_torch(finished: Path, tmp_path: Path) -> None:
    """It would be the larger part of their time."""
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("tasks"))
    for asked in (
        "from commands.walkforward import app; app(['--help'], standalone_mode=False)",
        f"from pathlib import Path; from reports.page import build_pages; build_pages(Path({str(tmp_path / 'run')!r}))",
    ):
        code = f"import sys; {asked}; print('loaded', *sorted(set(sys.modules) & {{'torch', 'sympy'}}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "loaded"


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_whatever_the_number_of_processes(finished: Path, tmp_path: Path) -> None:
    market().to_parquet(tmp_path / "market.parquet")
    done = started(tmp_path, "--data", "market.parquet", "--no-pages", "--quiet", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    again, first = files_of(only_run(tmp_path)), files_of(finished)
    for info in (again, first):  # the command line is told as it was typed, with its --jobs
        info["run.json"] = json.dumps(
            {k: v for k, v in json.loads(info["run.json"]).items() if k != "command"}
        ).encode()
    assert again == first


def test_another_seed_gives_other_forecasts(finished: Path, tmp_path: Path) -> None:
    market().to_parquet(tmp_path / "market.parquet")
    assert run(tmp_path, "--data", "market.parquet", "--seed", "1", *QUIET).returncode == 0
    assert files_of(only_run(tmp_path))["forecasts.parquet"] != files_of(finished)["forecasts.parquet"]


@pytest.mark.parametrize("share", [0.62, 0.75, 0.93])
def test_bars_after_t_change_no_forecast_position_or_fill_at_or_before_t(
    finished: Path, tmp_path: Path, share: float
) -> None:
    table = market()
    first_changed = int(len(table) * share)
    rng = np.random.default_rng(1)
    factor = np.exp(np.cumsum(rng.normal(0.002, 0.03, len(table) - first_changed)))
    for name in ("open", "high", "low", "close"):
        table.iloc[first_changed:, table.columns.get_loc(name)] *= factor
    table.iloc[first_changed:, table.columns.get_loc("volume")] *= 7.0
    table.to_parquet(tmp_path / "market.parquet")
    done = run(tmp_path, "--data", "market.parquet", *QUIET)
    assert done.returncode == 0, done.stderr
    changed = only_run(tmp_path)
    last_close = table.index[first_changed]  # the close of the last bar that is the same in both files
    compared = 0
    for name, stamp, time in (
        ("forecasts.parquet", "timestamp", table.index[first_changed - 1]),
        ("positions.parquet", "timestamp", table.index[first_changed - 1]),
        ("trades.parquet", "timestamp", last_close - pd.Timedelta(1, "ns")),  # the next fill is at a changed open
    ):
        before, after = (pd.read_parquet(folder / name) for folder in (finished, changed))
        before, after = (frame[frame[stamp] <= time].reset_index(drop=True) for frame in (before, after))
        pd.testing.assert_frame_equal(before, after, check_exact=True)
        compared += len(before)
    equity = [pd.read_parquet(folder / "equity.parquet") for folder in (finished, changed)]
    pd.testing.assert_frame_equal(*(frame[frame.index <= last_close] for frame in equity), check_exact=True)
    assert compared > 500
    assert not equity[0].equals(equity[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "nowhere.parquet"), "nowhere.parquet"),
        (("--symbol", "NOSUCHCOIN", "--source", "simulated"), "NOSUCHCOIN"),
        (("--data", "empty.csv"), "empty"),
        (("--data", "negative.csv"), "positive"),
        (("--data", "short.csv"), "too few for one window"),
        (("--data", "short.csv", "--purge", "3"), "--purge of 3 bars is shorter"),
        (("--source", "simulated", "--policy", "sometimes"), "no policy 'sometimes'"),
        (("--source", "simulated", "--baselines", "oracle"), "no baseline"),
        (("--source", "simulated", "--jobs", "0"), "--jobs"),
        (("--source", "simulated", "--engine", "abacus"), "abacus"),
        (("--source", "simulated", "--start", "2025-01-01", "--end", "2024-01-01"), "--start"),
        (("--source", "simulated", "--preset", "slow"), "no preset 'slow'"),
    ],
)
def test_wrong_input_is_one_clear_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table = market(200)
    (tmp_path / "empty.csv").write_text("")
    table.to_csv(tmp_path / "short.csv")
    table.assign(low=-1.0).to_csv(tmp_path / "negative.csv")
    done = CliRunner().invoke(app, command(tmp_path, *arguments)[3:])
    assert done.exit_code == 2
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    runs = tmp_path / "reports" / "runs"
    assert not runs.exists() or not any(path.is_dir() and any(path.iterdir()) for path in runs.iterdir())
