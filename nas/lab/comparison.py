"""Is the searched architecture better than random ones of the same space, each trained alike? And what helps where it is not?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from data.panel import Panel
from nas.genotype import Genotype
from nas.lab.tasks import Task, judge_genotype, planted, real
from nas.lab.units import Result, Unit
from nas.search import search
from nas.search_settings import SearchSettings
from nas.selection import random_genotype

SEARCH: dict[str, Any] = {"epochs": 16, "learning_rate": 1e-2, "alpha_warmup_epochs": 2, "diagnostics_every": 0}
MARKETS = {"planted": 0.3, "planted-weak": 0.1, "real": None}
#: how to search -> (variant, changes of the settings): plain first, then what was tried to make it win
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "darts": ("darts", {}),
    "perturbation": ("pt", {}),
    "regulariser": ("beta", {}),
    "inputs unpriced": ("darts", {"feature_cost": 0.0}),
    "perturbation, inputs unpriced": ("pt", {"feature_cost": 0.0}),
    "longer": ("darts", {"epochs": 40}),
    "ops priced": ("darts", {"parameter_cost": 1.0}),
    "warm start": ("darts", {}),
    "smaller space": ("darts", {}),
    "best of random": ("random", {}),
}
SMALL_OPS = ("zero", "conv3", "ema12", "diff1")


def units(seeds: int, randoms: int, markets: tuple[str, ...], ways: tuple[str, ...]) -> list[Unit]:
    return [
        Unit(f"{market}-{seed:03d}", {"market": market, "strength": MARKETS[market], "seed": seed, "randoms": randoms,
                                     "ways": list(ways), "search": SEARCH})
        for seed in range(seeds)
        for market in markets
    ]  # fmt: skip


def task_of(unit: Unit, histories: list[Panel]) -> Task:
    settings = unit.settings
    if settings["market"] == "real":
        return real(histories[settings["seed"] % len(histories)], settings["seed"])
    return planted(settings["seed"], settings["strength"])


def found_by(task: Task, way: str, seed: int, search_settings: dict[str, Any]) -> Genotype:
    """The architecture that one way of searching finds on the training and validation stretches."""
    variant, changes = WAYS[way]
    settings, space, initial = SearchSettings(**{**search_settings, **changes}), task.space, None
    if way == "smaller space":
        space = replace(space, ops=SMALL_OPS, nodes=1)
    if way == "warm start":  # from a search of half the length on the first half of the training stretch
        half = slice(task.train.start, (task.train.start + task.train.stop) // 2)
        rest = slice(half.stop, task.train.stop)
        before = search(space, task.tensors, half, rest, replace(settings, epochs=settings.epochs // 2), seed + 1)
        initial = (before.op_weights, before.feature_weights)
    return search(
        space, task.tensors, task.train, task.validation, settings, seed, variant=variant, initial=initial
    ).genotype


def compute(unit: Unit, histories: list[Panel]) -> Result:
    """Test correlations: of `randoms` random architectures, and of what each way of searching found, all trained alike."""
    torch.set_num_threads(1)
    task, seed = task_of(unit, histories), unit.settings["seed"]
    generator = torch.Generator().manual_seed(90_000 + seed)
    random = [
        judge_genotype(task, random_genotype(task.space, generator), seed) for _ in range(unit.settings["randoms"])
    ]
    ways = {}
    for way in unit.settings["ways"]:
        genotype = found_by(task, way, seed, unit.settings["search"])
        loss, correlation = judge_genotype(task, genotype, seed)
        ways[way] = {"loss": loss, "test": correlation, "architecture": str(genotype), "inputs": len(genotype.features)}
    return {"random": [test for _, test in random], "random_loss": [loss for loss, _ in random], "ways": ways}
