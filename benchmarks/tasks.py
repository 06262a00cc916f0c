"""What 500 symbols would take, from the tasks of a default run, searched by plain DARTS: `python -m benchmarks.tasks --data FILE`.

Warm on one thread: the first window is computed once before anything is timed.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.speed_job import market
from benchmarks.tables import say, table
from data.sources import load_panel
from nas.space.genotype import Genotype
from nas.tasks.work import SearchTask, Task, TaskResult, TrainTask, run_task
from strategies.walkforward.config import resolve
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline
from strategies.walkforward.policies import Competition

SYMBOLS, WEEKS, CORES = 500, 260, 100 * 16
ON_RAY = 0.96  # of local throughput: benchmarks.cluster


def scheduled(costs: Sequence[tuple[float, float]], searches: int, cores: int) -> float:
    """Seconds until the last of `searches` is trained: cores take tasks in order, a training waits for its search.

    costs: measured seconds of (search, training), used in turn.
    """
    free = [0.0] * cores
    ready: list[tuple[float, float]] = []  # (when its search ends, seconds of the training)
    for k in range(searches):
        search, training = costs[k % len(costs)]
        while ready and ready[0][0] <= free[0]:  # what can be trained goes first: its result ends a window
            _, waiting = heapq.heappop(ready)
            heapq.heapreplace(free, free[0] + waiting)
        begin = free[0]
        heapq.heapreplace(free, begin + search)
        heapq.heappush(ready, (begin + search, training))
    while ready:
        when, waiting = heapq.heappop(ready)
        heapq.heapreplace(free, max(when, free[0]) + waiting)
    return max(free)


def main(
    data: Annotated[Path | None, typer.Option(help="Hourly candles (default: simulated ones).")] = None,
    windows: Annotated[int, typer.Option(help="Windows to measure; medians count.", min=1)] = 6,
    preset: Annotated[str, typer.Option(help="Settings of the searches.")] = "default",
) -> None:
    """Prints seconds and kB per search, training and rival, then the sums for many symbols and weeks."""
    config = resolve(preset, None, {})
    panel = market(21_000) if data is None else load_panel(("BTCUSDT",), "60", files=(data,))
    pipeline = Pipeline(config, Options(), panel, "", Console(quiet=True), {})
    search, training = Competition.settings_of(config)
    space, samples = pipeline.space, pipeline.samples
    rows: dict[str, list[tuple[float, int]]] = {"search": [], "training": [], "TCN rival": []}

    def timed(task: Task) -> tuple[TaskResult, float]:
        began = time.process_time()
        result = run_task(task, samples)
        return result, time.process_time() - began

    for turn, window in enumerate([pipeline.windows[0], *pipeline.windows[:windows]]):
        found, seconds = timed(SearchTask(window, "darts", 0, space, search))
        genotype = Genotype.from_dict(found.report["genotype"])
        trained = timed(TrainTask(window, "darts", 0, space, training, genotype))
        rival = timed(TrainTask(window, "tcn", 0, space, training))
        for name, (result, took) in zip(rows, ((found, seconds), trained, rival), strict=True):
            if turn:  # the first one compiles
                rows[name].append((took, len(result.to_bytes())))
    took = {name: median(t for t, _ in measured) for name, measured in rows.items()}
    size = {name: median(b for _, b in measured) for name, measured in rows.items()}
    say(table(["task", "one core", "result"], [[n, f"{took[n]:.2f} s", f"{size[n] / 1e3:.0f} kB"] for n in rows]))
    told = []
    for seeds in (1, 3):
        searches = SYMBOLS * WEEKS * seeds
        hours = searches * (took["search"] + took["training"]) / 3600
        kept = searches * (size["search"] + size["training"]) / 1e9
        costs = [(t[0], u[0]) for t, u in zip(rows["search"], rows["training"], strict=True)]
        clock = scheduled(costs, SYMBOLS * WEEKS * seeds, CORES) / ON_RAY
        told.append(
            [
                f"{seeds}",
                f"{searches:,}",
                f"{hours:,.0f}",
                f"{clock / 60:.0f} min",
                f"{hours * 3600 / CORES / clock:.0%}",
                f"{kept:.0f} GB",
            ]
            + [f"{hours / WEEKS:.1f}"]
        )
    say(
        f"{SYMBOLS} symbols x {WEEKS} weeks on {CORES:,} cores, every search before its training, each as long as one of those measured"
    )
    say(
        table(
            ["seeds", "searches", "core-hours", "by the clock", "cores busy", "results", "core-hours a week more"], told
        )
    )


if __name__ == "__main__":
    typer.run(main)
