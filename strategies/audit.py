"""Look-ahead audit of a finished run: `python -m strategies.audit --run reports/latest`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from data.arithmetic import pin_as
from data.commandline import Json, Quiet, application, command

app = application()


@command(
    app, "python -m strategies.audit --run reports/latest", "python -m strategies.audit --run RUN --windows 2 --json"
)
def main(
    run: Annotated[Path, typer.Option(help="Folder of a finished run.")],
    windows: Annotated[
        int, typer.Option(min=0, help="Windows whose training is repeated on a replaced future; 0: none.")
    ] = 1,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Repeat a run's trades bar by bar, with another future and one bar late, and report any difference that must not be.

    Exit code 0 where nothing looked ahead, 1 where something did.
    """
    pin_as(run)
    from rich.markup import escape  # start-up time: `--help` needs none of it
    from rich.table import Table

    from data.progress import console_of
    from strategies.walkforward.auditing import Audit

    console = console_of(json_, quiet)
    audit = Audit.open(run, console)
    console.print(audit.looked().told, markup=False, soft_wrap=True)
    checks = audit.checks(windows)
    failed = [check for check in checks if not check.passed]
    table = Table.grid(padding=(0, 2))
    for check in checks:
        table.add_row("ok" if check.passed else "FAIL", check.name, escape(check.detail))
    console.print(table)
    if json_:
        shown = [{"check": c.name, "passed": c.passed, "detail": c.detail} for c in checks]
        sys.stdout.write(json.dumps({"run": str(run), "passed": not failed, "checks": shown}) + "\n")
    typer.echo(
        f"{len(failed)} of {len(checks)} checks failed: this run is not to be trusted"
        if failed
        else f"{len(checks)} checks passed: no look-ahead found",
        err=json_,
    )
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    sys.exit(app())
