"""How many trainings of a finalist one search takes the time of: `python -m benchmarks.last_round --data FILE`.

Processor time on one thread, on the problems of the lab's comparison. `lab.comparison.SEARCH_COST` is what this gives, rounded
up: the random rival of equal compute trains as many more candidates.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from lab.__main__ import histories_of
from lab.comparison import SEARCH, SEARCH_COST, search_by
from lab.tasks import planted, real
from nas.search.finalists import final
from nas.search.selection import random_genotype
from nas.search.settings import SearchSettings

CANDIDATES = 12


def main(
    data: Annotated[list[Path] | None, typer.Option(help="Hourly candles for the real problems; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(help="Problems of each kind.", min=1)] = 5,
    space: Annotated[str, typer.Option(help="large or small, as of lab search-vs-random.")] = "large",
) -> None:
    torch.set_num_threads(1)
    histories = histories_of(data)
    print("problem        training, s  " + "  ".join(f"{way}, in trainings" for way in SEARCH_COST[space]))
    for seed in range(seeds):
        tasks = {"planted": planted(seed, 0.3, space)}
        if histories:
            tasks["real"] = real(histories[seed % len(histories)], seed, space=space)
        for name, task in tasks.items():
            generator = torch.Generator().manual_seed(91_000 + seed)
            drawn = [random_genotype(task.space, generator) for _ in range(CANDIDATES)]
            search_by(task, "darts", seed, {**SEARCH, "epochs": 1})  # compiles what both need
            began = time.process_time()
            splits = (task.train,), (task.validation,)
            final(drawn, task.space, task.tensors, splits, SearchSettings(**SEARCH), seed)
            training = (time.process_time() - began) / CANDIDATES
            line = f"{name:8} {seed:3}   {training:11.3f}"
            for way in SEARCH_COST[space]:
                began = time.process_time()
                search_by(task, way, seed, SEARCH)
                line += f"  {(time.process_time() - began) / training:{len(way) + 14}.1f}"
            print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
