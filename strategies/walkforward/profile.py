"""Where a run's time went: seconds per stage, in run.json and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Group
from rich.table import Table

from data.atomic import write_text
from nas.tasks.memory import peak_mib


def keep_timings(folder: Path, timings: Mapping[str, float]) -> None:
    """Put the stages that end after run.json is written (files, pages) into it as well."""
    path = folder / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["timings"] = {name: round(seconds, 2) for name, seconds in timings.items()}
    write_text(path, json.dumps(run, indent=1) + "\n")


def profile(timings: Mapping[str, float], worker_mib: float = 0.0) -> Group:
    """Stages in the order in which they ran; search, training and rivals share their wall time by processor time.

    worker_mib: peak of the largest process that computed tasks for this one; 0 where none did.
    """
    total = sum(timings.values()) or 1.0
    slowest = max(timings, key=lambda name: timings[name])
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name, justify in (("stage", "left"), ("seconds", "right"), ("share", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name, seconds in timings.items():
        table.add_row(name, f"{seconds:.1f}", f"{seconds / total:.0%}")
    slowest_line = f"slowest: {slowest}, {timings[slowest] / total:.0%} of {total:.1f} s"
    workers = f", {worker_mib:.0f} MiB in the largest worker" if worker_mib else ""
    return Group(table, slowest_line, f"peak memory {peak_mib():.0f} MiB in this process{workers}")
