"""`python -m benchmarks.page`: runs the benchmarks of docs/performance.md and writes what they say between its markers.

A section of the page stands between `<!-- bench: NAME -->` and `<!-- end -->`. Every section is the output of one command, tables in
Markdown; a command that fails leaves its section as it was, and the exit code is 1.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.tables import say
from data.atomic import write_text
from data.errors import InputError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
# section -> command and what is given to it; all of them together take less than ten minutes
COMMANDS = {
    "search": ["benchmarks.speed_search", "--short"],
    "roofline": ["benchmarks.roofline"],
    "job": ["benchmarks.speed_job", "--short"],
    "account": ["benchmarks.account", "--repeats", "3", "--shifts", "1000"],
    "kernels": ["benchmarks.features", "--shapes", "100000x1,2000000x1,100000x50", "--repeats", "3"],
    "cluster": ["benchmarks.tasks", "--windows", "1"],
    "gpu": ["benchmarks.gpu"],
}


def machine() -> str:
    """Processor, its cores, the packages that compute, and how busy the machine is."""
    model = platform.processor() or platform.machine()
    told = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", told.read_text()) if told.exists() else None
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{found[1] if found else model}, {os.cpu_count()} cores{load}; Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}"
    )


def replaced(page: str, name: str, text: str) -> str:
    """The page with `text` in the section of this name. InputError where it has no such section."""
    found = re.search(rf"(<!-- bench: {re.escape(name)} -->\n).*?(<!-- end -->)", page, re.DOTALL)
    if found is None:
        raise InputError(
            f"{PAGE.name} has no section '<!-- bench: {name} -->' ... '<!-- end -->'; put one where it belongs"
        )
    return page[: found.end(1)] + "\n" + text.strip() + "\n\n" + page[found.start(2) :]


def spaced(output: str) -> str:
    """Lines of a benchmark as Markdown: lines of a table stay together, every other one is a paragraph."""
    text = ""
    for line in filter(None, (line.rstrip() for line in output.splitlines())):
        joined = line.startswith("|") and text.rpartition("\n")[2].startswith("|")
        text += ("\n" if joined else "\n\n") + line
    return text.strip()


def main(
    only: Annotated[str, typer.Option(help="Sections with commas between; empty for all.")] = "",
    page: Annotated[Path, typer.Option(help="The page to write.")] = PAGE,
) -> None:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(COMMANDS)
    unknown = sorted(set(names) - set(COMMANDS))
    if unknown:
        raise typer.BadParameter(
            f"no section {', '.join(unknown)}; sections are {', '.join(COMMANDS)}", param_hint="--only"
        )
    began, failed = time.perf_counter(), []
    write_text(page, replaced(page.read_text(), "machine", machine()))
    for name in names:
        command = COMMANDS[name]
        say(f"{' '.join(command)} ...")
        start, used = time.perf_counter(), children()
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
        say(f"  {time.perf_counter() - start:.0f} s by the clock, {children() - used:.0f} s of the processor")
        if done.returncode:
            failed.append(name)
            say(f"  failed with {done.returncode}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
            continue
        say(done.stdout)
        text = f"`python -m {' '.join(command)}`\n\n{spaced(done.stdout)}"
        write_text(page, replaced(page.read_text(), name, text))
    say(
        f"{len(names) - len(failed)} of {len(names)} sections of {page.name} written in {time.perf_counter() - began:.0f} s"
    )
    if failed:
        raise typer.Exit(1)


def children() -> float:
    """Processor seconds of the commands so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    typer.run(main)
