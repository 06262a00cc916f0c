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
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data.atomic import write_text
from data.commandline import JSON_HELP, QUIET_HELP, application, command

if TYPE_CHECKING:
    from strategies.walkforward.config import RunConfig
    from strategies.walkforward.job import Headline, Job
    from strategies.walkforward.options import Options

PAGES_MARK = ".pages"  # holds the version of the code that wrote the pages; the last file of a run to appear
app = application()

MARKET, WINDOWS, SEARCH, TRADING = "Market", "Windows", "Search and training", "Positions, account and costs"
RIVALS, RUNNING, OUTPUT = "Rivals", "How to run", "What to write"


@command(
    app,
    "python -m strategies.walkforward --symbol BTCUSDT --preset quick",
    "python -m strategies.walkforward --data candles.parquet --funding funding.parquet",
    "python -m strategies.walkforward --preset thorough --print-config > run.toml",
    "python -m strategies.walkforward --config run.toml --seed 1",
    interrupted="interrupted: finished tasks are kept; the same command goes on from here",
)
def main(
    preset: Annotated[str | None, typer.Option(help="quick, default or thorough (default: default).")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any of these flags (fill_gaps = true) and settings.")
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", help="Print every setting as it would be used, as a file for --config, and stop."
        ),
    ] = False,
    quiet: Annotated[bool | None, typer.Option("--quiet", help=QUIET_HELP)] = None,
    json_: Annotated[bool | None, typer.Option("--json", help=JSON_HELP)] = None,
    symbol: Annotated[
        str | None, typer.Option(help="One symbol or several: BTCUSDT,ETHUSDT.", rich_help_panel=MARKET)
    ] = None,
    interval: Annotated[
        str | None, typer.Option(help="Bar length as Bybit names it: 1 5 15 30 60 240 D.", rich_help_panel=MARKET)
    ] = None,
    start: Annotated[str | None, typer.Option(help="First bar, UTC, e.g. 2023-01-01.", rich_help_panel=MARKET)] = None,
    end: Annotated[str | None, typer.Option(help="History ends before this time, UTC.", rich_help_panel=MARKET)] = None,
    source: Annotated[str | None, typer.Option(help="auto, bybit or simulated.", rich_help_panel=MARKET)] = None,
    category: Annotated[
        str | None,
        typer.Option(help="linear (perpetuals) or spot (no shorts, no funding, spot fees).", rich_help_panel=MARKET),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="CSV or Parquet candles instead of a source; one per symbol.", rich_help_panel=MARKET),
    ] = None,
    funding: Annotated[
        list[Path] | None, typer.Option(help="Funding settlements of the same symbols.", rich_help_panel=MARKET)
    ] = None,
    timeframes: Annotated[
        str | None,
        typer.Option(
            help="Longer candles the features may use: 240,D (each seen after its close).", rich_help_panel=MARKET
        ),
    ] = None,
    fill_gaps: Annotated[
        bool | None, typer.Option("--fill-gaps", help="Fill missing bars with the last close.", rich_help_panel=MARKET)
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="Training stretch, e.g. 180d or bars.", rich_help_panel=WINDOWS)
    ] = None,
    validation: Annotated[str | None, typer.Option(help="Validation stretch.", rich_help_panel=WINDOWS)] = None,
    test: Annotated[str | None, typer.Option(help="Unseen stretch that is traded.", rich_help_panel=WINDOWS)] = None,
    step: Annotated[
        str | None, typer.Option(help="How far each window moves (default: the test length).", rich_help_panel=WINDOWS)
    ] = None,
    purge: Annotated[
        str | None,
        typer.Option(
            help="Bars between train and validation (default: what labels and network reach).", rich_help_panel=WINDOWS
        ),
    ] = None,
    embargo: Annotated[
        str | None, typer.Option(help="Bars between validation and test (default: the purge).", rich_help_panel=WINDOWS)
    ] = None,
    anchored: Annotated[
        bool | None,
        typer.Option("--anchored", help="Every training stretch starts at the first bar.", rich_help_panel=WINDOWS),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="When to search again, several side by side: every, period:N, drift, never, frozen, random.",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    horizon: Annotated[
        str | None,
        typer.Option(help="Bars ahead that are forecast: 6 or 1,6,24; the first one trades.", rich_help_panel=SEARCH),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help="Search variants that compete (docs/variants.md); validation chooses.", rich_help_panel=SEARCH
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same data, same code: same bytes.", rich_help_panel=SEARCH)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Searches per window, the best by validation trades.", rich_help_panel=SEARCH)
    ] = None,
    ensemble: Annotated[
        bool | None,
        typer.Option(
            "--ensemble", help="Trade the mean forecast of the seeds instead of the best seed.", rich_help_panel=SEARCH
        ),
    ] = None,
    warm_start: Annotated[
        bool | None,
        typer.Option(
            "--warm-start", help="Each search starts from the last window's relaxed weights.", rich_help_panel=SEARCH
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Candidates for the inputs: default or full (a table of inputs: in a file).", rich_help_panel=SEARCH
        ),
    ] = None,
    ops: Annotated[
        str | None,
        typer.Option(
            help="Ops an edge may choose, e.g. identity,dense,ema12,attention (default: all of docs/variants.md).",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes of the cell.", rich_help_panel=SEARCH)] = None,
    cells: Annotated[int | None, typer.Option(help="Cells on top of each other.", rich_help_panel=SEARCH)] = None,
    channels: Annotated[int | None, typer.Option(help="Channels of the network.", rich_help_panel=SEARCH)] = None,
    share: Annotated[
        str | None,
        typer.Option(
            help="Several symbols: all weights shared, embedding (and a vector each), or none (time and memory squared).",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="huber, squared, direction or sharpe.", rich_help_panel=SEARCH)
    ] = None,
    search_epochs: Annotated[
        int | None, typer.Option(help="Passes of a search over its training stretch.", rich_help_panel=SEARCH)
    ] = None,
    search_fraction: Annotated[
        float | None,
        typer.Option(help="Share of the training stretches that a search epoch looks at.", rich_help_panel=SEARCH),
    ] = None,
    finalists: Annotated[
        int | None,
        typer.Option(
            help="Likeliest architectures of a search that are trained apart; validation chooses among them.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    training_epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training stretch when the found network is trained anew.", rich_help_panel=SEARCH
        ),
    ] = None,
    target_volatility: Annotated[
        float | None, typer.Option(help="Volatility a year that positions aim at: 0.3 is 30%.", rich_help_panel=TRADING)
    ] = None,
    max_leverage: Annotated[
        float | None, typer.Option(help="Most |position| of one asset, in equities.", rich_help_panel=TRADING)
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(
            help="Several symbols: equal_risk, volatility_target, long_short, mean_risk or hrp (docs/many-assets.md).",
            rich_help_panel=TRADING,
        ),
    ] = None,
    gross_limit: Annotated[
        float | None, typer.Option(help="Several symbols: most sum of |weights|, in equities.", rich_help_panel=TRADING)
    ] = None,
    net_limit: Annotated[
        float | None, typer.Option(help="Several symbols: most |sum of weights|, in equities.", rich_help_panel=TRADING)
    ] = None,
    turnover_penalty: Annotated[
        float | None,
        typer.Option(
            help="Several symbols: a weight stops this far before the wanted one, to trade less.",
            rich_help_panel=TRADING,
        ),
    ] = None,
    evidence: Annotated[
        float | None,
        typer.Option(
            help="How far beyond luck a plan's record must be to trade; 0: whatever earned anything, 1: what luck explains.",
            rich_help_panel=TRADING,
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            help="perpetual, cash (paid in full, no funding) or spot (the same, no shorts).", rich_help_panel=TRADING
        ),
    ] = None,
    account_leverage: Annotated[
        float | None, typer.Option(help="Most exposure of a perpetual account, in equities.", rich_help_panel=TRADING)
    ] = None,
    initial_equity: Annotated[
        float | None, typer.Option(help="Money at the start, in the quote currency.", rich_help_panel=TRADING)
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="market, limit or stop (docs/execution.md).", rich_help_panel=TRADING)
    ] = None,
    taker_fee_bps: Annotated[
        float | None, typer.Option(help="Taker fee in basis points of what is traded.", rich_help_panel=TRADING)
    ] = None,
    maker_fee_bps: Annotated[
        float | None, typer.Option(help="Maker fee in basis points.", rich_help_panel=TRADING)
    ] = None,
    fees: Annotated[
        str | None,
        typer.Option(
            help="Fees of single symbols, taker or taker/maker: BTCUSDT=4,SOLUSDT=10/4.", rich_help_panel=TRADING
        ),
    ] = None,
    slippage_bps: Annotated[
        float | None, typer.Option(help="Slippage in basis points.", rich_help_panel=TRADING)
    ] = None,
    slippage_model: Annotated[
        str | None, typer.Option(help="fixed, volatility or spread (docs/execution.md).", rich_help_panel=TRADING)
    ] = None,
    baselines: Annotated[
        str | None, typer.Option(help="all, none, or names of networks and rules.", rich_help_panel=RIVALS)
    ] = None,
    rules: Annotated[str | None, typer.Option(help="Trading rules to compete with.", rich_help_panel=RIVALS)] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes (default: all cores).", rich_help_panel=RUNNING)] = None,
    device: Annotated[
        str | None, typer.Option(help="Where networks are trained: cpu, cuda or auto.", rich_help_panel=RUNNING)
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Where tasks run: local (processes, the default) or ray.", rich_help_panel=RUNNING),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to use (default: one started on this machine).", rich_help_panel=RUNNING),
    ] = None,
    gpus_per_task: Annotated[
        float | None,
        typer.Option(help="Share of a GPU that each task holds on Ray (default: 0).", rich_help_panel=RUNNING),
    ] = None,
    fresh: Annotated[
        bool | None,
        typer.Option("--fresh", help="Forget what an earlier run of this command finished.", rich_help_panel=RUNNING),
    ] = None,
    dry_run: Annotated[
        bool | None,
        typer.Option(
            "--dry-run", help="Show the windows and the time it would take, and stop.", rich_help_panel=RUNNING
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for runs/, latest and index.html (default: reports).", rich_help_panel=OUTPUT),
    ] = None,
    pages: Annotated[
        bool | None,
        typer.Option(
            "--pages/--no-pages",
            help="Write the HTML pages (the default), or only the data files.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    profile: Annotated[
        bool | None, typer.Option("--profile", help="Seconds per stage, the slowest named.", rich_help_panel=OUTPUT)
    ] = None,
    tensorboard: Annotated[
        bool | None,
        typer.Option(
            "--tensorboard", help="Also write the searches for TensorBoard, while they run.", rich_help_panel=OUTPUT
        ),
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="Also log the run to this MLflow server or store.", rich_help_panel=OUTPUT)
    ] = None,
) -> None:
    """Search a network on every rolling window, trade it out of sample under costs, compare it with hand-designed rivals.

    Writes OUT/runs/<id>/index.html (OUT/latest points to it). The same command resumes an interrupted run.
    """
    given: dict[str, Any] = dict(locals())
    from data.settings_file import to_toml
    from strategies.walkforward.config import RunConfig, resolve_all
    from strategies.walkforward.options import Options, options_of

    how = [field.name for field in fields(Options)]
    flags = {name: value for name, value in given.items() if name in RunConfig.model_fields or name in how}
    flags["data"] = tuple(str(p) for p in data) if data else None
    flags["funding"] = tuple(str(p) for p in funding) if funding else None
    flags["json"] = json_
    settings, rest = resolve_all(preset, config, flags, how)
    options = options_of(rest)
    if print_config:
        sys.stdout.write(to_toml(settings.model_dump()) + to_toml(asdict(options)))
        return
    run_job(settings, options)


def run_job(config: RunConfig, options: Options) -> Path:
    """A run, then its pages and what other tools get of it; returns its folder.

    Raises InputError for anything the user can mend; KeyboardInterrupt leaves finished tasks on disk.
    """
    from strategies.walkforward.job import Job
    from strategies.walkforward.profile import keep_timings

    if options.mlflow is not None:  # what the end needs is asked for at the beginning
        from reports.export import mlflow_client

        mlflow_client(options.mlflow)
    job = Job.open(config, options)
    if options.dry_run:
        job.foresee()
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
            from reports.run_folder import link_latest

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
    from reports.live import live_tensorboard

    watch, folder = job.folder / "watch", job.folder / "tensorboard"
    with live_tensorboard(watch, folder):
        where = "when they are done (Ray)" if job.options.engine == "ray" else "while they run"
        job.console.print(f"searches {where}: tensorboard --logdir {folder}", markup=False, soft_wrap=True)
        yield watch
    shutil.rmtree(watch, ignore_errors=True)


def _write_pages(job: Job) -> None:
    """Pages and the link to them; left alone where this version of the code has written them already."""
    from reports.page import build_pages
    from reports.run_folder import link_latest
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
    from reports.export import log_mlflow, write_tensorboard
    from reports.run_folder import load_run

    run = load_run(job.folder)
    if options.tensorboard:
        console.print(f"tensorboard --logdir {write_tensorboard(run)}", markup=False, soft_wrap=True)
    if options.mlflow is not None:
        console.print(f"MLflow run {log_mlflow(run, options.mlflow)} at {options.mlflow}", markup=False, soft_wrap=True)


def _tell(job: Job, headline: Headline) -> None:
    """Figures of every strategy, where the time went, where the pages are."""
    from data.progress import console_of
    from strategies.walkforward.profile import profile

    options, console = job.options, job.console
    result = console_of(options.json)  # also where progress is not wanted
    width = max(map(len, headline), default=0)
    for name, figures in headline.items():
        result.print(
            f"  {name:<{width}}  return {figures['return']:>8.1%}   Sharpe {figures['sharpe']:>6.2f}   trades {figures['trades']}",
            markup=False,
        )
    if options.json:
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
