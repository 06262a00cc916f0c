"""An experiment is a list of units; each leaves one small JSON file, whole or not at all, so that a killed command goes on where it was."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data.atomic import write_text

Result = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """One thing to compute. name: its file; settings: everything that decides its result, kept beside it."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """What a unit left: its settings, its result, and how it came about (date, machine, code, seconds)."""

    name: str
    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    seconds: float
    date: str
    machine: str
    code: str


def machine() -> str:
    """Processor and the cores this process may use, for the page."""
    name = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"


def read(path: Path) -> Record | None:
    """The record in a file; None where there is none or it is damaged (it is then computed again)."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def records(folder: Path) -> list[Record]:
    """Every finished unit below `folder`, by name."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return [record for record in found if record is not None]


def complete(
    folder: Path,
    units: Sequence[Unit],
    compute: Callable[[Unit], Result],
    console: Console,
    code: str,
    minutes: float = float("inf"),
) -> list[Record]:
    """Compute what is missing, in order, and return the records of all `units` that are finished.

    A file counts as finished only where its settings are the unit's. Stops before the next unit once `minutes` have passed.
    KeyboardInterrupt leaves the finished ones.
    """
    for leftover in folder.glob(".*.part"):  # of a command that was killed while writing
        leftover.unlink(missing_ok=True)

    def path(unit: Unit) -> Path:
        return folder / f"{unit.name}.json"

    def finished(unit: Unit) -> Record | None:
        record = read(path(unit))
        return record if record is not None and _plain(record.settings) == _plain(unit.settings) else None

    waiting = [unit for unit in units if finished(unit) is None]
    if len(waiting) < len(units):
        console.print(f"{len(units) - len(waiting)} of {len(units)} are finished already in {folder}", markup=False)
    end = time.monotonic() + 60.0 * minutes
    left = (TextColumn("left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *left)
    with Progress(*columns, console=console, disable=console.quiet or not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(waiting))
        began = time.monotonic()
        for done, unit in enumerate(waiting, 1):
            if time.monotonic() > end:
                console.print(f"stopped after {minutes:g} minutes; the same command goes on from here", markup=False)
                break
            progress.update(bar, description=unit.name)
            if finished(unit) is None:  # another process of the same command may have done it meanwhile
                start = time.monotonic()
                result = compute(unit)
                seconds = round(time.monotonic() - start, 2)
                today = datetime.now(UTC).date().isoformat()
                record = Record(unit.name, unit.settings, result, seconds, today, machine(), code)
                write_text(path(unit), json.dumps(asdict(record), sort_keys=True) + "\n")
            progress.advance(bar)
            if not console.is_terminal and not console.quiet:
                rest = (time.monotonic() - began) / done * (len(waiting) - done)
                console.print(f"{done}/{len(waiting)} {unit.name}, about {rest / 60:.0f} min left", markup=False)
    found = [finished(unit) for unit in units]
    return [record for record in found if record is not None]


def grouped(found: Iterable[Record], *keys: str) -> dict[tuple[Any, ...], list[Record]]:
    """Records by the values of some settings, in order of first appearance."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in found:
        groups.setdefault(tuple(record.settings[key] for key in keys), []).append(record)
    return groups


def _plain(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings, sort_keys=True))
