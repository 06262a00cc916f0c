"""Every `--variant` on the space of the tabular benchmark, by the ordinary searcher, beside ordinary trainings that say what it cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from lab.tabular import SEEDS, SPACE, genotype_of, word_of
from lab.tabular_maker import TRAINING, Problem, Trainer
from lab.units import Result, Unit
from nas.network.model import network_of
from nas.network.training import train
from nas.search.loop import search
from nas.search.rivals import RIVALS
from nas.search.selection import random_genotype
from nas.search.settings import SearchSettings
from nas.search.variants import VARIANTS

#: lengths and rates of the table's trainings; inputs are not in question: the table's networks read all of them
SEARCH: dict[str, Any] = {
    "epochs": TRAINING.epochs, "learning_rate": TRAINING.learning_rate, "weight_decay": TRAINING.weight_decay, "length": TRAINING.length,
    "batch": TRAINING.batch, "alpha_learning_rate": 5e-2, "alpha_warmup_epochs": 2, "diagnostics_every": 0, "feature_cost": 0.0,
    "feature_steps": 0,
}  # fmt: skip
TIMED = 8  # trainings of random cells beside the searches of a unit


def units(tasks: Mapping[str, Problem], seeds: int, epochs: int) -> list[Unit]:
    """Seed by seed, all variants on one task each."""
    # rivals are looked up (lab.rivals); `random` alone is here to be compared with them
    names = [name for name in VARIANTS if name not in RIVALS or name == "random"]
    how = {**SEARCH, "epochs": epochs}
    return [
        Unit(
            f"{epochs}-{task}-{seed}",
            {"task": task, "data": problem.digest, "seed": seed, "variants": names, "search": how},
        )
        for seed in range(seeds)
        for task, problem in tasks.items()
    ]


def compute(unit: Unit, tasks: Mapping[str, Problem]) -> Result:
    """training: mean processor seconds of an ordinary training; per variant the word it found, its test losses with the table's seeds, and
    the processor seconds of the search."""
    torch.set_num_threads(1)
    problem, seed = tasks[unit.settings["task"]], unit.settings["seed"]
    space = SPACE.with_features({name: (steps,) for name, steps in problem.features})
    tensors, found = problem.tensors, {}
    trainers = [Trainer(problem, each) for each in SEEDS]
    for variant in unit.settings["variants"]:
        began = time.process_time()
        settings = SearchSettings(**unit.settings["search"])
        genotype = search(space, tensors, problem.train, problem.validation, settings, seed, variant=variant).genotype
        seconds = time.process_time() - began
        word = word_of(genotype)
        test = [float(trainer.train(word)[-1]) for trainer in trainers]
        found[variant] = {"word": word, "test": test, "seconds": round(seconds, 3)}
    return {"training": round(_training_seconds(problem, seed), 4), "found": found}


def _training_seconds(problem: Problem, seed: int) -> float:
    """Processor time of an ordinary training, mean over random cells that read every input."""
    generator = torch.Generator().manual_seed(seed)
    space = SPACE.with_features({"input": ("raw",)})
    spent = 0.0
    for k in range(TIMED):
        word = word_of(random_genotype(space, generator))
        network = network_of(genotype_of(word, problem.features), k)
        began = time.process_time()
        train(network, problem.tensors, problem.train, problem.validation, TRAINING, k)
        spent += time.process_time() - began
    return spent / TIMED
