"""Where the time of a run went: told once per stage, in run.json, and no part of what a run computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_run import market, run

from nas.engine import InProcess
from strategies.pipeline import shared_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile")
    market(1_450).to_parquet(path / "market.parquet")
    return path


def test_profile_names_every_stage_and_the_slowest_and_run_json_holds_the_same(folder: Path) -> None:
    arguments = ("--data", "market.parquet", "--jobs", "1", "--profile")
    said = run(folder, *arguments)
    assert said.returncode == 0, said.stderr
    (file,) = (folder / "reports" / "runs").glob("*/run.json")
    timings = json.loads(file.read_text())["timings"]
    stages = ["data", "features", "search", "training", "rivals", "backtests", "files", "pages"]
    assert list(timings) == stages
    assert all(seconds >= 0.0 for seconds in timings.values())
    table = [words for words in map(str.split, said.stdout.splitlines()) if len(words) == 3 and words[0] in stages]
    assert [words[0] for words in table] == stages
    assert [float(words[1]) for words in table] == pytest.approx(list(timings.values()), abs=0.06)
    assert f"slowest: {max(timings, key=timings.__getitem__)}" in said.stdout
    again = run(folder, *arguments)
    assert again.returncode == 0, again.stderr
    assert json.loads(file.read_text())["timings"] == timings  # of the run that did the work


def test_wall_time_is_shared_out_by_processor_time() -> None:
    assert shared_out(10.0, {"search": 6.0, "training": 1.5, "rivals": 0.5}) == {
        "search": 7.5,
        "training": 1.875,
        "rivals": 0.625,
    }
    assert shared_out(0.2, {}) == {"finished tasks": 0.2}


def test_processor_seconds_are_no_part_of_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas import engine
    from nas.tasks import TaskResult

    plain = TaskResult({}, {"name": "x"})
    monkeypatch.setattr(engine, "run_task", lambda *_: plain)
    ((_, told),) = InProcess(None).compute([None])  # type: ignore[arg-type, list-item]
    assert told.cpu_s >= 0.0
    assert told.to_bytes() == plain.to_bytes()
    assert TaskResult.from_bytes(told.to_bytes()).cpu_s == 0.0
