"""`python -m reports RUN`: build the pages of a finished run again from its files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from data.panel import InputError

application = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@application.command()
def build(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run, such as reports/runs/<run-id> or reports/latest.")
    ] = Path("reports/latest"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Rebuild the pages of a run from its files, and the list of all runs."""
    from reports.page import build_pages

    page = build_pages(run, progress=None if quiet else lambda step: print(step, file=sys.stderr))
    if not quiet:
        print(page)


def main() -> None:
    try:
        application()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
