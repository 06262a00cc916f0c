"""Every command that a page, a docstring or a `--help` text shows has a way to be executed; those of the tests' class are executed here.

The others are executed by `make docs` (docs/executed/how.py says which, and how each is made small).
"""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from commands.__main__ import app as everything
from data.standin import Clock, Market, StandIn, World
from docs.executed import pages
from docs.executed.how import DOCS, TEST, executed, how
from docs.executed.pages import PROGRAMS, ROOT, Command, blocks, shown
from tests.docs.shown_run import run

SHOWN = shown()
HOUR = 3_600_000


@pytest.fixture(scope="module")
def folder(stranger_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a stranger works: what one command leaves behind, the next one finds."""
    return Path(shutil.copytree(stranger_template, tmp_path_factory.mktemp("work") / "stranger", symlinks=True))


@pytest.fixture
def stranger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REGIME_BYBIT_URL", "http://127.0.0.1:9")  # no exchange: the simulated market, at once
    monkeypatch.setenv("REGIME_CACHE", str(folder / "cache"))
    # most of the time of pages; the template's run has them, as its test holds
    monkeypatch.setattr("reports.page.write_tearsheets", lambda *_: ())
    return folder


@pytest.fixture(scope="module")
def exchange() -> Iterator[StandIn]:
    """A stand-in in March 2024 at 3,000 times the speed of a clock, with the candles of half a year."""
    now = 1_710_900_000_000
    market = Market(first_ms=now - 3000 * HOUR, last_ms=now + 1000 * HOUR, step_ms=HOUR // 12)
    with StandIn(World(market, Clock(now, speed=3_000.0)), tick_s=0.02) as running:
        yield running


def of_class(by: str, *programs: str) -> list[Command]:
    """Commands of one class, those that become equal once."""
    rows = [(command, how(command)) for command in SHOWN if command[0] in programs]
    first: dict[frozenset[str], Command] = {}
    for command, row in rows:
        if row is not None and row.by == by:
            first.setdefault(frozenset(executed(command)), command)
    return list(first.values())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # runpy: the module was imported before
@pytest.mark.parametrize("command", of_class(TEST, "python", "nextopen", "regime-nas"), ids=shlex.join)
def test_command_works_as_shown(
    command: Command,
    stranger: Path,
    registries: None,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = how(command)
    assert row is not None
    if row.exchange:
        monkeypatch.setenv("REGIME_BYBIT_URL", request.getfixturevalue("exchange").url)
    # what its page tells to put into the code first
    for name in [*("add_op", "add_feature") * ("my.toml" in command), *["add_data_source"] * ("sqlite" in command)]:
        runpy.run_path(str(ROOT / f"examples/{name}.py"))
    assert run(executed(command)) == row.code


def test_the_first_run_has_the_page_that_the_readme_promises(stranger_template: Path) -> None:
    """In the folder as the first run left it: `latest` of the folder at work may be a later command's, without pages."""
    assert (stranger_template / "reports/latest/run.json").exists()
    assert (stranger_template / "reports/latest/index.html").exists()
    assert list((stranger_template / "reports/latest/tearsheets").glob("*.html"))
    assert list((stranger_template / "reports/paper").glob("*.html"))


def test_the_python_of_the_readme_runs(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (text for kind, text in blocks((ROOT / "README.md").read_text()) if kind == "python")
    exec(block.replace("epochs=10", "epochs=2, channels=4"), {})
    assert "node1 = " in capsys.readouterr().out


@pytest.mark.parametrize("command", of_class(TEST, "make"), ids=shlex.join)
def test_make_target_starts_only_what_is_executed(command: Command) -> None:
    done = subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        if match := re.search(r"(?:^|\s)\.venv/bin/(python -m [^|;\\]*)", line):
            started = pages.words(match[1])
            known = started[2] in ("pip", "venv", "pytest", "mkdocs") or how(started)
            assert known, (
                f"`{shlex.join(command)}` starts {shlex.join(started)}, which docs/executed/how.py does not have"
            )


@pytest.mark.parametrize("command", of_class(TEST, ".", "export"), ids=shlex.join)
def test_line_for_the_shell_works(command: Command) -> None:
    line = " ".join(command)  # `...` stands for a key
    if command[0] == "." and not (ROOT / command[1]).exists():
        pytest.skip("the environment of this checkout is not .venv")
    assert subprocess.run(["bash", "-c", line], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("command", SHOWN, ids=shlex.join)
def test_every_shown_command_is_executed_by_a_test_or_by_make_docs(command: Command) -> None:
    where = ", ".join(dict.fromkeys(SHOWN[command]))
    assert command[0] in PROGRAMS, f"{where}: {shlex.join(command)} in a bash block is no command that this test knows"
    assert how(command), f"{where} shows `{shlex.join(command)}`: add a row for it to docs/executed/how.py"


def test_commands_stand_in_bash_blocks_and_every_block_has_a_kind() -> None:
    for page in pages.pages():
        for kind, content in blocks(page.read_text()):
            assert kind.strip() in pages.FENCES, f"{page.name}: a block of kind {kind!r}"
            if kind != "bash":
                assert not re.search(r"^(python -m|make|nextopen) ", content, re.MULTILINE), (
                    f"{page.name}: a command in a {kind} block"
                )


@pytest.mark.parametrize("command", of_class(DOCS, "python"), ids=shlex.join)
def test_command_of_make_docs_has_the_flags_it_is_shown_with(command: Command) -> None:
    """Its execution is left to `make docs`; a wrong flag shows at once."""
    known = flags_of(command[2])
    wrong = [w for w in executed(command) if w.startswith("--") and known and w not in known]
    assert not wrong, f"{command[2]} has no {', '.join(wrong)}"


@pytest.mark.parametrize("name", pages.modules_named())
def test_module_that_a_message_names_exists(name: str) -> None:
    main = f"{name}.__main__" if (ROOT / name.replace(".", "/") / "__main__.py").exists() else name
    assert importlib.util.find_spec(main), f"{', '.join(pages.modules_named()[name])}: there is no module {name}"


def test_every_flag_that_a_page_mentions_exists() -> None:
    known = {"--force-exclude"} | flags(typer.main.get_command(everything))
    for path in (*ROOT.glob("*/*.py"), *ROOT.glob("*/*/*.py"), *ROOT.glob("tests/*/**/*.py")):
        known |= set(re.findall(r"--[a-z][a-z0-9-]+", path.read_text()))
        known |= {
            f"--{name.rstrip('_').replace('_', '-')}" for name in re.findall(r"^\s+(\w+): (?:\w+Option|Annotated)", path.read_text(), re.M)
        }  # fmt: skip
    for page in pages.pages():
        spans = re.findall(r"`([^`\n]+)`", page.read_text())
        wrong = {flag for span in spans for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", span)} - known
        assert not wrong, f"{page.name}: {', '.join(sorted(wrong))}"


def test_extras_that_pages_name_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in pages.pages():
        for name in re.findall(r"\.\[(\w+)\]", page.read_text()):
            assert name in extras, f"{page.name}: pip install .[{name}]"


def test_hooks_are_the_checks_of_make() -> None:
    told = json.dumps((ROOT / ".pre-commit-config.yaml").read_text())
    recipe = (ROOT / "Makefile").read_text().partition("\ntest:")[2].partition("\n\n")[0]
    for tool in re.findall(r"\$\(BIN\)/(ruff \w+|lint-imports|mypy)", recipe):
        assert f".venv/bin/{tool}" in told, tool


def flags_of(module: str) -> set[str]:
    """All option names of a module's command and of what hangs below it; empty where it is no Typer application."""
    name = f"{module}.__main__" if (ROOT / module.replace(".", "/") / "__main__.py").exists() else module
    found = importlib.import_module(name)
    app = getattr(found, "app", None)
    if app is None and "typer.run(main)" in Path(str(found.__file__)).read_text():
        app = typer.Typer()
        app.command()(found.main)
    return flags(typer.main.get_command(app)) if isinstance(app, typer.Typer) else set()


def flags(command: click.Command) -> set[str]:
    found = {"--help", *(name for p in command.params for name in (*p.opts, *p.secondary_opts))}
    for below in getattr(command, "commands", {}).values():
        found |= flags(below)
    return found
