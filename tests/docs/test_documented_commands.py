"""The commands of README and tutorial run as written, on a market so small that it takes seconds; those of other pages exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
import shlex
import sys
from pathlib import Path

import click
import pytest
import typer

from tests.strategies.small_run import CONFIG

ROOT = Path(__file__).resolve().parents[2]
RUN_PAGES = (ROOT / "README.md", ROOT / "docs/tutorial.md")
ALL_PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
ALL_PAGES = tuple(page for page in ALL_PAGES if page.parent.name != "decisions")  # those tell of their day
# shorter than any preset; a config file goes before it
SMALL = 'start = "2024-01-01"\nend = "2024-03-24"\n' + CONFIG
LESS = {
    "strategies.walkforward": ["--config", "small.toml", "--jobs", "1"],
    "nas.search": ["--end", "2024-03-24", "--epochs", "2", "--channels", "4"],
    "strategies.paper": ["--speed", "72000", "--bars", "6"],
}


def commands(page: Path, fence: str) -> list[list[str]]:
    """The `python -m` lines of the page's blocks of that kind, as words without their comments."""
    blocks = re.findall(rf"^```{fence}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("python -m ")]
    return [shlex.split(line, comments=True)[2:] for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a stranger works: what one command leaves behind, the next one finds."""
    made = tmp_path_factory.mktemp("stranger")
    (made / "small.toml").write_text(SMALL)
    return made


@pytest.fixture
def stranger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REGIME_BYBIT_URL", "http://127.0.0.1:9")  # no exchange: the simulated market, at once
    return folder


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One command in this process: importing torch anew would cost more than what it does."""
    module, *arguments = words
    extra = [] if arguments[:1] in (["status"], ["replay"]) else LESS.get(module, [])
    monkeypatch.setattr(sys, "argv", [module, *arguments, *extra])
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code: object = 0
    except SystemExit as ended:
        code = ended.code
    assert not code, f"{' '.join(words)} ended with {code}"


def unique() -> list[list[str]]:
    found: list[list[str]] = []
    for page in RUN_PAGES:
        found += [words for words in commands(page, "bash") if words not in found]
    return found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # runpy: the module was imported before
@pytest.mark.parametrize("words", unique(), ids=" ".join)
def test_command_works_as_written(words: list[str], stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = (stranger / "reports/latest").exists()  # pages take most of the time: they are written once
    run([*words, "--no-pages"] if again and words[0] == "strategies.walkforward" else words, monkeypatch)
    if words[0] == "strategies.walkforward" and "--dry-run" not in words:
        assert (stranger / "reports/latest/run.json").exists()
        assert again or (stranger / "reports/latest/index.html").exists()
    if words[0] == "strategies.paper":
        assert list((stranger / "reports/paper").glob("*.html"))


def test_the_python_of_the_readme_runs(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", RUN_PAGES[0].read_text(), re.DOTALL | re.MULTILINE)
    exec(block.replace("epochs=10", "epochs=2, channels=4"), {})
    assert "node1 = " in capsys.readouterr().out


def everywhere() -> list[list[str]]:
    found = [words for page in ALL_PAGES if page.exists() for fence in ("", "bash") for words in commands(page, fence)]
    for page in ALL_PAGES:
        if page.exists():
            found += [
                shlex.split(text)[2:]
                for text in re.findall(r"`(python -m [^`\n]*)`", page.read_text())
                if "|" not in text
            ]
    return [list(words) for words in sorted({tuple(words) for words in found})]


@pytest.mark.parametrize("words", everywhere(), ids=" ".join)
def test_command_of_any_page_has_the_flags_it_is_shown_with(words: list[str]) -> None:
    module, *arguments = words
    name = f"{module}.__main__" if (ROOT / module.replace(".", "/") / "__main__.py").exists() else module
    found = importlib.util.find_spec(name)
    assert found is not None, f"there is no module {name}"
    app = (
        getattr(importlib.import_module(name), "app", None)
        if module.split(".")[0] in ("data", "nas", "strategies", "reports")
        else None
    )
    if isinstance(app, typer.Typer):
        known = flags(typer.main.get_command(app))
        wrong = [word for word in arguments if word.startswith("--") and word.split("=")[0] not in known]
        assert not wrong, f"{module} has no {', '.join(wrong)}"


def flags(command: click.Command) -> set[str]:
    """All option names of the command and of what hangs below it."""
    found = {"--help", *(name for p in command.params for name in (*p.opts, *p.secondary_opts))}
    for below in getattr(command, "commands", {}).values():
        found |= flags(below)
    return found
