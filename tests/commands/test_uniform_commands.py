"""What all commands have in common: the same flags mean the same, a file holds any flag, what is wrong is one line and exit code 2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from commands.__main__ import app as everything
from tests.commands.small_run import CONFIG, environment, market

#: command -> flags that make it complete
NEEDED: dict[str, tuple[str, ...]] = {
    "walkforward": (), "search": (), "audit": ("--run", "R"), "doctor": (), "download": ("--symbol", "BTCUSDT"),
    "record": ("--symbol", "BTCUSDT"), "info": (), "report": (), "compare": ("A", "B"), "tensorboard": (), "mlflow": (),
    "paper": (), "paper status": (), "paper stop": (), "paper replay": (), "paper verify": (), "paper selftest": (),
    "paper live": (), "standin": (),
    "lab null": (), "lab power": (), "lab search-vs-random": (), "lab forecast": ("--csv", "F"),
}  # fmt: skip


def run(name: str, *words: str):
    return CliRunner().invoke(everything, [*name.split(), *words], terminal_width=100)


@pytest.mark.parametrize("name", NEEDED)
def test_every_command_has_the_common_flags_and_an_example(name: str) -> None:
    text = run(name, "--help").stdout
    for word in ("--config", "--print-config", "--json", "Example"):
        assert word in text, word


@pytest.mark.parametrize("name", NEEDED)
def test_printed_flags_given_back_are_the_same_flags(name: str, tmp_path: Path) -> None:
    words = NEEDED[name]
    first = run(name, *words, "--json", "--print-config")
    assert first.exit_code == 0, first.output
    assert "json = true" in first.stdout.splitlines()
    file = tmp_path / "flags.toml"
    file.write_text(first.stdout)
    assert run(name, "--config", str(file), "--print-config").stdout == first.stdout


@pytest.mark.parametrize("name", NEEDED)
def test_a_wrong_flag_and_a_wrong_name_in_the_file_are_one_line_with_a_suggestion(name: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("jsn = true\n")
    for words, said in (
        (("--jsno",), "did you mean --json?"),
        (("--config", str(tmp_path / "wrong.toml"), "--print-config"), "unknown setting 'jsn'; did you mean 'json'?"),
        (("--config", str(tmp_path / "none.toml"), "--print-config"), "cannot be read (No such file or directory)"),
    ):
        done = run(name, *NEEDED[name], *words)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
        assert said in done.stderr


@pytest.mark.parametrize("name", ["walkforwrad", "paper stat", "lab nul"])
def test_a_misspelt_command_is_one_line_with_a_suggestion(name: str) -> None:
    done = run(name)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "did you mean" in done.stderr.lower()


def test_flags_of_one_name_mean_the_same_everywhere() -> None:
    said: dict[str, set[str]] = {}
    for name in NEEDED:
        found = get_command(everything)
        for word in name.split():
            found = found.commands[word]  # type: ignore[attr-defined]
        for option in found.params:
            said.setdefault(option.opts[0], set()).add(
                re.sub(r" \(default: .*\)", "", str(getattr(option, "help", "")))
            )
    for flag in (
        "--json",
        "--fill-gaps",
        "--source",
        "--loss",
        "--search-epochs",
        "--search-fraction",
    ):
        assert len(said[flag]) == 1, said[flag]
    assert said["--quiet"] == {"No progress, only the result.", "Only what is wrong."}  # the doctor's


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("walkforward", ("--data", "market.parquet", "--config", "small.toml", "--dry-run")),
        ("search", ("--source", "simulated", "--start", "2024-01-01", "--end", "2024-02-15", "--search-epochs", "2")),
        ("info", ()),
        ("doctor", ("--no-network",)),
        ("paper", ("--help",)),
        ("walkforward", ("--help",)),
    ],
)  # fmt: skip
def test_what_is_piped_holds_no_control_codes(
    name: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    market(1_300).to_parquet("market.parquet")
    Path("small.toml").write_text(CONFIG)
    done = CliRunner().invoke(everything, [*name.split(), *words])
    assert done.exit_code == 0, done.output
    assert [c for c in done.output if not c.isprintable() and c != "\n"] == []
    if "--help" not in words:  # a line in a pipe is a line, not what fits into 80 columns
        assert not [line for line in done.output.splitlines() if line.rstrip().endswith((";", ","))]


def test_with_json_the_main_job_and_the_search_print_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--source", "simulated", "--start", "2024-01-01", "--end", "2024-02-15", "--search-epochs", "1", "--json")
    assert json.loads(run("search", *words).stdout)["genotype"]


def test_bash_completes_commands_and_flags_with_the_script_that_is_installed(tmp_path: Path) -> None:
    command = tmp_path / "nextopen"
    command.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from commands.__main__ import app; app(prog_name=\'nextopen\')" "$@"\n'
    )
    command.chmod(0o755)
    script = """
eval "$(_NEXTOPEN_COMPLETE=source_bash nextopen)"
of() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _nextopen_completion "$1"; echo "${COMPREPLY[*]}"; }
of nextopen walk; of nextopen walkforward --turn; of nextopen paper st; of nextopen lab nu
"""
    found = environment() | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=found, check=True)
    assert done.stdout.splitlines() == ["walkforward", "--turnover-penalty", "status stop", "null"]
