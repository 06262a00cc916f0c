"""`python -m reports`: the pages of finished runs from their files; runs side by side; runs for other tools."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from data.panel import InputError

RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, such as reports/runs/<run-id> or reports/latest.")]
LATEST = Path("reports/latest")


def build(
    run: RunFolder = LATEST, quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False
) -> None:
    """Rebuild the pages of a run from its files, and the list of all runs.

    Other commands: compare RUN RUN ..., tensorboard RUN, mlflow RUN --uri URI (each with --help).
    """
    from reports.page import build_pages

    page = build_pages(run, progress=None if quiet else lambda step: print(step, file=sys.stderr))
    if not quiet:
        print(page)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.")],
    out: Annotated[Path | None, typer.Option(help="The page to write (default: compare.html beside runs/).")] = None,
) -> None:
    """Write one page that sets runs side by side."""
    from reports.comparison import write_comparison

    print(write_comparison(runs, out))


def tensorboard(run: RunFolder = LATEST) -> None:
    """Write TensorBoard event files of a run's searches to its folder tensorboard/."""
    from reports.export import write_tensorboard
    from reports.run_folder import load_run

    print(write_tensorboard(load_run(run)))


def mlflow(
    run: RunFolder = LATEST,
    uri: Annotated[str, typer.Option(help="Tracking server or local store.")] = "file:mlruns",
) -> None:
    """Log parameters, metrics and files of a run to MLflow; prints the id of the MLflow run."""
    from reports.export import log_mlflow
    from reports.run_folder import load_run

    print(log_mlflow(load_run(run), uri))


COMMANDS: dict[str, Callable[..., None]] = {
    "build": build,
    "compare": compare,
    "tensorboard": tensorboard,
    "mlflow": mlflow,
}


EXAMPLES = "Examples:  python -m reports reports/latest  |  python -m reports compare RUN RUN"


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with wrong input told in one line and exit code 2."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None

    return run


def main() -> None:
    # `python -m reports RUN` builds: a first word that is no command is a folder
    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments and arguments[0] in COMMANDS else "build"
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command(epilog=EXAMPLES)(guarded(COMMANDS[name]))
    application(arguments, prog_name="python -m reports" + ("" if name == "build" else f" {name}"))


if __name__ == "__main__":
    main()
