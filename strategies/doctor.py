"""Is everything here that a run needs? `python -m strategies.doctor`: ten seconds, and what to do about what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.commandline import Json, application, command
from data.place import CHECKOUT, ROOT

if TYPE_CHECKING:
    from rich.console import Console

app = application()

DISTRIBUTION = "nextopen"
INSTALL = (
    "pip install --constraint constraints.txt --editable ."
    if CHECKOUT
    else f"pip install --force-reinstall {DISTRIBUTION}"
)
COMPILED = ("numpy", "pandas", "pyarrow", "numba", "torch")
LEAST_DISK, LEAST_MEMORY = 2e9, 2e9
LONGEST_DRIFT_S = 2.0
MARKS = {"ok": "green", "note": "cyan", "warn": "yellow", "FAIL": "bold red"}


@dataclass(frozen=True)
class Finding:
    """level: `ok`; `note`: fine, but good to know; `warn`: some commands will not work; `FAIL`: nothing will."""

    level: str
    subject: str
    detail: str
    advice: str = ""


def python_version() -> Iterator[Finding]:
    found = sys.version.split()[0]
    fine = sys.version_info >= (3, 11)
    yield Finding("ok" if fine else "FAIL", "Python", found, "" if fine else "Python 3.11 or newer is needed")


def packages() -> Iterator[Finding]:
    try:
        needed, extras = _requirements(metadata.requires(DISTRIBUTION) or [])
    except metadata.PackageNotFoundError:
        yield Finding("FAIL", "packages", f"{DISTRIBUTION} is not installed here", INSTALL)
        return
    tested = {}
    if (ROOT / "constraints.txt").is_file():
        pairs = (line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
        tested = {_normal(name.strip()): version.split()[0] for name, _, version in pairs}

    def version_of(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    found = {name: version_of(name) for name in needed}
    missing = [name for name, version in found.items() if version is None]
    # torch 2.13.0+cpu is torch 2.13.0
    other = [
        f"{name} {version} (tested: {tested[name]})"
        for name, version in found.items()
        if version is not None and tested.get(name, version).partition("+")[0] != version.partition("+")[0]
    ]
    if missing:
        yield Finding("FAIL", "packages", f"missing: {', '.join(missing)}", INSTALL)
    if other:
        yield Finding("warn", "packages", "; ".join(other), f"results may differ from the documented ones; {INSTALL}")
    if not missing and not other:
        yield Finding("ok", "packages", f"all {len(needed)} are there, in the tested versions")
    absent = [extra for extra, names in extras.items() if extra != "test" and not all(map(version_of, names))]
    if absent:
        yield Finding("note", "extras", f"not installed: {', '.join(absent)}", f'pip install ".[{",".join(absent)}]"')


def libraries() -> Iterator[Finding]:
    """Whether what is compiled loads: an installation may be whole by its versions and lack a system library."""
    for name in COMPILED:
        try:
            import_module(name)
        except Exception as error:  # a broken library raises what it likes
            first = (str(error).splitlines() or [""])[0]
            yield Finding("FAIL", name, f"does not load: {type(error).__name__}: {first}", f"reinstall it: {INSTALL}")


def _requirements(lines: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Names that are needed, and those of every extra."""
    needed, extras = list[str](), dict[str, list[str]]()
    for line in lines:
        name = _normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", line)
        (extras.setdefault(extra[1], []) if extra else needed).append(name)
    return needed, extras


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def compiler_cache() -> Iterator[Finding]:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else ROOT / "nas" / "kernels" / "__pycache__"  # a wheel has chosen: data.place
    if not _writable(folder):
        yield Finding(
            "warn", "compiler cache", f"{folder} cannot be written: kernels compile anew in every run",
            "set NUMBA_CACHE_DIR to a folder of yours",
        )  # fmt: skip
        return
    kept = sum(1 for _ in folder.rglob("*.nbc"))
    if kept:
        yield Finding("ok", "compiler cache", f"{kept} compiled kernels are kept")
    else:
        yield Finding(
            "note",
            "compiler cache",
            "empty: the first run compiles for half a minute, later ones do not",
            "python -m strategies.doctor --compile",
        )


def machine(out: Path) -> Iterator[Finding]:
    yield Finding("ok", "processors", f"{os.cpu_count() or 1} (--jobs)")
    memory = _available_memory()
    if memory is not None:
        short = memory < LEAST_MEMORY
        advice = "close other programs, or give --jobs 1" if short else ""
        yield Finding("warn" if short else "ok", "memory", f"{memory / 1e9:.1f} GB free", advice)
    if not _writable(out):
        yield Finding("FAIL", "output", f"{out} cannot be written", "give another folder with --out")
        return
    free = shutil.disk_usage(_existing(out)).free
    short = free < LEAST_DISK
    advice = "a run of two years of hours takes about 100 MB; make room" if short else ""
    yield Finding("warn" if short else "ok", "disk", f"{free / 1e9:.0f} GB free for {out}", advice)


def store() -> Iterator[Finding]:
    from data.store import Store  # a package that is broken is a finding, not the end

    held = Store()
    if not _writable(held.root):
        yield Finding("warn", "store", f"{held.root} cannot be written", "set REGIME_CACHE to a folder of yours")
        return
    count = sum(1 for _ in held)
    yield Finding("ok", "store", f"{count} series in {held.root}; python -m data.info lists and checks them")


def exchange() -> Iterator[Finding]:
    from data.bybit import Bybit, Patience, Unreachable  # a package that is broken is a finding, not the end

    client = Bybit(patience=Patience(attempts=1, timeout_s=3.0))
    if not client.reachable():
        yield Finding(
            "warn", "Bybit", f"{client.endpoint} does not answer: no downloads, no testnet",
            "use --data FILE or --source simulated; behind a proxy set HTTPS_PROXY; --venue local trades without a network",
        )  # fmt: skip
        return
    try:
        off = client.now_ms() / 1000 - time.time()
    except Unreachable as error:
        yield Finding("warn", "Bybit", str(error), "try again later")
        return
    yield Finding("ok", "Bybit", f"{client.endpoint} answers")
    if abs(off) > LONGEST_DRIFT_S:
        yield Finding("warn", "clock", f"{off:+.1f} s from the exchange's: signed requests are refused", "turn on NTP")
    else:
        yield Finding("ok", "clock", f"{off:+.1f} s from the exchange's")


def keys() -> Iterator[Finding]:
    given = [name for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET") if os.environ.get(name)]
    if len(given) == 2:
        yield Finding("ok", "keys", "BYBIT_API_KEY and BYBIT_API_SECRET are set (not tried here)")
    elif given:
        yield Finding("warn", "keys", f"only {given[0]} is set", "set both, or give --keys FILE")
    else:
        yield Finding(
            "note", "keys", "none set: paper trading on testnet or demo needs a pair", "docs/paper-trading.md says how to make one"
        )  # fmt: skip


def findings(out: Path, network: bool = True) -> Iterator[Finding]:
    """Every check, one after the other; a check that breaks is a finding, not an end."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("Python", python_version), ("packages", packages), ("libraries", libraries),
        ("compiler cache", compiler_cache), ("machine", lambda: machine(out)),
        ("store", store), *([("Bybit", exchange)] if network else []), ("keys", keys),
    ]  # fmt: skip
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # the doctor must get to the end whatever is broken
            yield Finding(
                "FAIL", name, f"the check itself failed: {type(error).__name__}: {error}", "reinstall: make run"
            )


def _writable(folder: Path) -> bool:
    """Tried, not asked: a full disk, a read-only one and /proc all say yes when asked as root."""
    try:
        tempfile.TemporaryFile(dir=_existing(folder)).close()
    except OSError:
        return False
    return True


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that is there."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _available_memory() -> float | None:
    """Bytes, where the system says (Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def _reproduced(console: Console, as_json: bool) -> bool:
    # slow to load, for --reproducible alone
    from strategies.reproduced import compare, computed, expected

    there = expected()
    with console.status("a small run, a minute or two"):
        here = computed()
    same, told = compare(here, there)
    if as_json:
        sys.stdout.write(json.dumps({"same": same, "told": told, **here}, indent=1) + "\n")
    console.print(told, markup=False, soft_wrap=True)
    return same


@command(
    app,
    "python -m strategies.doctor",
    "python -m strategies.doctor --json --no-network",
    "python -m strategies.doctor --compile",
    "python -m strategies.doctor --reproducible",
)
def main(
    out: Annotated[Path, typer.Option(help="Folder that runs would be written to.")] = Path("reports"),
    network: Annotated[bool, typer.Option("--network/--no-network", help="Ask the exchange, or leave it out.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only what is wrong.")] = False,
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible",
            help="Only this: does a job of two minutes with --reproducible give the bytes it gave on another processor?",
        ),
    ] = False,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Only this: compile what a run needs, so that the first one need not (what `make` does once).",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Check Python, packages, compiler cache, memory, disk, store, exchange and keys, and say what to do.

    Exit code 0 where runs will work (warnings may remain), 1 where they will not.
    """
    from rich.markup import escape  # start-up time: `--help` needs none of it
    from rich.table import Table

    from data.progress import console_of

    console = console_of(stderr=json_)
    if compile_:
        from strategies.reproduced import compiled  # slow to load, for --compile alone

        with console.status("compiling, half a minute"):
            compiled()
        found = list(compiler_cache())
    elif reproducible:
        raise typer.Exit(0 if _reproduced(console, json_) else 1)
    else:
        with console.status("looking", spinner="line"):
            found = list(findings(out, network))
    shown = [f for f in found if not quiet or f.level in ("warn", "FAIL")]
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(overflow="fold")
    for each in shown:
        text = f"{each.detail}\n-> {each.advice}" if each.advice else each.detail
        table.add_row(f"[{MARKS[each.level]}]{each.level}[/]", each.subject, escape(text))
    console.print(table)
    failed = sum(each.level == "FAIL" for each in found)
    warned = sum(each.level == "warn" for each in found)
    if json_:
        sys.stdout.write(json.dumps({"ok": not failed, "findings": [asdict(each) for each in found]}, indent=1) + "\n")
    elif not quiet or failed:
        console.print(
            f"{failed} broken: runs will not work"
            if failed
            else f"ready to run{f'; {warned} to look at' if warned else ''}"
        )
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    sys.exit(app())
