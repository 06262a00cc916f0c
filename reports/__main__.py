"""`python -m reports`: the pages of finished runs from their files; runs side by side; runs for other tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from data.commandline import Json, Quiet, application, command
from data.errors import InputError

RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, such as reports/runs/<run-id> or reports/latest.")]
LATEST = Path("reports/latest")


def build(run: RunFolder = LATEST, quiet: Quiet = False, json_: Json = False) -> None:
    """Rebuild the pages of a run from its files, and the list of all runs.

    Other commands: compare RUN RUN ..., tensorboard RUN, mlflow RUN --uri URI, looks, unseal RUN (each with --help).
    """
    from reports.page import build_pages  # start-up time: `--help` needs none of it

    _tell("page", build_pages(run, progress=None if quiet else lambda step: print(step, file=sys.stderr)), json_)


def read(
    run: RunFolder = LATEST,
    part: Annotated[str, typer.Option(help="answer, windows, forecasts or settings.")] = "answer",
    json_: Json = False,
) -> None:
    """Say what a run's page says: the verdict, or why each window traded as it did, or what its forecasts were worth."""
    from reports.told import PARTS, told  # start-up time

    if part not in PARTS:
        raise InputError(f"unknown --part {part!r}; expected {', '.join(PARTS)}")
    found = told(run, part)
    if part == "answer" and not json_:
        print("\n".join((found["answer"], *found["details"])))
        return
    print(json.dumps(found) if json_ else json.dumps(found[part], indent=1))


def runs(
    out: Annotated[Path, typer.Option(help="Folder that holds runs/.")] = Path("reports"), json_: Json = False
) -> None:
    """List finished runs, newest first."""
    from reports.told import listed  # start-up time

    found = listed(out)
    for each in found if not json_ else ():
        best = "; ".join(f"{name} {one['sharpe']:.2f}" for name, one in (each["figures"] or {}).items())
        print(f"{each['run']}  {'+'.join(each['symbols'] or ())}  {each['start']} to {each['end']}  {best}")
    if json_:
        print(json.dumps({"runs": found}))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.")],
    out: Annotated[Path | None, typer.Option(help="The page to write (default: compare.html beside runs/).")] = None,
    json_: Json = False,
) -> None:
    """Write one page that sets runs side by side."""
    from reports.comparison import write_comparison  # start-up time

    _tell("page", write_comparison(runs, out), json_)


def tensorboard(run: RunFolder = LATEST, json_: Json = False) -> None:
    """Write TensorBoard event files of a run's searches to its folder tensorboard/."""
    from reports.export import write_tensorboard  # start-up time
    from reports.run_folder import load_run

    _tell("folder", write_tensorboard(load_run(run)), json_)


def mlflow(
    run: RunFolder = LATEST,
    uri: Annotated[str, typer.Option(help="Tracking server or local store.")] = "file:mlruns",
    json_: Json = False,
) -> None:
    """Log parameters, metrics and files of a run to MLflow; prints the id of the MLflow run."""
    from reports.export import log_mlflow  # start-up time
    from reports.run_folder import load_run

    _tell("run", log_mlflow(load_run(run), uri), json_)


def unseal(run: RunFolder = LATEST, quiet: Quiet = False, json_: Json = False) -> None:
    """Open the sealed holdout of a run, once: its walk-forward goes on over it; the register and the page keep what it showed."""
    from data.progress import console_of  # start-up time
    from reports.page import build_pages
    from reports.unsealing import unseal as open_holdout

    found = open_holdout(run, console_of(json_, quiet))
    build_pages(run)
    print(json.dumps(found) if json_ else found["told"])


def looks(
    register: Annotated[
        Path | None, typer.Option(help="Folder of the register (default: looks/ of the cache folder).")
    ] = None,
    json_: Json = False,
) -> None:
    """List every look at an unseen stretch, and verify that no row was edited, moved or removed (exit code 2 where one was)."""
    from strategies.walkforward.looks import Register, counted  # start-up time

    kept = Register(register)
    rows = kept.rows()
    found = {row.look: counted(rows, row.look, row.stretch) for row in rows}
    shown = [
        {"when": row.when, "what": row.what, "run": row.look, "look": found[row.look].number, "of": found[row.look].total,
         "market": list(row.stretch.market), "start": row.stretch.start, "stop": row.stretch.stop, "figures": dict(row.figures)}
        for row in rows
    ]  # fmt: skip
    if json_:
        print(json.dumps({"register": str(kept.path), "begun": rows[0].when if rows else None, "rows": shown}))
        return
    for row in rows:
        look = found[row.look]
        best = "; ".join(f"{name} {value:.2f}" for name, value in row.figures.items() if value is not None)
        print(
            f"{row.when[:16]}  {'+'.join(row.stretch.market)[:24]:24}  {row.stretch}  look {look.number} of {look.total}  {row.what:10}  "
            f"{row.look}  {best}"
        )
    if rows:
        print(
            f"{len(rows)} rows since {rows[0].when[:16]}, {len(found)} looks: every row is what was written ({kept.path})"
        )
    else:
        print(f"no look is registered in {kept.path}")


def _tell(what: str, found: Path | str, as_json: bool) -> None:
    print(json.dumps({what: str(found)}) if as_json else found)


COMMANDS: dict[str, Callable[..., None]] = {
    "build": build,
    "read": read,
    "runs": runs,
    "compare": compare,
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "looks": looks,
    "unseal": unseal,
}


EXAMPLES = {
    "build": ("python -m reports", "python -m reports reports/runs/RUN --quiet"),
    "read": ("python -m reports read", "python -m reports read reports/latest --part windows --json"),
    "runs": ("python -m reports runs",),
    "compare": ("python -m reports compare RUN RUN --out both.html",),
    "tensorboard": ("python -m reports tensorboard reports/latest",),
    "looks": ("python -m reports looks",),
    "unseal": ("python -m reports unseal reports/latest",),
    "mlflow": ("python -m reports mlflow reports/latest --uri http://127.0.0.1:5000",),
}


def main() -> None:
    # `python -m reports RUN` builds: a first word that is no command is a folder
    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments and arguments[0] in COMMANDS else "build"
    app = application()
    command(app, *EXAMPLES[name])(COMMANDS[name])
    app(arguments, prog_name="python -m reports" + ("" if name == "build" else f" {name}"))


if __name__ == "__main__":
    main()
