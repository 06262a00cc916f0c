"""Commands as a person meets them: help with examples, settings printed and given back, a doctor, no control codes in a pipe."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.__main__ import MODULES, app
from docs.executed.how import HOW
from strategies import doctor
from strategies.walkforward.__main__ import app as walkforward
from tests.commands.small_run import environment
from tests.test_house import PACKAGES


def run(application: object, *words: str):
    return CliRunner().invoke(application, list(words))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*MODULES, "paper", "report"])
def test_every_command_is_under_one_name_and_says_what_it_does(name: str) -> None:
    done = run(app, name, "--help")
    assert done.exit_code == 0
    assert f"Usage: root {name}" in " ".join(done.stdout.split())


def test_every_module_that_pages_show_is_a_command_of_the_one_name() -> None:
    names = {each.name for each in (*app.registered_commands, *app.registered_groups)}
    shown = {words.split()[2] for words in HOW if words.startswith("python -m ")}
    ours = {module.rpartition(".")[2] for module in shown if module.split(".")[0] in PACKAGES}
    # a page of the documentation, and a name of before
    assert ours - {"feature_docs", "lab"} - names == {"reports"}
    assert {"report", "compare", "looks", "unseal", "lab"} <= names


@pytest.mark.parametrize("name", MODULES)
def test_help_shows_an_example(name: str) -> None:
    assert "Example" in run(app, name, "--help").stdout


def test_the_shell_completes_commands_and_flags() -> None:
    def offered(words: str) -> set[str]:
        asked = {
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
            "_NEXTOPEN_COMPLETE": "complete_bash",
        }
        done = CliRunner().invoke(app, [], env=asked, prog_name="nextopen")
        return set(done.stdout.split())

    assert offered("nextopen walk") == {"walkforward"}
    assert {"--seed", "--seeds"} <= offered("nextopen walkforward --see")


def test_printed_settings_given_back_are_the_same_settings(tmp_path: Path) -> None:
    first = run(
        walkforward, "--preset", "quick", "--symbol", "AUSDT,BUSDT", "--jobs", "2", "--no-pages", "--print-config"
    )
    assert first.exit_code == 0
    for line in ('preset = "quick"', 'symbol = ["AUSDT", "BUSDT"]', "jobs = 2", "pages = false"):
        assert line in first.stdout.splitlines()
    file = tmp_path / "run.toml"
    file.write_text(first.stdout)
    assert run(walkforward, "--config", str(file), "--print-config").stdout == first.stdout
    # a flag wins over the file
    assert "jobs = 3" in run(walkforward, "--config", str(file), "--jobs", "3", "--print-config").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sede = 3", "unknown setting 'sede'; did you mean 'seed'?"),
        ("dry-run = true", "did you mean 'dry_run'?"),
        ('jobs = "many"', "--jobs must be a whole number, not 'many'"),
        ("jobs = 0", "--jobs must be at least 1"),
        ('preset = "slow"', "no preset 'slow'"),
        ("seed = ", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line_and_exit_code_2(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    done = run(walkforward, "--config", str(tmp_path / "wrong.toml"), "--print-config")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_the_doctor_finds_a_healthy_machine(tmp_path: Path) -> None:
    done = run(doctor.app, "--no-network", "--json", "--out", str(tmp_path))
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"]) == (0, True)
    assert {"Python", "packages", "compiler cache", "disk", "store", "keys"} <= {f["subject"] for f in told["findings"]}


def test_the_doctor_says_what_is_broken_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_numba(name: str) -> str:
        if name == "numba":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_numba)
    monkeypatch.setenv("BYBIT_API_KEY", "k")
    monkeypatch.delenv("BYBIT_API_SECRET", raising=False)
    (tmp_path / "file").write_text("")
    done = run(doctor.app, "--no-network", "--quiet", "--out", str(tmp_path / "file"))
    assert done.exit_code == 1
    text = " ".join(done.stdout.split())
    assert "missing: numba -> pip install" in text
    assert "give another folder with --out" in text
    assert "only BYBIT_API_KEY is set" in text
    assert "ok " not in text


def test_the_doctor_survives_a_check_that_breaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "packages", lambda: 1 / 0)
    found = {f.subject: f for f in doctor.findings(tmp_path, network=False)}
    assert found["packages"].level == "FAIL"
    assert "ZeroDivisionError" in found["packages"].detail
    assert "keys" in found


def test_the_doctor_tries_what_it_tells_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that does not load, a cache folder that looks writable and is not, a version that was not tested."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libtorch_cpu.so: cannot open shared object file')")
    (tmp_path / "numba-0.1.dist-info").mkdir()
    (tmp_path / "numba-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n")
    told = subprocess.run(
        [sys.executable, "-m", "strategies.doctor", "--no-network", "--json", "--out", str(tmp_path)],
        capture_output=True, check=False,
        env=environment() | {"NUMBA_CACHE_DIR": "/proc/no", "PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"},
    )  # fmt: skip
    found = {each["subject"]: each for each in json.loads(told.stdout)["findings"]}
    assert told.returncode == 1
    assert (found["torch"]["level"], found["torch"]["detail"].startswith("does not load: OSError: libtorch")) == (
        "FAIL",
        True,
    )
    assert "/proc/no cannot be written" in found["compiler cache"]["detail"]
    assert "numba 0.1 (tested: " in found["packages"]["detail"]
    assert all("pip install --constraint" in found[name]["advice"] for name in ("torch", "packages"))


def in_terminal(*words: str, **variables: str) -> bytes:
    """Output of a command that believes it writes to a terminal of 80 columns."""
    here, there = pty.openpty()
    settings = {**environment(), "COLUMNS": "80", "TERM": "xterm-256color", **variables}
    with subprocess.Popen([sys.executable, *words], stdout=there, stderr=there, stdin=there, env=settings) as process:
        os.close(there)
        found = b""
        try:
            while part := os.read(here, 4096):
                found += part
        except OSError:  # the other side closed
            pass
        process.wait()
    os.close(here)
    return found


def test_colours_in_a_terminal_only_and_none_where_they_are_not_wanted() -> None:
    # all of the doctor but the libraries that it tries to load, which take seconds each time
    words = ("-c", "from strategies import doctor; doctor.COMPILED = (); doctor.app(['--no-network'])")
    piped = subprocess.run([sys.executable, *words], capture_output=True, env=environment(), check=False).stdout
    assert b"\x1b" not in piped
    colour = b"\x1b[32m"
    assert colour in in_terminal(*words)
    plain = in_terminal(*words, NO_COLOR="1")
    assert colour not in plain
    lines = plain.decode().replace("\r", "").splitlines()
    assert max(len(line) for line in lines if "\x1b" not in line) <= 80
