"""The tabular benchmark: `python -m benchmarks.tabular` (seconds). Questions answered per second of one core; a cell's training as one
compiled function against the ordinary one, in turn."""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import typer

from benchmarks.tables import say
from lab.tabular import SEEDS, Tabular, genotype_of, networks
from lab.tabular_maker import TRAINING, Trainer, planted
from nas.network.model import network_of
from nas.network.training import train


def main(
    questions: Annotated[int, typer.Option(help="Asked of the table.", min=1)] = 500_000,
    cells: Annotated[int, typer.Option(help="Trained both ways.", min=1)] = 40,
) -> None:
    """Print both figures."""
    table, rng = Tabular.load(), np.random.default_rng(0)
    columns = [list(table.row), table.tasks, SEEDS]
    picked = [[column[k] for k in rng.integers(len(column), size=questions)] for column in columns]
    asked = list(zip(*picked, strict=True))
    began = time.process_time()
    for word, task, seed in asked:
        table.query(word, task, seed)
    say(f"{questions / (time.process_time() - began):,.0f} questions a second")
    problem = planted()
    trainer, tensors = Trainer(problem, 0), problem.tensors
    spent = np.zeros((2, cells))
    for k, word in enumerate(("123421", *rng.choice(networks(), cells))):
        began = time.process_time()
        trainer.train(word)
        between = time.process_time()
        network = network_of(genotype_of(word, problem.features), 0)
        train(network, tensors, problem.train, problem.validation, TRAINING, 0)
        if k:  # the first one compiles
            spent[:, k - 1] = between - began, time.process_time() - between
    ratio = np.median(spent[1] / spent[0])
    one, other = spent.mean(1) * 1_000
    say(f"a training: {one:.1f} ms compiled, {other:.1f} ms ordinary (without the test); median of pairs {ratio:.1f}")


if __name__ == "__main__":
    typer.run(main)
