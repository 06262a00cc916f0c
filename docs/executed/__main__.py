"""`python -m docs.executed`: executes the shown commands that take too long for a test (`--list`: which those are).

A part of `make docs`. They run in a copy of the checkout, so that nothing of it changes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from docs.executed.how import DOCS, FIRST, PAPER, executed, how
from docs.executed.pages import ROOT, Command, shown

LONGEST_S = 600


def waiting() -> list[Command]:
    """The commands of class DOCS as they are executed, each once."""
    rows = [(command, how(command)) for command in shown()]
    return list(dict.fromkeys(command for command, row in rows if row is not None and row.by == DOCS))


def copy(to: Path) -> None:
    """The files that git knows of, as they are now; and a repository, which pre-commit wants."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    (to / ".venv").symlink_to((ROOT / ".venv").resolve())
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=to, check=True)


def environment(checkout: Path) -> dict[str, str]:
    """No exchange, no store and no home of the person who runs this; the programs of .venv first."""
    path = f"{(ROOT / '.venv/bin').resolve()}{os.pathsep}{os.environ['PATH']}"
    return {
        **os.environ, "PATH": path, "REGIME_BYBIT_URL": "http://127.0.0.1:9", "REGIME_CACHE": str(checkout / "cache"),
        "HOME": str(checkout.parent / "home"), "PRE_COMMIT_HOME": str(checkout.parent / "hooks"),
    }  # fmt: skip


@contextlib.contextmanager
def trading(checkout: Path) -> Iterator[None]:
    """Paper trading on the stand-in exchange, from its first decided bar on; ended by what runs beside it, or by us."""
    from strategies.paper.records.journal import Journal

    before = set(checkout.glob("reports/paper/*/journal.sqlite"))
    words = ["-m", "strategies.paper", "--venue", "local", "--speed", "36000", "--quiet"]
    with subprocess.Popen([sys.executable, *words], cwd=checkout, env=environment(checkout)) as process:
        try:
            while process.poll() is None:
                new = set(checkout.glob("reports/paper/*/journal.sqlite")) - before
                if new and Journal(new.pop(), read_only=True).last_decision() is not None:
                    break
                time.sleep(0.2)
            yield
        finally:
            process.terminate()


def run(command: Command, checkout: Path) -> str:
    """Empty where it ended as it should, else what it said."""
    row = how(command)
    assert row is not None
    line = " ".join(word if word == ">" or "*" in word else shlex.quote(word) for word in executed(command))
    if command == FIRST:
        line += " --pages"
    # a shell above it, which --install-completion asks for; in the shell's place where it is to be interrupted
    words = f"exec {line}" if row.until else f"{line}; exit $?"
    log = checkout.parent / "log"
    with log.open("w") as file, trading(checkout) if row.trading else contextlib.nullcontext():
        process = subprocess.Popen(
            ["bash", "-c", words], cwd=checkout, env=environment(checkout), stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where this runs in the background
        )  # fmt: skip
        try:
            if row.until:
                stop = time.monotonic() + LONGEST_S
                while row.until not in log.read_text() and process.poll() is None and time.monotonic() < stop:
                    time.sleep(0.2)
                process.send_signal(signal.SIGINT)
            code = process.wait(LONGEST_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return "" if code == row.code else f"ended with {code}, expected {row.code}:\n{log.read_text()[-3000:]}"


def main(
    only_list: Annotated[bool, typer.Option("--list", help="Print the commands and execute nothing.")] = False,
    only: Annotated[str, typer.Option(help="Only commands that this regular expression finds.")] = "",
) -> None:
    """Execute what the tests leave to `make docs`; exit code 1 where a command does not end as it should."""
    commands = [command for command in waiting() if re.search(only, shlex.join(command))]
    if only_list:
        for command in commands:
            print(shlex.join(executed(command)))
        return
    from docs.executed.place import prepare, prepare_shared

    with tempfile.TemporaryDirectory(prefix="shown-") as folder:
        checkout = Path(folder) / "checkout"
        (Path(folder) / "home").mkdir()
        copy(checkout)
        prepare(checkout, bars=9_000)
        prepare_shared(Path(folder) / "shared")
        failed, began = 0, time.monotonic()
        all_of_them = [FIRST, PAPER, *commands]
        for number, command in enumerate(all_of_them, 1):
            started = time.monotonic()
            wrong = run(command, checkout)
            took = time.monotonic() - started
            left = (time.monotonic() - began) / number * (len(all_of_them) - number)
            print(
                f"[{number}/{len(all_of_them)}] {took:5.1f} s, about {left:.0f} s left  {shlex.join(command)}",
                flush=True,
            )
            if wrong:
                failed += 1
                print(wrong, flush=True)
    if failed:
        print(f"{failed} of {len(all_of_them)} shown commands failed", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
