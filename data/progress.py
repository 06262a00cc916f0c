"""Where a person reads along: the console of every command, and the progress bar of a download (on a terminal only)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from data.history import Progress


PIPED_COLUMNS = 160


def console_of(stderr: bool = False, quiet: bool = False) -> Console:
    """As wide as the terminal; in a pipe or a file PIPED_COLUMNS wide (where COLUMNS does not say), without colours or live tables."""
    from rich.console import Console  # start-up time: `--help` and `--quiet` print nothing with it

    free = not (sys.stderr if stderr else sys.stdout).isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, quiet=quiet, highlight=False, width=PIPED_COLUMNS if free else None)


@contextlib.contextmanager
def download_progress(
    console: Console, hidden: bool = False
) -> Iterator[tuple[Callable[[str], None], Callable[[str], Progress]]]:
    """Yields (say, progress): `say` prints a line above the bars; `progress(name)` starts a bar and returns its callback."""
    # start-up time: only downloads show bars
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{task.completed:>9,.0f} rows {'' if speed is None else f'{speed:,.0f} rows/s'}")

    shown = Bars(
        TextColumn("{task.description}", markup=False), BarColumn(30), Rate(), TimeRemainingColumn(),
        console=console, disable=hidden or console.quiet or not console.is_terminal,
    )  # fmt: skip

    def start(name: str) -> Progress:
        task = None

        def tell(done: int, expected: int) -> None:
            nonlocal task
            if task is None:
                task = shown.add_task(name, total=expected)
            shown.update(task, completed=done, total=expected)

        return tell

    with shown:
        yield (lambda line: console.print(line, markup=False, soft_wrap=True)), start
