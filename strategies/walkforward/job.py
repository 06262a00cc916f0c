"""One walk-forward run from resolved settings to a finished run folder: opened once, resumed where it was, closed with its pages."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from data.atomic import make_folder, write_text
from data.panel import InputError, Panel
from data.progress import console_of, download_progress
from data.sources import load_panel
from nas.tasks.device import resolve_device
from strategies.walkforward.config import RunConfig, first_problem
from strategies.walkforward.profile import keep_timings, profile
from strategies.walkforward.provenance import code_version, pages_version, run_id

PAGES_MARK = ".pages"  # holds the version of the code that wrote the pages; the last file of a run to appear


@dataclass(frozen=True)
class Options:
    """How to run, as against what to run: nothing here changes a result."""

    out: Path = Path("reports")
    jobs: int | None = None
    engine: str = "local"
    address: str | None = None
    gpus_per_task: float = 0.0
    fresh: bool = False
    dry_run: bool = False
    quiet: bool = False
    json: bool = False
    pages: bool = True
    profile: bool = False
    tensorboard: bool = False
    mlflow: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"--jobs must be at least 1, not {self.jobs}")
        if not 0 <= self.gpus_per_task < float("inf"):
            raise InputError(f"--gpus-per-task must be a number >= 0, not {self.gpus_per_task}")


def options_of(values: Mapping[str, Any]) -> Options:
    """Options from a file or flags; InputError for a value of the wrong kind."""
    try:
        return TypeAdapter(Options).validate_python(dict(values))
    except ValidationError as error:
        raise InputError(first_problem(error)) from None


def run_job(config: RunConfig, options: Options) -> Path:
    """Returns the run folder. Raises InputError for anything the user can mend; KeyboardInterrupt leaves finished tasks on disk."""
    console = console_of(options.json, options.quiet)
    timings: dict[str, float] = {}
    config = config.model_copy(update={"device": resolve_device(config.device)})
    if options.mlflow is not None:  # what the end needs is asked for at the beginning
        from reports.export import mlflow_client

        mlflow_client(options.mlflow)
    began = time.perf_counter()
    panel = _load(config, console)
    timings["data"] = time.perf_counter() - began
    config = with_order_rules(config, panel)
    code = code_version()
    identity = {k: v for k, v in config.model_dump().items() if k not in ("data", "funding", "source")}
    folder = options.out / "runs" / run_id(panel.assets, identity, panel.fingerprint(), code)
    if options.dry_run:
        from strategies.walkforward.pipeline import Pipeline

        pipeline = Pipeline(config, options, panel, code, console, timings)
        pipeline.show_plan()
        with console.status("estimating the time"):
            seconds = pipeline.estimate_s()
        console.print(f"searching and training: about {_duration(seconds)} on this machine; nothing was run")
        return folder
    make_folder(folder, "--out")
    # beside the folder, not in it: --fresh removes the folder while it holds the lock
    lock = filelock.FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        console.print(
            f"another run of this command is at work in {folder}; waiting for it", markup=False, soft_wrap=True
        )
        lock.acquire()
    try:
        if options.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        for leftover in folder.rglob(
            ".*.part"
        ):  # of a run that was killed while writing; the lock says nobody writes now
            leftover.unlink()
        headline, ran, worker_mib = _finished(folder), False, 0.0
        if headline is None:
            from strategies.walkforward.pipeline import Pipeline

            pipeline = Pipeline(config, options, panel, code, console, timings)
            pipeline.show_plan()
            with _watched(options, folder, console) as watch:
                headline = pipeline.run(folder, watch)
            ran, worker_mib = True, pipeline.worker_mib
        if options.pages:
            _pages(folder, console, timings)
        else:
            from reports.run_folder import link_latest

            link_latest(folder)  # the newest run, with pages or without
        if ran:
            keep_timings(folder, timings)
        _export(folder, options, console)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where nothing was written
        lock.release()
    result = console_of(options.json)  # also where progress is not wanted
    width = max(map(len, headline), default=0)
    for name, figures in headline.items():
        result.print(
            f"  {name:<{width}}  return {figures['return']:>8.1%}   Sharpe {figures['sharpe']:>6.2f}   trades {figures['trades']}",
            markup=False,
        )
    if options.json:
        sys.stdout.write(json.dumps({"run": str(folder), "headline": headline}, sort_keys=True) + "\n")
    if options.profile:
        console.print(profile(timings, worker_mib))
    else:
        console.print(
            "seconds: " + ", ".join(f"{k} {value:.1f}" for k, value in timings.items()),
            soft_wrap=not console.is_terminal,
        )
    if options.pages:
        result.print(f"page: {options.out / 'latest' / 'index.html'}", markup=False, soft_wrap=True)
    else:
        result.print(f"run: {folder}", markup=False, soft_wrap=True)
        result.print(f"pages: python -m reports {folder}", markup=False, soft_wrap=True)
    return folder


def load_market(config: RunConfig, **telling: Any) -> Panel:
    """The panel that a run's settings name. telling: `echo` and `progress` of `load_panel`."""
    return load_panel(
        config.symbol,
        config.interval,
        start=config.start,
        end=config.end,
        source=config.source,
        files=tuple(Path(p) for p in config.data),
        funding_files=tuple(Path(p) for p in config.funding),
        fill_gaps=config.fill_gaps,
        seed=config.seed,
        timeframes=config.timeframes,
        category=config.category,
        **telling,
    )


def with_order_rules(config: RunConfig, panel: Panel) -> RunConfig:
    """The settings with the exchange's lots, ticks and minima for every symbol that has none of its own in them."""
    known = {asset: dict(rules) for asset, rules in panel.instruments.items()}
    return config.model_copy(update={"instruments": known | config.instruments})


def _load(config: RunConfig, console: Console) -> Panel:
    with download_progress(console) as (say, progress):
        panel = load_market(config, progress=progress, echo=say)
    if panel.simulated:
        console.print(
            "[bold black on yellow] SIMULATED MARKET [/] no real prices: results show the machinery, not skill"
        )
    return panel


@contextlib.contextmanager
def _watched(options: Options, folder: Path, console: Console) -> Iterator[Path | None]:
    """The folder through which TensorBoard follows the searches; None where nobody asked for it."""
    if not options.tensorboard:
        yield None
        return
    from reports.live import live_tensorboard

    watch = folder / "watch"
    with live_tensorboard(watch, folder / "tensorboard"):
        where = "when they are done (Ray)" if options.engine == "ray" else "while they run"
        console.print(f"searches {where}: tensorboard --logdir {folder / 'tensorboard'}", markup=False, soft_wrap=True)
        yield watch
    shutil.rmtree(watch, ignore_errors=True)


def _finished(folder: Path) -> dict[str, Any] | None:
    """The headline of a run whose files are all there; run.json is written after all others."""
    try:
        headline: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["headline"]
    except (OSError, ValueError, KeyError):
        return None
    return headline


def _pages(folder: Path, console: Console, timings: dict[str, float]) -> None:
    """Pages and the link to them; left alone where this version of the code has written them already."""
    from reports.run_folder import link_latest

    mark, version = folder / PAGES_MARK, pages_version()
    if mark.is_file() and mark.read_text() == version:
        console.print(f"finished already: {folder}", markup=False, soft_wrap=True)
        link_latest(folder)
        return
    began = time.perf_counter()
    from reports.page import build_pages

    with console.status("writing pages"):
        build_pages(folder)
    timings["pages"] = time.perf_counter() - began
    write_text(mark, version)


def _export(folder: Path, options: Options, console: Console) -> None:
    """The finished run for other tools, where asked for."""
    if not options.tensorboard and options.mlflow is None:
        return
    from reports.export import log_mlflow, write_tensorboard
    from reports.run_folder import load_run

    run = load_run(folder)
    if options.tensorboard:
        console.print(f"tensorboard --logdir {write_tensorboard(run)}", markup=False, soft_wrap=True)
    if options.mlflow is not None:
        console.print(f"MLflow run {log_mlflow(run, options.mlflow)} at {options.mlflow}", markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
