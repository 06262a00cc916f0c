"""The main job, `python -m strategies.walkforward --symbol BTCUSDT`: flags to settings, a run, its pages.

What is loaded only to run is imported where it is needed: `--help` and completion answer at once.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data.arithmetic import pin
from data.atomic import write_text
from data.commandline import application, command
from data.settings import declared, flags_of
from data.settings_file import to_toml
from nas.tasks.processes import prepare
from strategies.walkforward.config import GROUPS, RunConfig, of_preset, resolve_all
from strategies.walkforward.options import Options

if TYPE_CHECKING:
    from strategies.walkforward.job import Headline, Job

PAGES_MARK = ".pages"  # holds the version of the code that wrote the pages; the last file of a run to appear
app = application()


@command(
    app,
    "python -m strategies.walkforward --symbol BTCUSDT --preset quick",
    "python -m strategies.walkforward --data candles.parquet --funding funding.parquet",
    "python -m strategies.walkforward --preset thorough --print-config > run.toml",
    "python -m strategies.walkforward --config run.toml --seed 1",
    interrupted="interrupted: finished tasks are kept; the same command goes on from here",
)
@flags_of(RunConfig, Options, groups=GROUPS, layered=of_preset("default"))
def main(
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any of these flags (fill_gaps = true) and settings.")
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", help="Print every setting as it would be used, as a file for --config, and stop."
        ),
    ] = False,
    **given: Any,
) -> None:
    """Search a network on every rolling window, trade it out of sample under costs, compare it with hand-designed rivals.

    Writes OUT/runs/<id>/index.html (OUT/latest points to it). The same command resumes an interrupted run.
    """
    settings, rest = resolve_all(given.pop("preset"), config, given, [name for name, *_ in declared(Options)])
    options = Options.read(rest)
    if print_config:
        sys.stdout.write(to_toml(settings.model_dump()) + to_toml(options.model_dump(by_alias=True)))
        return
    if settings.reproducible:
        pin()
    run_job(settings, options)


def run_job(config: RunConfig, options: Options) -> Path:
    """A run, then its pages and what other tools get of it; returns its folder.

    Raises InputError for anything the user can mend; KeyboardInterrupt leaves finished tasks on disk.
    """
    if options.jobs != 1 and options.engine == "local" and not options.dry_run:
        prepare(__name__)
    from strategies.walkforward.job import Job  # start-up time: `--help` needs neither torch nor pandas
    from strategies.walkforward.profile import keep_timings

    if options.mlflow is not None:  # what the end needs is asked for at the beginning
        from reports.export import mlflow_client  # optional: MLflow

        mlflow_client(options.mlflow)
    job = Job.open(config, options)
    if options.dry_run:
        told = job.foresee()
        if options.as_json:
            sys.stdout.write(json.dumps(told) + "\n")
        return job.folder
    with job.held():
        headline = job.finished()
        ran = headline is None
        if headline is None:
            with _watched(job) as watch:
                headline = job.run(watch)
        if options.pages:
            _write_pages(job)
        else:
            from reports.run_folder import link_latest  # start-up time

            link_latest(job.folder)  # the newest run, with pages or without
        if ran:
            keep_timings(job.folder, job.timings)
        _export(job)
    _tell(job, headline)
    return job.folder


@contextlib.contextmanager
def _watched(job: Job) -> Iterator[Path | None]:
    """The folder through which TensorBoard follows the searches; None where nobody asked for it."""
    if not job.options.tensorboard:
        yield None
        return
    from reports.live import live_tensorboard  # optional: TensorBoard

    watch, folder = job.folder / "watch", job.folder / "tensorboard"
    with live_tensorboard(watch, folder):
        where = "when they are done (Ray)" if job.options.engine == "ray" else "while they run"
        job.console.print(f"searches {where}: tensorboard --logdir {folder}", markup=False, soft_wrap=True)
        yield watch
    shutil.rmtree(watch, ignore_errors=True)


def _write_pages(job: Job) -> None:
    """Pages and the link to them; left alone where this version of the code has written them already."""
    from reports.page import build_pages  # start-up time
    from reports.run_folder import link_latest  # start-up time
    from strategies.walkforward.provenance import pages_version

    mark, version = job.folder / PAGES_MARK, pages_version()
    if mark.is_file() and mark.read_text() == version:
        job.console.print(f"finished already: {job.folder}", markup=False, soft_wrap=True)
        link_latest(job.folder)
        return
    began = time.perf_counter()
    with job.console.status("writing pages"):
        build_pages(job.folder)
    job.timings["pages"] = time.perf_counter() - began
    write_text(mark, version)


def _export(job: Job) -> None:
    """The finished run for other tools, where asked for."""
    options, console = job.options, job.console
    if not options.tensorboard and options.mlflow is None:
        return
    from reports.export import log_mlflow, write_tensorboard  # optional: TensorBoard, MLflow
    from reports.run_folder import load_run

    run = load_run(job.folder)
    if options.tensorboard:
        console.print(f"tensorboard --logdir {write_tensorboard(run)}", markup=False, soft_wrap=True)
    if options.mlflow is not None:
        console.print(f"MLflow run {log_mlflow(run, options.mlflow)} at {options.mlflow}", markup=False, soft_wrap=True)


def _tell(job: Job, headline: Headline) -> None:
    """Figures of every strategy, where the time went, where the pages are."""
    from data.progress import console_of  # start-up time
    from strategies.walkforward.profile import profile

    options, console = job.options, job.console
    result = console_of(options.as_json)  # also where progress is not wanted
    width = max(map(len, headline), default=0)
    for name, figures in headline.items():
        result.print(
            f"  {name:<{width}}  return {figures['return']:>8.1%}   Sharpe {figures['sharpe']:>6.2f}   fills {figures['trades']}",
            markup=False,
        )
    if job.panel.source == "demo":
        from reports.planted_section import planted_section  # start-up time
        from reports.run_folder import load_run  # start-up time

        told = planted_section(load_run(job.folder))
        for sentence in told.story if told else ():
            console.print(sentence, markup=False, highlight=False)
    if options.as_json:
        sys.stdout.write(json.dumps({"run": str(job.folder), "headline": headline}, sort_keys=True) + "\n")
    if options.profile:
        console.print(profile(job.timings, job.worker_mib))
    else:
        seconds = ", ".join(f"{k} {value:.1f}" for k, value in job.timings.items())
        console.print(f"seconds: {seconds}", soft_wrap=not console.is_terminal)
    if options.pages:
        result.print(f"page: {options.out / 'latest' / 'index.html'}", markup=False, soft_wrap=True)
    else:
        result.print(f"run: {job.folder}", markup=False, soft_wrap=True)
        result.print(f"pages: python -m reports {job.folder}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(app())
