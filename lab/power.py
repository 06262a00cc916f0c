"""How strong must a signal be before it is found? Planted tasks of rising strength, judged on unseen bars."""

from __future__ import annotations

import torch

from lab.comparison import SEARCH, search_by
from lab.tasks import judge_baseline, judge_genotype, planted
from lab.units import Result, Unit
from nas.search.selection import random_genotype

STRENGTHS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
BY_HAND = ("linear", "mlp", "tcn")
RANDOMS = 3


def units(seeds: int, strengths: tuple[float, ...] = STRENGTHS) -> list[Unit]:
    return [
        Unit(f"{strength:g}-{seed:03d}", {"strength": strength, "seed": seed, "randoms": RANDOMS, "search": SEARCH})
        for seed in range(seeds)
        for strength in strengths
    ]


def compute(unit: Unit) -> Result:
    """Test correlations of every contestant; bars: how many it was measured on (labels of different bars are independent)."""
    torch.set_num_threads(1)
    settings, seed = unit.settings, unit.settings["seed"]
    task = planted(seed, settings["strength"])
    generator = torch.Generator().manual_seed(70_000 + seed)
    drawn = [random_genotype(task.space, generator) for _ in range(settings["randoms"])]
    return {
        "bars": task.test.stop - task.test.start,
        "search": judge_genotype(task, search_by(task, "darts", seed, settings["search"]).genotype, seed)[1],
        "random": [judge_genotype(task, genotype, seed)[1] for genotype in drawn],
        **{name: judge_baseline(task, name, seed)[1] for name in BY_HAND},
    }
