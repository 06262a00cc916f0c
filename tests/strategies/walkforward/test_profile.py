"""Where the time of a run went: told once per stage, in run.json, and no part of what a run computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nas.tasks import memory
from nas.tasks.engine import InProcess
from strategies.walkforward.pipeline import extrapolated, shared_out
from strategies.walkforward.profile import profile
from tests.commands.small_run import market, run


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
    stages = ["data", "features", "search", "training", "rivals", "backtests", "forecasts", "files", "pages"]
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
    from nas.tasks import engine
    from nas.tasks.work import TaskResult

    plain = TaskResult({}, {"name": "x"})
    monkeypatch.setattr(engine, "run_task", lambda *_: plain)
    ((_, told),) = InProcess(None).compute([None])  # type: ignore[arg-type, list-item]
    assert told.cpu_s >= 0.0
    assert told.to_bytes() == plain.to_bytes()
    assert TaskResult.from_bytes(told.to_bytes()).cpu_s == 0.0


def test_peak_memory_is_of_the_program_itself_not_of_the_larger_one_that_started_it() -> None:
    filled = bytearray(b"x") * (150 * 2**20)
    print_it = [sys.executable, "-c", "from nas.tasks.memory import peak_mib; print(peak_mib())"]
    child = float(subprocess.run(print_it, capture_output=True, text=True, check=True).stdout)
    assert memory.peak_mib() > len(filled) / 2**20
    assert 1.0 < child < 100.0


def test_peak_memory_without_proc_is_what_getrusage_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = memory.peak_mib()
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert memory.peak_mib() >= 0.9 * wanted
    kib = memory.peak_mib()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.peak_mib() == pytest.approx(kib / 1024)


def test_memory_of_workers_is_told_and_no_part_of_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.tasks import engine
    from nas.tasks.work import TaskResult

    plain = TaskResult({}, {"name": "x"})
    monkeypatch.setattr(engine, "run_piece", lambda *_: plain)
    monkeypatch.setattr(engine, "_samples", object())
    told = engine._work(None)  # type: ignore[arg-type]
    assert told.worker_mib == pytest.approx(memory.peak_mib(), rel=0.01)
    assert told.found is plain
    assert "largest worker" not in lines(0.0)
    assert "1234 MiB in the largest worker" in lines(1234.0)


def lines(worker_mib: float) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as said:
        console.print(profile({"search": 1.0}, worker_mib))
    return said.get()


def test_what_a_task_takes_at_any_length_is_counted_once() -> None:
    """Calibration and diagnosis were multiplied by the epochs: a search of 12 s was told as 11 minutes."""
    assert extrapolated(lambda epochs: 10.0 + 2.0 * epochs, 40) == pytest.approx(90.0)
    assert extrapolated(lambda epochs: 10.0 + 2.0 * epochs, 1) == pytest.approx(12.0)
    assert extrapolated(lambda epochs: 10.0 / epochs, 40) == pytest.approx(10.0)  # noise makes no epoch negative
