"""`doctor --reproducible`: what is hashed, and what is said where something differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from data import arithmetic
from strategies.paper.records.journal import Journal
from strategies.reproduced import JOB, SMALLEST, compare, hashes
from strategies.walkforward.config import RunConfig
from tests.commands.small_run import CONFIG, environment, market, run, started


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduced")
    market(1_700).to_parquet(folder / "market.parquet")
    done = run(folder, "--data", "market.parquet", "--no-pages", "--jobs", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    (found,) = (path.parent for path in (folder / "reports" / "runs").glob("*/run.json"))
    return found


def test_one_changed_value_is_found_in_its_file_and_window(finished: Path) -> None:
    there = {"code": "a", "packages": {"torch": "1"}, "files": hashes(finished)}
    assert compare({**there, "files": hashes(finished)}, there)[0]
    path = finished / "forecasts.parquet"
    table = pd.read_parquet(path)
    last = int(table["window"].max())
    assert last > 0
    place = int(np.flatnonzero(table["window"] == last)[0])
    changed = table.copy()
    changed.loc[place, "forecast"] = np.nextafter(changed.loc[place, "forecast"], 1.0)
    changed.to_parquet(path, index=False)
    here = {**there, "files": hashes(finished)}
    table.to_parquet(path, index=False)
    assert compare(here, there) == (False, f"forecasts.parquet differs first in window {last}")
    told = compare({**here, "code": "b", "packages": {"torch": "2+cpu"}}, there)[1]
    assert told.endswith("; here is code b, not a, torch 2+cpu, not 1, which changes results by itself")


def test_every_window_of_every_file_has_a_hash(finished: Path) -> None:
    found = hashes(finished)
    windows = list(found["windows.json"])
    assert len(windows) > 1
    assert all(list(parts) == windows for parts in found.values())
    for parts in found.values():
        assert len(set(parts.values())) == len(windows), "windows differ"


def test_reproducible_is_refused_where_the_pins_reach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not of device cuda"):
        RunConfig(reproducible=True, device="cuda")
    monkeypatch.setattr(arithmetic.platform, "machine", lambda: "arm64")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    with pytest.raises(arithmetic.InputError, match="x86-64 processors under Linux; this is arm64"):
        arithmetic.pin()


@pytest.mark.parametrize("held", [True, False, None, "true"])
def test_what_repeats_a_run_pins_where_the_run_did(
    held: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(arithmetic, "pin", lambda: asked.append(True))
    monkeypatch.setattr(arithmetic, "can_pin", lambda: True)
    said = {"provenance": {} if held is None else {"arithmetic": {"reproducible": held}}}
    (tmp_path / "run.json").write_text(json.dumps(said))
    arithmetic.pin_as(tmp_path)
    assert asked == [True] * (held is True)
    monkeypatch.setattr(arithmetic, "can_pin", lambda: False)
    arithmetic.pin_as(tmp_path)
    arithmetic.pin_as(tmp_path / "nowhere")
    assert len(asked) == (held is True)


@pytest.mark.parametrize("more", [(), SMALLEST])
def test_the_jobs_of_the_doctor_are_what_the_command_takes(more: tuple[str, ...]) -> None:
    from commands.walkforward import app

    done = CliRunner().invoke(app, [*JOB, *more, "--print-config"])
    assert done.exit_code == 0, done.output
    assert 'baselines = ["tcn"]' in done.stdout if more else 'baselines = ["all"]' in done.stdout


def _arithmetic(run_folder: Path) -> dict[str, object]:
    said: dict[str, object] = json.loads((run_folder / "run.json").read_text())["provenance"]["arithmetic"]
    return said


@pytest.mark.slow
def test_the_flag_pins_and_whatever_repeats_the_run_pins_too(finished: Path, tmp_path: Path) -> None:
    assert _arithmetic(finished)["reproducible"] is False
    assert "torch" in _arithmetic(finished)
    market(1_450).to_parquet(tmp_path / "market.parquet")
    # one input: kernels are compiled anew for the pinned processor, and here only a few of them
    (tmp_path / "small.toml").write_text(f'{CONFIG}\n[features]\nreturn = ["zscore24"]\n')
    done = started(
        tmp_path, "--data", "market.parquet", "--no-pages", "--jobs", "1", "--baselines", "none", "--reproducible"
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "reports").glob("runs/*/run.json")
    assert _arithmetic(path.parent)["reproducible"] is True
    assert "torch" not in _arithmetic(path.parent)

    def told(*words: str) -> dict[str, Any]:
        command = [sys.executable, "-m", f"strategies.{words[0]}", *words[1:], "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    # the account remembers by which arithmetic it traded, and so does its replay
    told("paper", "--run", str(path.parent), "--venue", "local", "--speed", "72000", "--bars", "3", "--quiet")
    (account,) = (tmp_path / "reports" / "paper").glob("*/journal.sqlite")
    journal = Journal(account, read_only=True)
    assert journal.get("arithmetic") == "pinned"
    journal.close()
    replayed = told("paper", "replay")
    assert replayed["compared"] == replayed["identical"] > 0
