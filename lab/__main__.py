"""`python -m lab`: the commands of the evidence lab. Each goes on where it was stopped and prints its verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from data.atomic import write_text
from data.commandline import Json, Quiet, application, command
from data.panel import InputError, Panel
from data.progress import console_of
from lab.units import Record, Result, Unit

KEPT = "interrupted: finished units are kept; the same command goes on from here"
app = application(no_args_is_help=True)
STORE = Path("reports/lab")

Store = Annotated[Path, typer.Option(help="Folder of finished units; a killed command goes on from them.")]
Minutes = Annotated[float, typer.Option(help="Start no further unit after so many minutes.")]


@app.callback()
def lab() -> None:
    """The evidence lab: does the search work, and does the pipeline fool itself?"""


@command(app, "python -m lab null --seeds 2 --minutes 30", interrupted=KEPT)
def null(
    data: Annotated[list[Path] | None, typer.Option(help="Hourly candles to permute; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(help="Markets of each kind.", min=1)] = 40,
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """The whole walk-forward on markets without signal: simulated GARCH and, with --data, real candles with permuted days."""
    from lab import null as experiment  # start-up time

    histories = histories_of(data)
    wanted = experiment.units(seeds, experiment.MARKETS if histories else ("garch",))
    _run("null", wanted, lambda unit: experiment.compute(unit, histories), store, minutes, quiet, json_)


@command(app, "python -m lab forecast --csv ETTh1.csv --horizon 96", interrupted=KEPT)
def forecast(
    csv: Annotated[list[Path], typer.Option(help="Table with one row a time step (gzipped or not); repeatable.")],
    horizon: Annotated[str, typer.Option(help="Steps ahead, comma separated.")] = "96,192,336,720",
    seeds: Annotated[int, typer.Option(help="Searches per table and horizon.", min=1)] = 3,
    variant: Annotated[
        str, typer.Option(help="Search variants, comma separated; validation chooses what joins the mean.")
    ] = "pt",
    period: Annotated[
        int, typer.Option(help="Steps of the season; the lookback of 336 is a multiple of it.", min=1)
    ] = 24,
    first_seed: Annotated[int, typer.Option(help="The first of them.", min=0)] = 0,
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """The search as a general forecaster: the long-horizon protocol beside the published errors of others."""
    from lab import forecast as experiment  # start-up time

    steps = _numbers("--horizon", horizon, "96,192")
    tables = {table.name: table for table in map(experiment.load, csv)}
    wanted = [
        unit for table in tables.values() for unit in experiment.units(table, steps, seeds, variant, period, first_seed)
    ]
    wanted.sort(key=lambda unit: unit.settings["seed"])
    _run(
        "forecast",
        wanted,
        lambda unit: experiment.compute(unit, tables[unit.settings["data"]]),
        store,
        minutes,
        quiet,
        json_,
    )


@command(app, "python -m lab search-vs-random --seeds 2", name="search-vs-random", interrupted=KEPT)
def search_vs_random(
    data: Annotated[list[Path] | None, typer.Option(help="Hourly candles for the real stretches; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(help="Problems of each kind.", min=1)] = 20,
    randoms: Annotated[int, typer.Option(help="Random architectures per problem.", min=2)] = 20,
    finalists: Annotated[str, typer.Option(help="Sizes of the last round to try, comma separated.")] = "3,5,8",
    ways: Annotated[str, typer.Option(help="Ways of searching, separated by semicolons (default: all).")] = "",
    space: Annotated[str, typer.Option(help="large, the presets' space, or small, theirs of before.")] = "large",
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Searched against random architectures, trained alike: planted tasks and, with --data, stretches of real candles."""
    from lab import comparison as experiment  # start-up time
    from lab.tasks import SPACES  # start-up time

    sizes = _numbers("--finalists", finalists, "3,5,8")
    histories = histories_of(data)
    markets = tuple(name for name in experiment.MARKETS if histories or name != "real")
    asked = _words(ways, ";") or tuple(experiment.WAYS)
    _check_known("--ways", asked, experiment.WAYS)
    _check_known("--space", (space,), SPACES)
    wanted = experiment.units(seeds, randoms, markets, asked, sizes, space)
    _run(
        "search-vs-random" if space == "large" else "search-vs-random-small",
        wanted,
        lambda unit: experiment.compute(unit, histories),
        store,
        minutes,
        quiet,
        json_,
        histories,
    )


@command(app, "python -m lab decisions --seeds 1 --presets quick", interrupted=KEPT)
def decisions(
    seeds: Annotated[int, typer.Option(help="Problems of each kind.", min=1)] = 20,
    first_seed: Annotated[int, typer.Option(help="Number of the first problem.", min=0)] = 0,
    presets: Annotated[str, typer.Option(help="Whose searches, comma separated.")] = "quick,default",
    kinds: Annotated[str, typer.Option(help="one edge, cell, noise; comma separated.")] = "one edge,cell,noise",
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Do searches of one window decide alike, and do they say so where nothing is to be decided?"""
    from lab import decisions as experiment  # start-up time

    _check_known("--presets", presets.split(","), experiment.PRESETS)
    _check_known("--kinds", kinds.split(","), experiment.KINDS)
    wanted = experiment.units(seeds, presets.split(","), kinds.split(","), first_seed)
    _run("decisions", wanted, experiment.compute, store, minutes, quiet, json_)


@command(app, "python -m lab ranks --seeds 1 --cells 12", interrupted=KEPT)
def ranks(
    data: Annotated[list[Path] | None, typer.Option(help="Hourly candles for real stretches; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(help="Problems of each kind.", min=1)] = 4,
    cells: Annotated[int, typer.Option(help="Random cells per problem.", min=3)] = 24,
    variants: Annotated[str, typer.Option(help="Whose supernets, comma separated.")] = "darts,gdas,random-ws",
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Does a supernet rank cells as their own trainings do (Kendall's tau), and do trainings of other settings agree?"""
    # start-up time
    from lab import ranks as experiment
    from lab.comparison import MARKETS
    from nas.search.variants import get_variant

    histories = histories_of(data)
    asked = _words(variants)
    for name in asked:
        if get_variant(name).scratch:
            raise InputError(f"--variants {name} has no supernet that could rank anything; leave it out")
    markets = tuple(name for name in MARKETS if histories or name != "real")
    wanted = experiment.units(seeds, cells, markets, asked)
    _run("ranks", wanted, lambda unit: experiment.compute(unit, histories), store, minutes, quiet, json_, histories)


@command(app, "python -m lab power --seeds 2 --minutes 30", interrupted=KEPT)
def power(
    seeds: Annotated[int, typer.Option(help="Tasks of each strength.", min=1)] = 20,
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Detection curve: planted signals of rising strength for search, hand-designed networks and random architectures."""
    from lab import power as experiment  # start-up time

    _run("power", experiment.units(seeds), experiment.compute, store, minutes, quiet, json_)


@command(app, "python -m lab risk --data BTCUSDT_1h.parquet --seeds 2", interrupted=KEPT)
def risk(
    data: Annotated[list[Path], typer.Option(help="Candles, any symbols, years and bar lengths; repeatable.")],
    seeds: Annotated[int, typer.Option(help="Test stretches that do not overlap.", min=1)] = 20,
    per_stretch: Annotated[int, typer.Option(help="Files judged on each stretch.", min=1)] = 1,
    target: Annotated[
        str, typer.Option(help="Targets and bars ahead: range:6,volume:24 (range, volatility, volume, drawdown).")
    ] = "range:6,volume:24",
    days: Annotated[str, typer.Option(help="Days to learn from, to validate, unseen.")] = "150,50,30",
    arms: Annotated[str, typer.Option(help="all, or goals: only what the goals compare, a third of the time.")] = "all",
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Risk and activity: networks on top of a closed form against forecasts by hand, and searching against drawing."""
    from lab import risk as experiment  # start-up time

    lengths = _numbers("--days", days, "150,50,30")
    if len(lengths) != 3 or min(lengths) < 1:
        raise InputError(f"--days {days!r} is not three numbers of days: give e.g. 150,50,30")
    histories = histories_of(data, None)
    pairs = experiment.targets_of(target)
    wanted = experiment.units(histories, seeds, per_stretch, pairs, (lengths[0], lengths[1], lengths[2]), arms)
    _run("risk", wanted, lambda unit: experiment.compute(unit, histories), store, minutes, quiet, json_, histories)


@command(app, "python -m lab verdict --seeds 200 --looks 1,20")
def verdict(
    data: Annotated[
        list[Path] | None, typer.Option(help="Candles whose days are drawn in random order and signs; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Markets.", min=1)] = 400,
    first_seed: Annotated[int, typer.Option(help="Number of the first market.", min=0)] = 0,
    days: Annotated[int, typer.Option(help="Unseen days.", min=20)] = 730,
    looks: Annotated[str, typer.Option(help="Looks at the same days, comma separated.")] = "1,20,100",
    sharpe: Annotated[str, typer.Option(help="True annual Sharpe ratios of the strategies, comma separated.")] = "0,2",
    correlation: Annotated[
        float, typer.Option(help="Of strategies and rivals with each other.", min=0.0, max=0.99)
    ] = 0.44,
    rivals: Annotated[int, typer.Option(help="Rivals without skill; the best one counts.", min=1)] = 2,
    json_: Json = False,
) -> None:
    """Size and power of the verdict: how often does it say `beat` where there is nothing, and where there is something?"""
    from lab import verdict as experiment  # start-up time

    strengths = [float(part) for part in sharpe.split(",") if part.strip()]
    markets = {"garch": None} | {"+".join(h.assets): experiment.daily_of(h) for h in histories_of(data, None)}
    rows = [
        {"market": name, "sharpe": strength, "looks": count, **experiment.beats(
            range(first_seed, first_seed + seeds), days, count, strength, correlation, rivals, daily)}
        for name, daily in markets.items() for strength in strengths for count in _numbers("--looks", looks, "1,20,100")
    ]  # fmt: skip
    _shown(rows, json_)


@command(app, "python -m lab bar --runs 50 --steps 7,30 --plans 12")
def bar(
    runs: Annotated[int, typer.Option(help="Markets per line.", min=1)] = 200,
    first_seed: Annotated[int, typer.Option(help="Number of the first market.", min=0)] = 0,
    steps: Annotated[str, typer.Option(help="Days from window to window, comma separated.")] = "1,7,14,30,60",
    plans: Annotated[str, typer.Option(help="Plans to choose among, comma separated.")] = "1,12,60",
    days: Annotated[int, typer.Option(help="Days of a run.", min=100)] = 720,
    json_: Json = False,
) -> None:
    """The bar of evidence: what share of windows trades where no plan has skill? It is to be 10%."""
    from lab import verdict as experiment  # start-up time

    rows = [
        {"step_days": step, "plans": count, "traded": experiment.traded_share(step, count, runs, days, first_seed)}
        for step in _numbers("--steps", steps, "7,30")
        for count in _numbers("--plans", plans, "1,12")
    ]
    _shown(rows, json_)


@command(app, "python -m lab timing --seeds 20 --draws 100")
def timing(
    seeds: Annotated[int, typer.Option(help="Markets.", min=5)] = 200,
    first_seed: Annotated[int, typer.Option(help="Number of the first market.", min=0)] = 0,
    days: Annotated[int, typer.Option(help="Days of a market, in hourly bars.", min=20)] = 120,
    draws: Annotated[int, typer.Option(help="Random timings of each.", min=20)] = 200,
    json_: Json = False,
) -> None:
    """The timing null where timing is chance: are its p-values uniform (Kolmogorov-Smirnov)?"""
    from scipy.stats import kstest  # start-up time

    from lab import verdict as experiment

    found = experiment.timing_lucks(range(first_seed, first_seed + seeds), days, draws)
    told = {"markets": seeds, "mean_p": float(found.mean()), "p_below_5%": float((found <= 0.05).mean())}
    _shown([{**told, "ks_p": float(kstest(found, "uniform").pvalue)}], json_)


@command(app, "python -m lab court --seeds 40")
def court(
    data: Annotated[list[Path] | None, typer.Option(help="Candles instead of simulated markets; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(help="Files of each kind.", min=1)] = 40,
    first_seed: Annotated[int, typer.Option(help="Number of the first file.", min=0)] = 0,
    bars: Annotated[int, typer.Option(help="Hourly bars of a simulated market.", min=2_000)] = 12_000,
    json_: Json = False,
) -> None:
    """The leak court: how many planted leaks are found in files of forecasts, and how many clean files are convicted?"""
    from lab import court as experiment  # start-up time

    _shown(
        experiment.measured(range(first_seed, first_seed + seeds), bars, histories_of(data, None) if data else ()),
        json_,
    )


@command(app, "python -m lab noise --seeds 200 --minutes 30", interrupted=KEPT)
def noise(
    data: Annotated[list[Path] | None, typer.Option(help="Hourly candles to permute; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(help="Files.", min=1)] = 200,
    first_seed: Annotated[int, typer.Option(help="Number of the first file.", min=0)] = 0,
    days: Annotated[int, typer.Option(help="Unseen days.", min=60)] = 365,
    models: Annotated[str, typer.Option(help="Noises in one file, comma separated; the best one counts.")] = "1",
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Forecasts that know nothing before the judge: how often does the page say that they beat the best rival?"""
    from lab import noise as experiment  # start-up time
    from lab.units import complete
    from strategies.walkforward.provenance import code_version

    histories = histories_of(data)
    wanted = experiment.units(
        range(first_seed, first_seed + seeds), days, _numbers("--models", models, "1,10"), bool(histories)
    )
    found = complete(
        store / "noise",
        wanted,
        lambda unit: experiment.compute(unit, histories),
        console_of(json_, quiet),
        code_version(),
        minutes,
    )
    if found:
        _shown(experiment.rows(found), json_)


@command(app, "python -m lab leaks --seeds 3")
def leaks(
    seeds: Annotated[int, typer.Option(help="Markets of each kind.", min=1)] = 40,
    first_seed: Annotated[int, typer.Option(help="Number of the first market.", min=0)] = 0,
    noise: Annotated[str, typer.Option(help="On the bar that is read early, in its spreads, in turn.")] = "0,0.5,1",
    json_: Json = False,
) -> None:
    """The lead-lag curve of trained networks: does it tell an input that reads one bar ahead from a planted signal?"""
    from lab import sheet as experiment  # start-up time

    noises = [float(part) for part in noise.split(",") if part.strip()] or [0.0]
    rows = []
    for leaking in (True, False):
        found = [experiment.leaks(seed, leaking, noises) for seed in range(first_seed, first_seed + seeds)]
        curve = {f"mean_{name}": sum(float(each[name] or 0.0) for each in found) / seeds for name in ("lag_1", "lag_2")}
        told = sum(each["leak_at"] is not None for each in found)
        rows.append({"planted": "leak" if leaking else "skill", "markets": seeds, "called_a_leak": told, **curve})
    _shown(rows, json_)


@command(app, "python -m lab importance --seeds 3 --days 30")
def importance(
    seeds: Annotated[int, typer.Option(help="Problems.", min=1)] = 100,
    first_seed: Annotated[int, typer.Option(help="Number of the first problem.", min=0)] = 0,
    strength: Annotated[
        float, typer.Option(help="Share of the label's variance that is planted.", min=0, max=1)
    ] = 0.02,
    days: Annotated[int, typer.Option(help="Unseen days, of hourly bars.", min=5)] = 60,
    json_: Json = False,
) -> None:
    """Importance by permutation: is the planted input first, and do the intervals of noise inputs hold 0?"""
    from lab import sheet as experiment  # start-up time

    found = [experiment.importances(seed, strength, days) for seed in range(first_seed, first_seed + seeds)]
    total = {name: sum(float(each[name]) for each in found) for name in found[0]}
    told = {"planted_first": total["first"] / seeds, "its_interval_above_0": total["above_zero"] / seeds}
    _shown([{"problems": seeds, **told, "noise_intervals_hold_0": total["noise_holds"] / total["noise"]}], json_)


@command(app, "python -m lab cpcv --seeds 2")
def cpcv(
    seeds: Annotated[int, typer.Option(help="Markets.", min=2)] = 20,
    first_seed: Annotated[int, typer.Option(help="Number of the first market.", min=0)] = 0,
    paths: Annotated[int, typer.Option(help="Of the nine of a market; five searches each.", min=1, max=9)] = 9,
    json_: Json = False,
) -> None:
    """Cross-validated paths (45 searches a market) where there is no signal: is the median Sharpe ratio before costs zero?"""
    from lab import cpcv as experiment  # start-up time

    markets = [experiment.paths(seed, paths) for seed in range(first_seed, first_seed + seeds)]
    _shown([{"markets": seeds, "paths": sum(map(len, markets)), **experiment.medians(markets)}], json_)


def _shown(rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Figures as a table."""
    from lab.verdict import table  # start-up time

    if as_json:
        typer.echo(json.dumps({"rows": rows}))
        return
    told = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    typer.echo(table(told, [name.replace("_", " ") for name in rows[0]]))


@command(app, "python -m lab kinds --data BTCUSDT_1h.parquet", interrupted=KEPT)
def kinds(
    data: Annotated[list[Path], typer.Option(help="Candles, any symbols, years and bar lengths; repeatable.")],
    target: Annotated[str, typer.Option(help="Target and bars ahead.")] = "range:6",
    group: Annotated[int, typer.Option(help="Files that pool their evidence.", min=1)] = 4,
    forecast: Annotated[int, typer.Option(help="Groups whose networks are fitted as they ship, too.", min=0)] = 1,
    kinds_: Annotated[
        str, typer.Option("--kinds", help="Of nas.space.kinds, comma separated.")
    ] = "stack,ladder,convolutions,small",
    lesser: Annotated[str, typer.Option(help="The kinds of one family; the others are the other.")] = "small",
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Kinds of architectures: whether evidence pooled over windows and files decides between them, and whether that pays."""
    from lab import kinds as experiment  # start-up time
    from lab.risk import targets_of

    histories = histories_of(data, None)
    every, behind = _words(kinds_), _words(lesser)
    wanted = [
        u for t, h in targets_of(target) for u in experiment.units(histories, t, h, group, forecast, every, behind)
    ]
    _run("kinds", wanted, lambda unit: experiment.compute(unit, histories), store, minutes, quiet, json_, histories)


@command(
    app, "python -m lab pooled --data BTCUSDT_1h.parquet --data ETHUSDT_1h.parquet --stretches 1", interrupted=KEPT
)
def pooled(
    data: Annotated[list[Path], typer.Option(help="Candles of several symbols, of the same years; repeatable.")],
    stretches: Annotated[int, typer.Option(help="Test stretches that do not overlap.", min=1)] = 10,
    target: Annotated[str, typer.Option(help="Targets and bars ahead.")] = "range:6,volume:24",
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Many coins: one network for all of them against a network of its own for each, on top of the closed form of each."""
    from lab import pooled as experiment  # start-up time
    from lab.risk import targets_of

    histories = histories_of(data, None)
    wanted = [u for name, horizon in targets_of(target) for u in experiment.units(histories, name, horizon, stretches)]
    _run("pooled", wanted, lambda unit: experiment.compute(unit, histories), store, minutes, quiet, json_)


@command(app, "python -m lab tabular --minutes 0.1", interrupted=KEPT)
def tabular(
    csv: Annotated[list[Path] | None, typer.Option(help="ETTh1.csv, ETTh2.csv: a task each; repeatable.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Hourly candles of BTCUSDT: two tasks.")] = None,
    out: Annotated[Path, typer.Option(help="The table to write.")] = Path("tabular.parquet"),
    again: Annotated[int, typer.Option(help="Train so many entries of the table once more: the same bits?", min=0)] = 0,
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Make the tabular benchmark (docs/benchmark.md): every cell of a small space, trained on every task; hours."""
    from lab import tabular_maker as maker  # start-up time
    from lab.units import complete
    from strategies.walkforward.provenance import code_version

    histories = histories_of(data)
    tasks = maker.problems(csv or [], histories)
    wanted, console = maker.units(tasks), console_of(json_, quiet)
    found = complete(
        store / "tabular", wanted, lambda unit: maker.compute(unit, tasks), console, code_version(), minutes
    )
    told: dict[str, object] = {"finished": len(found), "wanted": len(wanted)}
    told["core_hours"] = sum(sum(record.result["seconds"]) for record in found) / 3_600.0
    if maker.whole(found, tasks):
        table = maker.pack(found, tasks, out)
        for line in looked("tabular", found, histories):
            console.print(line, markup=False)
        told |= {
            "networks": len(table.names),
            "cells": len(table.row),
            "tasks": len(table.tasks),
            "megabytes": out.stat().st_size / 1e6,
        }
        if again:
            told |= {"trained_again": again, "other_bits": maker.differing(table, tasks, again)}
    _shown([told], json_)


@command(app, "python -m lab tabular-searches --seeds 1 --minutes 0.1", name="tabular-searches", interrupted=KEPT)
def tabular_searches(
    csv: Annotated[list[Path] | None, typer.Option(help="As of `lab tabular`.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="As of `lab tabular`.")] = None,
    seeds: Annotated[int, typer.Option(help="Searches of each variant on each task.", min=1)] = 20,
    epochs: Annotated[int, typer.Option(help="Of a search.", min=1)] = 9,
    store: Store = STORE,
    minutes: Minutes = 1e9,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Every --variant on the space of the tabular benchmark, and what its search cost in trainings."""
    from lab import tabular_searches as experiment  # start-up time
    from lab.tabular_maker import problems
    from lab.units import complete
    from strategies.walkforward.provenance import code_version

    histories = histories_of(data)
    tasks = problems(csv or [], histories)
    wanted, console = experiment.units(tasks, seeds, epochs), console_of(json_, quiet)
    found = complete(
        store / "tabular-searches", wanted, lambda u: experiment.compute(u, tasks), console, code_version(), minutes
    )
    for line in looked("tabular-searches", found, histories):
        console.print(line, markup=False)
    _shown([{"finished": len(found), "wanted": len(wanted)}], json_)


@command(app, "python -m lab rivals --runs 2 --budget 30")
def rivals(
    runs: Annotated[int, typer.Option(help="Of each rival on each task.", min=1)] = 20,
    budget: Annotated[int, typer.Option(help="Trainings that a rival may pay for.", min=2)] = 150,
    out: Annotated[Path | None, typer.Option(help="JSON to write, of which docs/benchmark.md tells.")] = None,
    store: Store = STORE,
    json_: Json = False,
) -> None:
    """Regret of rivals and variants on the tabular benchmark; nothing is trained. Variants: what `lab tabular-searches` left."""
    from lab.rivals_table import gathered, markdown  # start-up time
    from lab.tabular import Tabular
    from lab.units import records

    found = gathered(Tabular.load(), records(store / "tabular-searches"), runs, budget)
    if out is not None:
        write_text(out, json.dumps(found, sort_keys=True) + "\n")
    typer.echo(json.dumps(found) if json_ else markdown(found))


@command(app, "python -m lab evidence", interrupted=KEPT)
def evidence(
    store: Store = STORE,
    folder: Annotated[Path, typer.Option(help="Folder of the committed results, one file per experiment.")] = Path(
        "docs/evidence"
    ),
    page: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/evidence.md"),
) -> None:
    """Pack finished units into the committed result files and write the page from those files."""
    from lab import evidence as experiment  # start-up time

    written = experiment.collect(store, folder)
    if not any(folder.glob("*.json")):
        raise InputError(f"neither --store {store} nor --folder {folder} holds a result; run an experiment first")
    write_text(page, experiment.page(folder))
    typer.echo(f"{page} from {', '.join(path.name for path in sorted(folder.glob('*.json')))}; new: {len(written)}")


def _run(
    name: str,
    wanted: Sequence[Unit],
    compute: Callable[[Unit], Result],
    store: Path,
    minutes: float,
    quiet: bool,
    as_json: bool,
    shown: Sequence[Panel] = (),
) -> None:
    """Compute what is missing; then verdict and table of what is finished. shown: histories whose own unseen bars the figures are of."""
    # start-up time: `--help` needs no torch
    from lab.evidence import EXPERIMENTS
    from lab.units import complete
    from strategies.walkforward.provenance import code_version

    found = complete(store / name, wanted, compute, console_of(as_json, quiet), code_version(), minutes)
    verdict, body = EXPERIMENTS[name][2](found) if found else ("", "")
    if as_json:
        looked(name, found, shown)
        told = {"experiment": name, "finished": len(found), "wanted": len(wanted), "verdict": verdict, "table": body}
        typer.echo(json.dumps(told))
        return
    if not found:
        typer.echo("no unit is finished yet")
        return
    for line in looked(name, found, shown):
        typer.echo(line)
    typer.echo(body + "\n")
    typer.echo(f"{len(found)} of {len(wanted)} units are finished. {verdict}")


def looked(name: str, found: Sequence[Record], histories: Sequence[Panel]) -> list[str]:
    """A look at each real history, in the register (`strategies.walkforward.looks`): the same units are the same look. A line each."""
    from strategies.walkforward.looks import Register, Stretch  # start-up time

    said = []
    for history in histories if found else ():
        units = sorted(f"{record.name} {json.dumps(record.settings, sort_keys=True, default=str)}" for record in found)
        look = f"lab-{name}-{hashlib.sha256(chr(10).join(units).encode()).hexdigest()[:16]}"
        first, last = (str(history.close_times[k])[:19] for k in (0, -1))
        stretch = Stretch.of(history.assets, history.simulated, history.fingerprint(), first, last)
        told = Register().enter(f"lab {name}", look, stretch, history.fingerprint(), found[0].code, {})
        said.append(f"{'+'.join(history.assets)}: {told.told}")
    return said


def _words(text: str, between: str = ",") -> tuple[str, ...]:
    """The parts of a list."""
    return tuple(part.strip() for part in text.split(between) if part.strip())


def _check_known(option: str, names: Sequence[str], known: Collection[str]) -> None:
    """InputError for the first name that is not known."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"{option} {unknown[0]!r} is unknown; there are {', '.join(known)}")


def _numbers(option: str, text: str, example: str) -> tuple[int, ...]:
    """Whole numbers, comma separated."""
    found = tuple(int(part) for part in text.split(",") if part.strip().isdigit())
    if len(found) != len(text.split(",")):
        raise InputError(f"{option} {text!r} is no list of whole numbers: give e.g. {example}")
    return found


def histories_of(data: list[Path] | None, interval: str | None = "60") -> list[Panel]:
    """Candle files, each named after its symbol: BTCUSDT_1h.parquet. interval: None for the files' own."""
    from data.sources import load_panel  # start-up time

    return [load_panel((path.name.split("_")[0].split(".")[0],), interval, files=(path,)) for path in data or []]


if __name__ == "__main__":
    app(prog_name="python -m lab")
