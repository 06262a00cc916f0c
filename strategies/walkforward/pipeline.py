"""The stages of a run: windows, searches and trainings on an engine, trading, the files. `walkforward.job` opens and closes it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data.atomic import write_text
from data.errors import InputError, nearest
from data.panel import FloatArray, Panel
from nas.baselines import BASELINES
from nas.baselines.own import baseline_of, is_own
from nas.network.stretches import Samples
from nas.search.variants import get_variant
from nas.space.ops import ACROSS_OPS, DEFAULT_OPS
from nas.space.search_space import SearchSpace
from nas.targets import Scale
from nas.tasks.engine import Engine, InProcess, Processes, Store, Workers
from nas.tasks.stacks import MOST, Stacks
from nas.tasks.windows import Window, WindowPlan, rehearsals, separation, timeline
from nas.tasks.work import SearchTask, TrainTask, run_task
from strategies.backtest.rules import RULES
from strategies.backtest.terms import Costs
from strategies.backtest.timing import timing_luck
from strategies.walkforward import cpcv
from strategies.walkforward.choice import Choice
from strategies.walkforward.config import RunConfig, bars_of
from strategies.walkforward.contenders import CROSS_VALIDATION, Candidate, Contender, PolicyOutcome
from strategies.walkforward.coverage import charged_funding, unknown_inputs
from strategies.walkforward.cpcv import CrossValidation
from strategies.walkforward.fitting import Reach, fitting_space, left_out
from strategies.walkforward.forecast_files import read_forecasts
from strategies.walkforward.forecast_sheet import importances, sheets
from strategies.walkforward.judged import KIND, Judged, check_covered, distinct
from strategies.walkforward.looks import Register, Stretch
from strategies.walkforward.options import Options
from strategies.walkforward.policies import Competition
from strategies.walkforward.risk import RiskRun, directional, kinds_tasks_of, least_gap, notes_of, tasks_of, wanted_of
from strategies.walkforward.run_files import Finished, claimed, write_run
from strategies.walkforward.trading import (
    REGARDLESS,
    Book,
    asked_for_record,
    portfolio_of,
    position_rule,
    trade,
    trading_terms,
)

TIMINGS = 2_000  # of the timing null
SEARCHED = "searched"
NO_REHEARSAL = (
    "no rehearsal: the first window has too few training bars for a smaller walk-forward inside them, so nothing trades it "
    "(--evidence 1 asks for no record)"
)
WORKER_START_S = 4.0  # a worker process loads torch and the compiled kernels
FEW_EPOCHS = 6  # of a task that is timed: the supernet is diagnosed every fifth epoch and after the last


class Pipeline:
    """One run on a loaded panel, up to its files (pages come after). timings: seconds per stage. book: what `run` traded."""

    book: Book

    def __init__(
        self, config: RunConfig, options: Options, panel: Panel, code: str, console: Console, timings: dict[str, float]
    ) -> None:
        self.config = config = with_rivals(config)
        self.options = options
        self.panel = panel
        self.code = code
        self.console = console
        self.timings = timings
        self.worker_mib = 0.0  # peak memory of the largest process that computed tasks for this one
        began = time.perf_counter()
        reach = Reach.of(config, panel)
        wanted_of(config)
        self.scale = Scale.fit(panel, config.volatility)
        scaled = self.scale.volatility(panel)
        learns = config.searches or bool(config.baselines) or not directional(config)
        # forecasts that are given read no inputs: one is enough for the plan
        inputs = config.features if learns else {"return": ("raw",)}
        self.samples = Samples.of(panel, config.horizon, inputs, reach.memory_bars, scaled)
        timings["features"] = time.perf_counter() - began
        bank = self.samples.bank
        space = self._whole_space(learns)
        self.space, self.said = fitting_space(config, space, reach)
        if bank.longer:
            self.said.append(left_out(bank.longer, reach))
        self.windows = plan(config, panel, self.space, bank.warmup_bars)
        self.said += notes_of(config, panel, self.windows)
        self.crossed = self._crossed(scaled) if CROSS_VALIDATION in config.policy else None
        self.rehearsals = rehearsals(self.windows[0], config.rehearsals if asked_for_record(config) else 0)
        if learns and config.rehearsals and asked_for_record(config) and not self.rehearsals:
            self.said.append(NO_REHEARSAL)
        first, last = self.windows[0].test.start, self.windows[-1].test.stop
        self.funding = charged_funding(panel, config.account, first, last)
        self.said += [*self.funding.said, *unknown_inputs(panel, bank)]
        for name in config.variant if config.searches else ():
            get_variant(name)
        self.judged = self._judged(scaled)
        if directional(config) and not (config.searches or self.judged or config.baselines):
            raise InputError("--variant none leaves nobody to judge: give --forecasts FILE or --baselines NAME")
        # what does not fit is said before hours of searching
        portfolio_of(config)
        costs: Costs = trading_terms(config)["costs"]
        position_rule(config)
        costs.slippage(panel, 0, 1)

    def _whole_space(self, learns: bool) -> SearchSpace:
        """Every op and input, whether they fit the bars or not. learns: whether anything is trained; else the space only sets the purge."""
        config, assets, bank = self.config, self.panel.assets, self.samples.bank
        every = DEFAULT_OPS if len(assets) < 2 else (*DEFAULT_OPS, *ACROSS_OPS)
        return SearchSpace(
            ops=config.ops or (every if learns else ("zero", "identity")),
            assets=assets if len(assets) > 1 else (),
            share=config.share,
            nodes=config.nodes,
            cells=config.cells,
            channels=config.channels,
            search_cells=config.search_cells,
            search_channels=config.search_channels,
            cell_inputs=config.cell_inputs,
            edges_per_node=config.edges_per_node,
            graph=config.graph,
            sizes=tuple((int(cells), int(channels)) for cells, channels in (size.split("x") for size in config.sizes)),
            horizons=config.horizon,
        ).with_features(dict(zip(bank.inputs, bank.pipelines, strict=True)))

    def _judged(self, volatility: FloatArray) -> list[Judged]:
        """The outside forecasts, in the units that plans know; what was assumed is said."""
        config = self.config
        given, notes = read_forecasts(config.forecasts, self.panel, config.forecast_stamps, config.timezone)
        models = [Judged.of(each, self.panel, config.horizon[0], volatility, config.forecasts_are) for each in given]
        taken = ["searched", "buy_and_hold", *config.baselines, *config.rules]
        models = distinct(models, taken)
        self.said += notes
        self.said += [f"{model.title}: {model.description.split('; ')[-1]}" for model in models]
        self.said += filter(None, (check_covered(m, self.panel, self.windows, config.forecasts) for m in models))
        return models

    def _crossed(self, volatility: FloatArray) -> CrossValidation:
        if not directional(self.config):
            raise InputError("--policy cpcv trades forecasts of the return; add --target return, or leave cpcv out")
        return CrossValidation.of(self.config, self.space, self.samples, volatility, self.windows[0].purge_bars)

    def show_plan(self) -> None:
        _show_plan(self.console, self.panel, self.windows, self.samples)
        for note in (*self.said, cost_of_share(self.space)):
            if note:
                self.console.print(note, markup=False, soft_wrap=True)

    def run(
        self, folder: Path, watch: Path | None = None, register: Register | None = None
    ) -> dict[str, dict[str, float]]:
        """Writes every file of the run folder but the pages; returns the headline figures. watch: as of `nas.search.watch`.

        register: where the look at the test stretch is counted.
        """
        config, panel = self.config, self.panel
        torch.set_num_threads(1)  # as every task does: what this process computes itself is too small for more
        began = time.perf_counter()
        store = Store(folder / "tasks", panel.fingerprint(), self.code)
        with Engine(self._workers(watch), store) as engine:
            outcomes, rivals = self._compete(engine) if directional(config) else ([], [])
            judged = [c for model in self.judged for c in model.contenders(self.samples, self.windows, config.seed)]
            risk = self._forecast_risk(engine) if wanted_of(config) else None
            if self.crossed is not None:
                with self._progress("cross-validation") as (advance, expect):
                    expect(self.crossed.tasks)
                    paths = self.crossed.run(engine, advance)
                write_text(folder / cpcv.FILE, json.dumps(paths, indent=1) + "\n")
        if not directional(config):
            assert risk is not None
            outcomes = risk.holds()
        elif outcomes:
            self.console.print(decided_line(outcomes[0]), markup=False, soft_wrap=True)
        volatility = self.scale.volatility(panel) if risk is None else risk.volatility()
        self.timings |= shared_out(time.perf_counter() - began, engine.cpu_s)
        self.worker_mib = engine.worker_mib
        began = time.perf_counter()
        with self.console.status("trading out of sample"):
            self.book = book = trade(config, panel, self.windows, outcomes, [*judged, *rivals], volatility)
        for line in flat_lines(book.chosen) if directional(config) else ():
            self.console.print(line, markup=False, soft_wrap=True)
        self.timings["backtests"] = time.perf_counter() - began
        began = time.perf_counter()
        sheet = self._sheet(book, volatility) if directional(config) else {}
        self.timings["forecasts"] = time.perf_counter() - began
        began = time.perf_counter()
        finished = Finished(
            config,
            panel,
            self.samples,
            self.windows,
            outcomes,
            book,
            self.timings,
            self.code,
            self.said,
            self.funding,
            self.scale,
            risk,
            len(self.rehearsals),
            sheet,
            self.judged,
        )
        write_run(folder, finished, register)
        self.timings["files"] = time.perf_counter() - began
        return book.headline

    def _sheet(self, book: Book, volatility: FloatArray) -> dict[str, Any]:
        """What the forecasts were worth, and what the networks that were chosen lean on."""
        panel = self.panel
        day = max(1, round(panel.bars_per_year / panel.days_per_year))
        contenders = [choice.candidate.contender for choice in book.chosen]
        terms = trading_terms(self.config, volatility)
        first = self.windows[0].test.start
        timed = {
            name: timing_luck(panel, book.backtests[name].positions, first, TIMINGS, self.config.seed, **terms)
            for name in (SEARCHED, REGARDLESS)
            if name in book.backtests and np.any(book.backtests[name].positions)
        }
        return {
            "timing": {name: {"p": round(p, 6), "draws": TIMINGS} for name, p in timed.items()},
            "strategies": sheets(panel, self.windows, book.forecasts, volatility, self.config.horizon[0]),
            "importance": [
                {
                    "window": each.window.number,
                    "found": importances(
                        self.samples, each.window, (each.members or (each,))[0].trained, self.config.seed, day
                    ),
                }
                for each in contenders
                if "genotype" in each.trained.report
            ],
        }

    def _jobs(self) -> int:
        return self.options.jobs or os.cpu_count() or 1

    def _workers(self, watch: Path | None) -> Workers:
        options = self.options
        if options.engine == "ray":
            if (self.config.stack or 1) > 1:
                raise InputError("tasks travel to Ray one by one: leave --stack out, or use --engine local")
            from nas.tasks.cluster import RayWorkers  # optional: Ray

            return RayWorkers(
                self.samples, address=options.address, jobs=options.jobs, gpus_per_task=options.gpus_per_task
            )
        if options.engine != "local":
            raise InputError(f"no engine {options.engine!r}; there are local, ray")
        jobs = self._jobs()
        workers: Workers = InProcess(self.samples, watch) if jobs == 1 else Processes(self.samples, jobs, watch)
        size = self.config.stack or (MOST if self.config.device == "cuda" else 1)
        return workers if size == 1 else Stacks(self.samples, workers, size, watch)

    def _forecast_risk(self, engine: Engine) -> RiskRun:
        """Kinds by their pooled evidence, then base and networks of every risk target on every window, and their rivals."""
        with self._progress("risk forecasts") as (advance, expect):
            expect(2 * len(self.windows) * len(wanted_of(self.config)))
            found = RiskRun.run(self.config, self.panel, self.windows, self.scale, engine, advance)
        for line in found.said():
            self.console.print(line, markup=False, soft_wrap=True)
        self.said += found.said()
        return found

    @contextlib.contextmanager
    def _progress(self, what: str) -> Iterator[tuple[Callable[[], None], Callable[[int], None]]]:
        """(one task is done, so many are expected)."""
        times = (TimeElapsedColumn(), TextColumn("gone"), TimeRemainingColumn(), TextColumn("left"))
        columns = (TextColumn("{task.description}"), BarColumn(25), MofNCompleteColumn(), *times)
        hidden = self.options.quiet or not self.console.is_terminal
        with Progress(*columns, console=self.console, disable=hidden) as progress:
            bar = progress.add_task(what, total=None)
            yield lambda: progress.advance(bar), lambda total: progress.update(bar, total=total)

    def _competition(self, engine: Engine, advance: Any) -> tuple[Competition, list[TrainTask]]:
        competition = Competition(
            self.config, self.space, self.windows, self.samples, engine, advance, self.scale.volatility(self.panel),
            self.rehearsals,
        )  # fmt: skip
        rivals = [
            TrainTask(w, name, s, self.space, competition.training)
            for w in (*self.rehearsals, *self.windows) for s in competition.seeds for name in self.config.baselines
        ]  # fmt: skip
        return competition, rivals

    def _compete(self, engine: Engine) -> tuple[list[PolicyOutcome], list[Contender]]:
        """Search and train for every policy, and train the hand-designed rivals on the same windows, seeds and budget."""
        with self._progress("searching and training") as (advance, expect):
            competition, rivals = self._competition(engine, advance)
            expect((sum(competition.expected_tasks()) if self.config.searches else 0) + len(rivals))
            if self.config.searches:
                outcomes, fitted = competition.run(rivals)
            else:
                outcomes, fitted = [], engine.run(rivals, lambda _index, _cached: advance())
        hand = [
            Contender(t.name, KIND if is_own(t.name) else "network", cast(Window, t.window), t.name, t.seed, result)
            for t, result in zip(rivals, fitted, strict=True)
        ]
        return outcomes, hand

    def stretch(self) -> Stretch:
        """The days that will be traded, as the register knows them."""
        panel, first, last = self.panel, self.windows[0].test.start, self.windows[-1].test.stop - 1
        times = np.datetime_as_string(panel.timestamps[[first, last]], "s")
        return Stretch.of(panel.assets, panel.simulated, panel.fingerprint(), *map(str, times))

    def estimate_s(self) -> float:
        """About the seconds that searching and training will take here, from a few epochs of each kind of task on the first window."""
        risk = self._risk_s()
        if not directional(self.config):
            return risk
        idle = Engine(InProcess(self.samples), Store(Path(), "", ""))
        competition, rivals = self._competition(idle, lambda: None)

        def seconds(task: SearchTask | TrainTask, settings: Any, epochs: int) -> float:
            def of(short: int) -> float:
                began = time.perf_counter()
                run_task(replace(task, settings=replace(settings, epochs=short)), self.samples)
                return time.perf_counter() - began

            return extrapolated(of, epochs)

        total = 0.0
        if self.config.searches:
            search = competition.searches(competition.policies[0], self.windows[0])[0]
            short = replace(search, settings=replace(search.settings, epochs=1))
            found = run_task(short, self.samples)  # compiles and loads what every later task finds ready
            searches, trainings = competition.expected_tasks()
            moving = replace(search.settings, alpha_warmup_epochs=0)  # alpha rests in the first epochs of many
            total += searches * seconds(short, moving, search.settings.epochs)
            for task in competition.trainings(self.windows[0], [short], [found]):
                total += trainings * seconds(task, competition.training, competition.training.epochs)
        for name in self.config.baselines:
            first = next(task for task in rivals if task.name == name)
            count = sum(task.name == name for task in rivals)
            total += count * seconds(first, competition.training, competition.training.epochs)
        return risk + total / min(self._jobs(), os.cpu_count() or 1) + (WORKER_START_S if self._jobs() > 1 else 0.0)

    def _risk_s(self) -> float:
        """About the seconds of all risk tasks, from one task of every target on the first window."""
        total = 0.0
        count = len(self.windows)
        cheap, whole = (f(self.config, self.panel, self.windows) for f in (kinds_tasks_of, tasks_of))
        for task in (*cheap[::count], *whole[::count]):
            run_task(task, self.samples)  # compiles and loads what every later task finds ready
            began = time.perf_counter()
            run_task(task, self.samples)
            total += (time.perf_counter() - began) * count
        return total / min(self._jobs(), os.cpu_count() or 1)


def extrapolated(seconds: Callable[[int], float], epochs: int) -> float:
    """Of a task of so many epochs, by two short ones: what it takes at any length, and more for every epoch."""
    few = min(FEW_EPOCHS, epochs)
    once, longer = seconds(1), seconds(few)
    return once + max(longer - once, 0.0) / max(few - 1, 1) * (epochs - 1)


def decided_line(outcome: PolicyOutcome) -> str:
    """On how many windows anything was decided, for the console: all searches of a window and variant together."""
    told = {
        (contender.window.number, contender.variant): claimed(outcome, contender) for contender in outcome.contenders
    }
    stand = [sum(claim["decided"] for claim in found["claims"]) for found in told.values() if found is not None]
    if not stand:
        return "searches: none of these variants claims that one op is better than another"
    count = f"{len(stand)} window{'s' * (len(stand) != 1)}" + (
        "" if len(stand) == len(outcome.decisions) else " and variants"
    )
    none = sum(number == 0 for number in stand)
    if none == len(stand):
        return f"searches: nothing was decided on any of {count}: no op was shown to be better than the next best"
    return f"searches: decided {sum(stand)} edges on {len(stand) - none} of {count}; nothing on {none}"


def flat_lines(chosen: Sequence[Choice[Candidate]]) -> list[str]:
    """Which windows do not trade, and why the last one does not: its model is the one that trades on paper."""
    flat = [str(number) for number, choice in enumerate(chosen) if choice.why_flat]
    if not flat:
        return []
    said = f"stayed flat in {len(flat)} of {len(chosen)} windows ({', '.join(flat)})"
    last = chosen[-1].why_flat
    return [f"{said}; the last: {last}" if last else said]


def shared_out(wall_s: float, cpu_s: dict[str, float]) -> dict[str, float]:
    """The seconds that searching and training took together, told apart by the processor time of each kind of task."""
    total = sum(cpu_s.values())
    if total <= 0.0:
        return {"finished tasks": wall_s}
    return {
        stage: wall_s * cpu_s[stage] / total for stage in ("search", "training", "rivals", "risk") if stage in cpu_s
    }


def with_rivals(config: RunConfig) -> RunConfig:
    """`--baselines all|none|a,b,c` resolved: names of networks and of rules may be mixed. InputError for a name that is neither."""
    named, rules = config.baselines, config.rules
    if named == ("all",):
        named, rules = tuple(BASELINES), tuple(RULES)
    elif named == ("none",):
        named, rules = (), ()
    for kind, names, known in (
        ("baseline", named, {**BASELINES, **RULES}),
        ("rule", rules, RULES),
    ):
        for name in names:
            if kind == "baseline" and is_own(name):
                baseline_of(name)
            elif name not in known:
                raise InputError(f"no {kind} {name!r}{nearest(name, known)}; there are all, none, {', '.join(known)}")
    rules = tuple(dict.fromkeys((*rules, *(name for name in named if name in RULES))))
    return config.model_copy(update={"baselines": tuple(name for name in named if name not in RULES), "rules": rules})


def plan(config: RunConfig, panel: Panel, space: SearchSpace, warmup_bars: int) -> tuple[Window, ...]:
    """The windows of a run. The purge covers the label's reach (horizon and the bar of the fill) and the receptive field."""
    bar_ns = 365.0 * 86_400e9 / panel.bars_per_year  # of the calendar: more than its length where the market rests
    length = {name: bars_of(getattr(config, name), bar_ns, name) for name in ("train", "validation", "test")}
    step = bars_of(config.step, bar_ns, "step") if config.step else length["test"]
    least = max(max(config.horizon) + 1 + space.receptive_field, least_gap(config, panel))
    gaps = {}
    for name in ("purge", "embargo"):
        given = getattr(config, name)
        gaps[name] = separation(name, bars_of(given, bar_ns, name) if given else None, least)
    shape = WindowPlan(length["train"], length["validation"], length["test"], step, config.anchored)
    return shape.windows(len(panel), first=warmup_bars, purge_bars=gaps["purge"], embargo_bars=gaps["embargo"])


def cost_of_share(space: SearchSpace) -> str:
    """One line where what the assets do not share makes a run grow with the square of their number, else empty."""
    count = max(1, len(space.assets))
    if space.passes == count:
        return ""
    return (
        f"--share none: each of {count} assets has a network of its own that reads all {count}, {space.passes:,} passes "
        f"instead of {count}; --share all and embedding need {count}"
    )


def _show_plan(console: Console, panel: Panel, windows: tuple[Window, ...], samples: Samples) -> None:
    first, last = windows[0], windows[-1]

    def day(bar: int) -> str:
        return str(panel.timestamps[min(bar, len(panel) - 1)])[:10]

    missing = f"; without {', '.join(samples.bank.missing)}" if samples.bank.missing else ""
    console.print(
        f"{'+'.join(panel.assets)}: {len(panel):,} bars {day(0)} to {day(len(panel))}, {len(samples.bank.names)} candidate "
        f"pipelines of {len(samples.bank.inputs)} inputs{missing}",
        markup=False,
        soft_wrap=not console.is_terminal,
    )
    console.print(
        f"{len(windows)} windows: train {first.train.stop - first.train.start}, validation "
        f"{first.validation.stop - first.validation.start}, test {first.test.stop - first.test.start} bars, purge {first.purge_bars}, "
        f"embargo {first.embargo_bars}; traded {day(first.test.start)} to {day(last.test.stop)}",
        markup=False,
        soft_wrap=not console.is_terminal,
    )
    width = max(20, min(console.width, 110) - 8)
    shown = timeline(windows, len(panel), width)
    for position, (number, line) in enumerate(shown):
        if position and number != shown[position - 1][0] + 1:
            console.print("    ...")
        console.print(f"{number:>5}  {line}", markup=False, highlight=False, no_wrap=True)
    console.print("       - train   = validation   # test (unseen)", markup=False, highlight=False)
