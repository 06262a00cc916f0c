"""`python -m benchmarks.cluster`: tasks per second on Ray with 2 workers against 2 local processes, in turn, workers warm on both sides."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from data.simulated import simulate
from nas.network.stretches import Samples
from nas.search.settings import SearchSettings
from nas.space.search_space import SearchSpace
from nas.tasks.cluster import RayWorkers
from nas.tasks.engine import Engine, Processes, Store
from nas.tasks.windows import WindowPlan
from nas.tasks.work import SearchTask


def main(
    rounds: Annotated[int, typer.Option(help="Rounds; each measures both sides.")] = 5,
    searches: Annotated[int, typer.Option(help="Searches of a round.")] = 16,
) -> None:
    """The same searches on Ray and on local processes, in turn; prints the ratio of each round and its median."""
    samples = Samples.of(simulate(["BTCUSDT"], "60"), (6,))
    space = SearchSpace(channels=8, horizons=(6,)).with_features(
        dict(zip(samples.bank.inputs, samples.bank.pipelines, strict=True))
    )
    window = WindowPlan(2_400, 800, 800, 800).windows(
        len(samples.panel), first=samples.bank.warmup_bars, purge_bars=space.receptive_field + 7
    )[0]
    task = SearchTask(window, "darts", 0, space, SearchSettings(epochs=3))
    ratios, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        local = Engine(Processes(samples, 2), Store(Path(folder) / "local", "", ""))
        ray = Engine(RayWorkers(samples, jobs=2), Store(Path(folder) / "ray", "", ""))
        with local, ray:
            for engine in (local, ray):  # both sides load torch and the kernels, untimed
                engine.run([replace(task, seed=10_000 + k) for k in range(4)])
            for turn in range(rounds):
                tasks = [replace(task, seed=turn * searches + k) for k in range(searches)]
                took = []
                for engine in (local, ray):
                    began = time.perf_counter()
                    engine.run(tasks)
                    took.append(time.perf_counter() - began)
                ratios.append(took[0] / took[1])
                seconds.append(took[0] / searches)
                print(f"round {turn}: Ray has {ratios[-1]:.2f} x the throughput of local processes", flush=True)
    print(f"median of {rounds} rounds of {searches} searches: {statistics.median(ratios):.2f} x (target: at least 0.9)")
    print(
        f"one search of {window.train.stop - window.train.start} + 800 bars, 3 epochs: {statistics.median(seconds) * 2:.2f} s of one core"
    )


if __name__ == "__main__":
    typer.run(main)
