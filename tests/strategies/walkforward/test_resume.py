"""A run that is killed, interrupted or started twice ends in the same files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.kills import digests, kill_and_resume
from tests.commands.small_run import command, environment, files_of, market, run


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    market(1_450).to_parquet(tmp_path / "market.parquet")
    return [*command(tmp_path)[3:], "--data", str(tmp_path / "market.parquet"), "--no-pages", "--jobs", "1"]


@pytest.mark.slow
def test_killed_at_random_moments_the_same_command_ends_in_the_same_files(arguments: list[str], tmp_path: Path) -> None:
    outcome = kill_and_resume(arguments, 2, tmp_path, seed=5)
    assert outcome.kills == 2
    assert outcome.differing == []
    assert any(name.endswith("equity.parquet") for name in digests(tmp_path / "whole"))


def test_two_runs_at_once_on_one_folder_end_in_one_whole_run(arguments: list[str], tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            command(tmp_path, *arguments[4:]), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("another run of this command is at work" in text for text in said) == 1
    (folder,) = (tmp_path / "reports" / "runs").glob("btcusdt-*")
    assert "run.json" in files_of(folder)
    results = list((folder / "tasks").glob("*.safetensors"))
    written = {path.stat().st_mtime_ns for path in results}
    assert len(written) == len(results)  # each task was computed once, by one of the two


def test_a_leftover_of_a_killed_write_is_swept_away(arguments: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, *arguments[4:]).returncode == 0
    (folder,) = (tmp_path / "reports" / "runs").glob("btcusdt-*")
    (folder / ".equity.parquet.abc.part").write_bytes(b"half")
    (folder / "run.json").unlink()
    assert run(tmp_path, *arguments[4:]).returncode == 0
    assert not list(folder.rglob("*.part"))
    assert (folder / "run.json").is_file()
