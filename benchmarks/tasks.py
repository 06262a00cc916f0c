"""What 500 symbols would take, from the tasks of a default run, searched by plain DARTS: `python -m benchmarks.tasks --data FILE`.

Warm on one thread: the first window is computed once before anything is timed.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.speed_job import market
from data.sources import load_panel
from nas.space.genotype import Genotype
from nas.tasks.work import SearchTask, Task, TaskResult, TrainTask, run_task
from strategies.walkforward.config import resolve
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline
from strategies.walkforward.policies import Competition

SYMBOLS, WEEKS, CORES = 500, 260, 100 * 16
ON_RAY = 0.96  # of local throughput: benchmarks.cluster


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
    for name in rows:
        print(f"{name:<10} {took[name]:6.2f} s of one core  {size[name] / 1e3:6.0f} kB")
    for seeds in (1, 3):
        searches = SYMBOLS * WEEKS * seeds
        hours = searches * (took["search"] + took["training"]) / 3600
        kept = searches * (size["search"] + size["training"]) / 1e9
        print(
            f"{seeds} seed{'s' * (seeds > 1)}: {searches:,} searches, {hours:,.0f} core-hours, {60 * hours / CORES / ON_RAY:.0f} min on "
            f"{CORES} cores, {kept:.0f} GB; one more week of all symbols {hours / WEEKS:.1f} core-hours"
        )


if __name__ == "__main__":
    typer.run(main)
