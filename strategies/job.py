"""One walk-forward run from resolved settings to a finished run folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data.panel import InputError, Panel
from data.sources import load_panel
from nas.baselines import BASELINES
from nas.engine import Engine, InProcess, Processes, Store
from nas.ops import DEFAULT_OPS
from nas.space import SearchSpace
from nas.stretches import Samples
from nas.tasks import TrainTask
from nas.windows import Window, WindowPlan, separation, timeline
from strategies.config import RunConfig, bars_of
from strategies.policies import Competition, PolicyOutcome
from strategies.provenance import code_version, run_id
from strategies.run_files import write_run
from strategies.trading import Contender, trade


@dataclass(frozen=True)
class Options:
    """How to run, as against what to run: nothing here changes a result."""

    out: Path = Path("reports")
    jobs: int | None = None
    fresh: bool = False
    dry_run: bool = False
    quiet: bool = False
    json: bool = False


def run_job(config: RunConfig, options: Options) -> Path:
    """Returns the run folder. Raises InputError for anything the user can mend; KeyboardInterrupt leaves finished tasks on disk."""
    console = Console(stderr=options.json, quiet=options.quiet)
    timings: dict[str, float] = {}
    began = time.perf_counter()
    panel = load_panel(
        config.symbol,
        config.interval,
        start=config.start,
        end=config.end,
        source=config.source,
        files=tuple(Path(p) for p in config.data),
        funding_files=tuple(Path(p) for p in config.funding),
        fill_gaps=config.fill_gaps,
        seed=config.seed,
        echo=lambda text: console.print(text, markup=False),
    )
    if panel.simulated:
        console.print(
            "[bold black on yellow] SIMULATED MARKET [/] no real prices: results show the machinery, not skill"
        )
    timings["data"] = time.perf_counter() - began

    began = time.perf_counter()
    samples = Samples.of(panel, config.horizon)
    timings["features"] = time.perf_counter() - began
    space = SearchSpace(
        ops=config.ops or DEFAULT_OPS,
        nodes=config.nodes,
        cells=config.cells,
        channels=config.channels,
        horizons=config.horizon,
    ).with_features(dict(zip(samples.bank.inputs, samples.bank.pipelines, strict=True)))
    windows = plan(config, panel, space, samples.bank.warmup_bars)
    _show_plan(console, panel, windows, samples)
    code = code_version()
    identity = {k: v for k, v in config.model_dump().items() if k not in ("data", "funding", "source")}
    folder = options.out / "runs" / run_id(panel.assets, identity, panel.fingerprint(), code)
    if options.dry_run:
        return folder
    if options.fresh and folder.exists():
        shutil.rmtree(folder)

    began = time.perf_counter()
    jobs = options.jobs or os.cpu_count() or 1
    store = Store(folder / "tasks", panel.fingerprint(), code)
    with Engine(InProcess(samples) if jobs == 1 else Processes(samples, jobs), store) as engine:
        outcomes, rivals = _compete(config, space, windows, samples, engine, console, options)
    timings["search and training"] = time.perf_counter() - began

    began = time.perf_counter()
    with console.status("trading out of sample"):
        book = trade(config, panel, windows, outcomes, rivals)
    timings["backtests"] = time.perf_counter() - began
    write_run(folder, config, panel, samples, windows, outcomes, book, timings, code)

    began = time.perf_counter()
    from reports.page import build_pages

    with console.status("writing pages"):
        page = build_pages(folder)
    timings["pages"] = time.perf_counter() - began
    headline = book.headline
    for name, figures in headline.items():
        console.print(
            f"  {name:<16} return {figures['return']:>8.1%}   Sharpe {figures['sharpe']:>6.2f}   trades {figures['trades']}"
        )
    if options.json:
        sys.stdout.write(json.dumps({"run": str(folder), "headline": headline}, sort_keys=True) + "\n")
    console.print("seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in timings.items()))
    console.print(f"page: {options.out / 'latest' / 'index.html'}", markup=False, soft_wrap=True)
    del page
    return folder


def plan(config: RunConfig, panel: Panel, space: SearchSpace, warmup_bars: int) -> tuple[Window, ...]:
    """The windows of a run. The purge covers the label's reach (horizon and the bar of the fill) and the receptive field."""
    length = {name: bars_of(getattr(config, name), panel.interval_ns, name) for name in ("train", "validation", "test")}
    step = bars_of(config.step, panel.interval_ns, "step") if config.step else length["test"]
    least = max(config.horizon) + 1 + space.receptive_field
    gaps = {}
    for name in ("purge", "embargo"):
        given = getattr(config, name)
        gaps[name] = separation(name, bars_of(given, panel.interval_ns, name) if given else None, least)
    shape = WindowPlan(length["train"], length["validation"], length["test"], step, config.anchored)
    return shape.windows(len(panel), first=warmup_bars, purge_bars=gaps["purge"], embargo_bars=gaps["embargo"])


def _show_plan(console: Console, panel: Panel, windows: tuple[Window, ...], samples: Samples) -> None:
    first, last = windows[0], windows[-1]

    def day(bar: int) -> str:
        return str(panel.timestamps[min(bar, len(panel) - 1)])[:10]

    missing = f"; without {', '.join(samples.bank.missing)}" if samples.bank.missing else ""
    console.print(
        f"{'+'.join(panel.assets)}: {len(panel):,} bars {day(0)} to {day(len(panel))}, {len(samples.bank.names)} candidate "
        f"pipelines of {len(samples.bank.inputs)} inputs{missing}",
        markup=False,
    )
    console.print(
        f"{len(windows)} windows: train {first.train.stop - first.train.start}, validation "
        f"{first.validation.stop - first.validation.start}, test {first.test.stop - first.test.start} bars, purge {first.purge_bars}, "
        f"embargo {first.embargo_bars}; traded {day(first.test.start)} to {day(last.test.stop)}",
        markup=False,
    )
    width = max(20, min(console.width, 110) - 8)
    shown = timeline(windows, len(panel), width)
    for position, (number, line) in enumerate(shown):
        if position and number != shown[position - 1][0] + 1:
            console.print("    ...")
        console.print(f"{number:>5}  {line}", markup=False, highlight=False, no_wrap=True)
    console.print("       - train   = validation   # test (unseen)", markup=False, highlight=False)


def _compete(
    config: RunConfig,
    space: SearchSpace,
    windows: tuple[Window, ...],
    samples: Samples,
    engine: Engine,
    console: Console,
    options: Options,
) -> tuple[list[PolicyOutcome], list[Contender]]:
    """Search and train for every policy, and train the hand-designed rivals on the same windows, seeds and budget."""
    unknown = [name for name in config.baselines if name not in BASELINES]
    if unknown:
        raise InputError(f"no baseline network {unknown[0]!r}; there are {', '.join(BASELINES)}")
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, disable=options.quiet or not console.is_terminal) as progress:
        bar = progress.add_task("searching and training", total=None)
        competition = Competition(config, space, windows, samples, engine, lambda: progress.advance(bar))
        rivals = [
            TrainTask(w, name, s, space, competition.training)
            for w in windows for s in competition.seeds for name in config.baselines
        ]  # fmt: skip
        progress.update(bar, total=competition.expected_tasks() + len(rivals))
        outcomes, fitted = competition.run(rivals)
    hand = [
        Contender(t.name, "network", t.window, t.name, t.seed, result) for t, result in zip(rivals, fitted, strict=True)
    ]
    return outcomes, hand
