"""One walk-forward run from resolved settings to a finished run folder."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from data.sources import load_panel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data.atomic import write_atomically, write_text
from data.panel import FloatArray, InputError, Panel
from nas.baselines import BASELINES
from nas.engine import run_tasks
from nas.features import causal_volatility
from nas.ops import DEFAULT_OPS
from nas.search import SearchSettings
from nas.space import SearchSpace
from nas.stretches import Samples
from nas.tasks import Task, TaskResult, model_of
from nas.training import TrainingSettings
from nas.windows import Window, WindowPlan
from strategies.choice import net_returns, scaled_rule, sharpe, targets_of
from strategies.config import RunConfig, bars_of
from strategies.execution import Account, Backtest, Costs, backtest
from strategies.positions import PositionRule
from strategies.provenance import code_version, package_versions, run_id
from strategies.rules import RULES


@dataclass(frozen=True)
class Options:
    """How to run, as against what to run: nothing here changes a result."""

    out: Path = Path("reports")
    jobs: int | None = None
    fresh: bool = False
    dry_run: bool = False
    quiet: bool = False
    json: bool = False


@dataclass(frozen=True, eq=False)
class Candidate:
    """One finished task with what its window allows to know before the test stretch: threshold by validation Sharpe."""

    task: Task
    result: TaskResult
    scores: tuple[tuple[float, float], ...]  # (threshold, net Sharpe on the stop stretch)
    threshold: float

    @property
    def score(self) -> float:
        return max(s for _, s in self.scores)


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
    tasks = _tasks(config, space, windows)
    results = _run_all(tasks, samples, folder / "tasks", panel.fingerprint(), code, options, console)
    timings["search and training"] = time.perf_counter() - began

    began = time.perf_counter()
    with console.status("trading out of sample"):
        book = _trade(config, panel, windows, tasks, results)
    timings["backtests"] = time.perf_counter() - began
    _write(folder, config, panel, samples, windows, book, timings, code)

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
    purge = max(config.horizon) + 1 + space.receptive_field
    shape = WindowPlan(length["train"], length["validation"], length["test"], step, config.anchored)
    return shape.windows(len(panel), first=warmup_bars, purge_bars=purge)


def _show_plan(console: Console, panel: Panel, windows: tuple[Window, ...], samples: Samples) -> None:
    first, last = windows[0], windows[-1]
    day = lambda bar: str(panel.timestamps[min(bar, len(panel) - 1)])[:10]  # noqa: E731
    missing = f"; without {', '.join(samples.bank.missing)}" if samples.bank.missing else ""
    console.print(
        f"{'+'.join(panel.assets)}: {len(panel):,} bars {day(0)} to {day(len(panel))}, {len(samples.bank.names)} candidate "
        f"pipelines of {len(samples.bank.inputs)} inputs{missing}",
        markup=False,
    )
    console.print(
        f"{len(windows)} windows: train {first.train.stop - first.train.start}, validation "
        f"{first.validation.stop - first.validation.start}, test {first.test.stop - first.test.start} bars, purge {first.purge_bars}; "
        f"traded {day(first.test.start)} to {day(last.test.stop)}",
        markup=False,
    )


def _tasks(config: RunConfig, space: SearchSpace, windows: tuple[Window, ...]) -> list[Task]:
    search = SearchSettings(epochs=config.search_epochs)
    training = TrainingSettings(epochs=config.training_epochs)
    unknown = [name for name in config.baselines if name not in BASELINES]
    if unknown:
        raise InputError(f"no baseline network {unknown[0]!r}; there are {', '.join(BASELINES)}")
    tasks = []
    for window in windows:
        for seed in range(config.seed, config.seed + config.seeds):
            tasks += [Task("searched", window, variant, seed, space, search, training) for variant in config.variant]
        tasks += [Task("network", window, name, config.seed, space, search, training) for name in config.baselines]
    return tasks


def _run_all(
    tasks: list[Task], samples: Samples, store: Path, fingerprint: str, code: str, options: Options, console: Console
) -> list[TaskResult]:
    keys = [task.key(fingerprint, code) for task in tasks]
    jobs = options.jobs or os.cpu_count() or 1
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, disable=options.quiet or not console.is_terminal) as progress:
        bar = progress.add_task("searching and training", total=len(tasks))
        for _ in run_tasks(tasks, samples, store, keys, jobs=jobs, on_done=lambda _i, _cached: progress.advance(bar)):
            pass
    return [TaskResult.load(store / f"{key}.safetensors") for key in keys]


@dataclass(eq=False)
class Book:
    """Everything the run folder is written from."""

    backtests: dict[str, Backtest]
    forecasts: pd.DataFrame
    trials: pd.DataFrame
    trial_returns: pd.DataFrame
    chosen: list[Candidate]
    kinds: dict[str, dict[str, str]]
    headline: dict[str, dict[str, float]]


def _trade(
    config: RunConfig, panel: Panel, windows: tuple[Window, ...], tasks: list[Task], results: list[TaskResult]
) -> Book:
    volatility = causal_volatility(panel)
    start, stop = windows[0].test.start, windows[-1].test.stop
    costs = Costs(taker_fee_bps=config.taker_fee_bps, slippage_bps=config.slippage_bps)
    account = Account(initial_equity=config.initial_equity)
    base = PositionRule(target_volatility=config.target_volatility, max_leverage=config.max_leverage, no_trade_band=0.1)
    cost_bps = config.taker_fee_bps + config.slippage_bps
    shape = (stop - start, len(panel.assets))

    candidates = [
        _judge(config, panel, volatility, task, result, base, cost_bps)
        for task, result in zip(tasks, results, strict=True)
    ]
    targets: dict[str, FloatArray] = {}
    forecasts: dict[str, FloatArray] = {}
    chosen: list[Candidate] = []
    trial_rows: list[dict[str, Any]] = []
    chains: dict[str, FloatArray] = {}
    titles: dict[str, dict[str, str]] = {
        "searched": {
            "kind": "searched",
            "title": "Searched network",
            "description": "found by differentiable search on each window",
        }
    }
    for name in config.baselines:
        titles[name] = {"kind": "network", "title": BASELINES[name].title, "description": BASELINES[name].description}
    for name in ("searched", *config.baselines):
        targets[name], forecasts[name] = np.zeros(shape), np.full(shape, np.nan)
    for window in windows:
        mine = [c for c in candidates if c.task.window.number == window.number]
        searched = [c for c in mine if c.task.kind == "searched"]
        best = max(searched, key=lambda c: c.score)
        chosen.append(best)
        place = slice(window.test.start - start, window.test.stop - start)
        for candidate in mine:
            task = candidate.task
            name = "searched" if task.kind == "searched" else task.variant
            selected = candidate is best or task.kind == "network"
            for threshold, score in candidate.scores:
                rule = scaled_rule(base, candidate.result.stop_forecasts, threshold)
                book = targets_of(panel, candidate.result.test_forecasts, volatility, window.test.start, rule)
                key = f"{name}/{task.variant}/seed{task.seed}/threshold{threshold:g}"
                chains.setdefault(key, np.zeros(shape))[place] = book
                if selected and threshold == candidate.threshold:
                    targets[name][place], forecasts[name][place] = book, candidate.result.test_forecasts
                report = candidate.result.report
                trial_rows.append(
                    {
                        "trial": f"{key}/window{window.number}",
                        "window": window.number,
                        "strategy": name,
                        "kind": task.kind,
                        "variant": task.variant,
                        "architecture": report["architecture"],
                        "seed": task.seed,
                        "threshold": threshold,
                        "parameters": report["parameters"],
                        "validation_loss": report["validation_loss"],
                        "validation_correlation": report["validation_correlation"],
                        "validation_sharpe": score,
                        "selected": bool(selected and threshold == candidate.threshold),
                    }
                )
    for name in ("buy_and_hold", *[r for r in config.rules if r != "buy_and_hold"]):
        if name not in RULES:
            raise InputError(f"no rule {name!r}; there are {', '.join(RULES)}")
        rule_ = RULES[name]
        signal = np.stack([rule_.signal(panel, a, **rule_.parameters) for a in range(shape[1])], 1)[start:stop]
        if name == "buy_and_hold":
            targets[name] = signal / shape[1]
        else:
            targets[name] = targets_of(panel, signal, volatility, start, PositionRule(
                target_volatility=config.target_volatility, max_leverage=config.max_leverage, no_trade_band=0.1, forecast_scale=1.0
            ))  # fmt: skip
        titles[name] = {"kind": "rule", "title": rule_.title, "description": rule_.description}
    backtests = {
        name: backtest(panel, book, start=start, stop=stop, name=name, costs=costs, account=account)
        for name, book in targets.items()
    }
    days = pd.DatetimeIndex(panel.close_times[start:stop]).tz_localize("UTC").floor("D")
    trial_returns = (
        pd.DataFrame({key: net_returns(panel, book, start, cost_bps) for key, book in chains.items()})
        .groupby(days)
        .sum()
    )
    trial_returns.index.name = "timestamp"
    headline = {
        name: {
            "return": float(b.equity[-1] / b.equity[0] - 1.0),
            "sharpe": _daily_sharpe(b),
            "trades": int((b.trades["kind"] == "fill").sum()),
        }
        for name, b in backtests.items()
    }
    number = np.full(shape[0], -1)
    for window in windows:
        number[window.test.start - start : window.test.stop - start] = window.number
    table = _long(panel, start, stop, forecasts, "forecast")
    table["window"] = np.tile(np.repeat(number, shape[1]), len(forecasts)).astype(np.int32)
    return Book(backtests, table, pd.DataFrame(trial_rows), trial_returns, chosen, titles, headline)


def _judge(
    config: RunConfig,
    panel: Panel,
    volatility: FloatArray,
    task: Task,
    result: TaskResult,
    base: PositionRule,
    cost_bps: float,
) -> Candidate:
    scores = []
    for threshold in config.thresholds:
        rule = scaled_rule(base, result.stop_forecasts, threshold)
        book = targets_of(panel, result.stop_forecasts, volatility, task.window.stop.start, rule)
        scores.append(
            (threshold, sharpe(net_returns(panel, book, task.window.stop.start, cost_bps), panel.bars_per_year))
        )
    return Candidate(task, result, tuple(scores), max(scores, key=lambda item: item[1])[0])


def _daily_sharpe(result: Backtest) -> float:
    days = pd.DatetimeIndex(result.timestamps).floor("D")
    daily = pd.Series(result.equity).groupby(days).last().pct_change().dropna()
    deviation = float(daily.std())
    return 0.0 if len(daily) < 2 or deviation < 1e-12 else float(daily.mean() / deviation * np.sqrt(365))


def _long(panel: Panel, start: int, stop: int, columns: dict[str, FloatArray], value: str) -> pd.DataFrame:
    """strategy -> [n, asset] as one long table."""
    stamps = pd.DatetimeIndex(panel.timestamps[start:stop]).tz_localize("UTC")
    n, assets = stop - start, len(panel.assets)
    return pd.DataFrame(
        {
            "timestamp": np.tile(np.repeat(np.asarray(stamps), assets), len(columns)),
            "asset": list(panel.assets) * (n * len(columns)),
            "strategy": np.repeat(np.array(list(columns), dtype=object), n * assets),
            value: np.concatenate([array.ravel() for array in columns.values()]),
        }
    )


def _parquet(path: Path, frame: pd.DataFrame, index: bool = False) -> None:
    write_atomically(path, lambda file: frame.to_parquet(file, index=index))


def _write(
    folder: Path,
    config: RunConfig,
    panel: Panel,
    samples: Samples,
    windows: tuple[Window, ...],
    book: Book,
    timings: dict[str, float],
    code: str,
) -> None:
    first = next(iter(book.backtests.values()))
    start, stop = windows[0].test.start, windows[-1].test.stop
    stamps = pd.DatetimeIndex(first.timestamps)
    stamps = stamps if stamps.tz is not None else stamps.tz_localize("UTC")
    equity = pd.DataFrame({name: b.equity for name, b in book.backtests.items()}, index=stamps.rename("timestamp"))
    trades = pd.concat([b.trades for b in book.backtests.values()], ignore_index=True)
    _parquet(folder / "forecasts.parquet", book.forecasts)
    _parquet(
        folder / "positions.parquet",
        _long(panel, start, stop, {n: b.positions for n, b in book.backtests.items()}, "position"),
    )
    _parquet(folder / "equity.parquet", equity, index=True)
    _parquet(folder / "trades.parquet", trades)
    _parquet(folder / "trials.parquet", book.trials)
    _parquet(folder / "trial_returns.parquet", book.trial_returns, index=True)

    iso = lambda bar: str(pd.Timestamp(panel.timestamps[min(bar, len(panel) - 1)]).tz_localize("UTC").isoformat())  # noqa: E731
    span = lambda part: {"start": iso(part.start), "stop": iso(part.stop)}  # noqa: E731
    described = []
    for window, candidate in zip(windows, book.chosen, strict=True):
        report = candidate.result.report
        described.append(
            {
                "window": window.number,
                "train": span(window.train),
                "validation": span(window.validation),
                "test": span(window.test),
                "purge_bars": window.purge_bars,
                "policy": "every",
                "searched": True,
                "variant": candidate.task.variant,
                "seed": candidate.task.seed,
                "threshold": candidate.threshold,
                **{k: report[k] for k in ("genotype", "architecture", "text", "weights", "history", "features")},
                "diagnostics": {
                    k: report[k] for k in ("parameters", "receptive_field", "validation_loss", "validation_correlation")
                },
            }
        )
        spread = float(np.nanstd(candidate.result.stop_forecasts))
        extra = {
            "threshold": candidate.threshold,
            "horizons": list(config.horizon),
            "symbols": list(panel.assets),
            "code_version": code,
        }
        model_of(candidate.result, panel.interval_ns, spread, extra).save(folder / "models" / str(window.number))
        from reports.architecture import draw_genotype

        write_text(folder / "architectures" / f"{window.number}.svg", draw_genotype(report["genotype"]))
    write_text(folder / "windows.json", json.dumps(described, indent=1) + "\n")
    regimes = []
    if panel.regimes is not None:
        edges = [0, *(np.flatnonzero(np.diff(panel.regimes)) + 1).tolist(), len(panel)]
        for a, b in itertools.pairwise(edges):
            regimes.append({"start": iso(a), "stop": iso(b), "name": panel.regime_names[int(panel.regimes[a])]})
    run = {
        "run_id": folder.name,
        "command": "python -m strategies.walkforward " + " ".join(sys.argv[1:]),
        "config": config.model_dump(mode="json"),
        "provenance": {
            "source": panel.source,
            "simulated": panel.simulated,
            "symbols": list(panel.assets),
            "interval": config.interval,
            "start": iso(0),
            "end": str(pd.Timestamp(panel.close_times[-1]).tz_localize("UTC").isoformat()),
            "bars": len(panel),
            "data_fingerprint": panel.fingerprint(),
            "code_version": code,
            "packages": package_versions(),
            "notes": [*panel.notes, *(f"no {name}: left out" for name in samples.bank.missing)],
        },
        "regimes": regimes,
        "timings": {k: round(v, 2) for k, v in timings.items()},
        "headline": book.headline,
        "costs": {"taker_fee_bps": config.taker_fee_bps, "slippage_bps": config.slippage_bps},
        "strategies": book.kinds,
    }
    write_text(folder / "run.json", json.dumps(run, indent=1) + "\n")
