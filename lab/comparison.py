"""Is the searched architecture better than random ones of the same space, each trained alike? And what helps where it is not?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from data.panel import InputError, Panel
from lab.tasks import Task, judge_genotype, planted, real
from lab.units import Result, Unit
from nas.search.finalists import final
from nas.search.loop import search
from nas.search.result import SearchResult
from nas.search.selection import random_genotype
from nas.search.settings import SearchSettings

# no price in the last round: it was chosen for cells of 4 channels, and of these of 16 it is larger than what validation tells apart:
# random rivals, who choose by the same score, would be the smallest of their draws instead of the best
SEARCH: dict[str, Any] = {"parameter_cost": 0.0, "epochs": 16, "learning_rate": 1e-2, "alpha_warmup_epochs": 2, "diagnostics_every": 0,
                          "alpha_learning_rate": 5e-2, "length": 512, "batch": 2}  # fmt: skip
MARKETS = {"planted": 0.3, "planted-weak": 0.1, "real": None}
#: how to search -> (variant, changes of the settings): plain first, then what was tried to make it win
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "darts": ("darts", {}),
    "perturbation": ("pt", {}),
    "regulariser": ("beta", {}),
    "inputs unpriced": ("darts", {"feature_cost": 0.0}),
    "perturbation, inputs unpriced": ("pt", {"feature_cost": 0.0}),
    "longer": ("darts", {"epochs": 40}),
    "warm start": ("darts", {}),
    "smaller space": ("darts", {}),
    "fair": ("fair", {}),
    # `darts` is read off before its last round, where one is asked for: it holds the first op everywhere
    "first op where undecided": ("darts", {"undecided": "first"}),
    "simpler op where undecided": ("darts", {"undecided": "simpler"}),
    "no decay of alpha": ("darts", {"alpha_weight_decay": 0.0}),
    "ten times the decay of alpha": ("darts", {"alpha_weight_decay": 1.0}),
    "best of random": ("random", {}),
}
SMALL_OPS = ("zero", "conv3", "ema12", "diff1")
FINALISTS = (3, 5, 8)
#: space -> ways that are tried with a last round, and how many trainings of a finalist one search takes the time of, rounded up: measured
#: 2.2 to 2.9 and 2.7 to 3.7 in the small space, 3.4 to 3.6 and 5.8 to 6.1 in the large (`python -m benchmarks.last_round`), on planted and
#: real problems. A rival of equal compute trains as many more.
SEARCH_COST = {"small": {"darts": 3, "perturbation": 4}, "large": {"darts": 4, "perturbation": 6}}


def units(
    seeds: int,
    randoms: int,
    markets: tuple[str, ...],
    ways: tuple[str, ...],
    finalists: tuple[int, ...] = FINALISTS,
    space: str = "large",
) -> list[Unit]:
    """finalists: sizes of the last round. InputError where one is less than 2, which is no round."""
    if any(count < 2 for count in finalists):
        raise InputError(f"a last round has at least 2 finalists, not {min(finalists)}")
    return [
        Unit(f"{market}-{seed:03d}", {"market": market, "strength": MARKETS[market], "seed": seed, "randoms": randoms,
                                     "ways": list(ways), "finalists": sorted(set(finalists)), "search": SEARCH, "space": space})
        for seed in range(seeds)
        for market in markets
    ]  # fmt: skip


def task_of(unit: Unit, histories: list[Panel]) -> Task:
    """The problem of a unit: a planted one, or a stretch of one of the histories, which are taken in turn."""
    settings = unit.settings
    if settings["market"] == "real":
        return real(histories[settings["seed"] % len(histories)], settings["seed"], space=settings["space"])
    return planted(settings["seed"], settings["strength"], settings["space"])


def search_by(task: Task, way: str, seed: int, search_settings: dict[str, Any], finalists: int = 1) -> SearchResult:
    """What one way of searching finds on the training and validation stretches."""
    variant, changes = WAYS[way]
    settings, space, initial = SearchSettings(**{**search_settings, **changes}, finalists=finalists), task.space, None
    if way == "smaller space":
        space = replace(space, ops=SMALL_OPS, nodes=1)
    if way == "warm start":  # from a search of half the length on the first half of the training stretch
        half = slice(task.train.start, (task.train.start + task.train.stop) // 2)
        rest = slice(half.stop, task.train.stop)
        before = search(space, task.tensors, half, rest, replace(settings, epochs=settings.epochs // 2), seed + 1)
        initial = (before.op_weights, before.feature_weights)
    return search(space, task.tensors, task.train, task.validation, settings, seed, variant=variant, initial=initial)


def compute(unit: Unit, histories: list[Panel]) -> Result:
    """Test correlations: of `randoms` random architectures, and of what each way of searching found, all trained alike.

    proposals: per way of `SEARCH_COST` the candidates of its last round, likeliest first, and as many random ones as the largest
    round and a search together cost, with validation loss after the last round's training (`score`) and test correlation. The table
    chooses among them: a round of 3 reads the first 3 of its proposals.
    """
    torch.set_num_threads(1)
    settings, seed = unit.settings, unit.settings["seed"]
    task = task_of(unit, histories)
    generator = torch.Generator().manual_seed(90_000 + seed)
    random = [judge_genotype(task, random_genotype(task.space, generator), seed) for _ in range(settings["randoms"])]
    largest, costs = max(settings["finalists"], default=1), SEARCH_COST[settings["space"]]
    ways, proposals = {}, {}
    for way in settings["ways"]:
        rounds = way in costs and largest > 1
        found = search_by(task, way, seed, settings["search"], largest if rounds else 1)
        genotype = found.finalists[0][0] if rounds else found.genotype  # what the search alone would have given
        loss, correlation = judge_genotype(task, genotype, seed)
        ways[way] = {"loss": loss, "test": correlation, "architecture": str(genotype), "inputs": len(genotype.features)}
        if rounds:
            others = [judge_genotype(task, each, seed)[1] for each, _ in found.finalists[1:]]
            proposals[way] = {"score": [score for _, score in found.finalists], "test": [correlation, *others]}
    if proposals:  # drawn apart from `random`, which every way is measured against
        generator = torch.Generator().manual_seed(91_000 + seed)
        drawn = [random_genotype(task.space, generator) for _ in range(largest + max(costs.values()))]
        how = SearchSettings(**settings["search"])
        scores = final(drawn, task.space, task.tensors, ((task.train,), (task.validation,)), how, seed)[1]
        proposals["random"] = {"score": scores, "test": [judge_genotype(task, each, seed)[1] for each in drawn]}
    return {
        "random": [test for _, test in random],
        "random_loss": [loss for loss, _ in random],
        "ways": ways,
        "proposals": proposals,
    }
