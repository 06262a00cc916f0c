"""Does a supernet rank cells as their own trainings do, and do trainings agree with each other?

Per problem some random cells, all reading all inputs, each trained by itself under several training settings. A supernet's score of a
cell is its validation loss cut down to it; Kendall's tau compares the order of the scores with the order of the trainings' losses. What
trainings of other settings agree on bounds what a supernet could; what searches found is ranked among the random cells under every setting.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from data.panel import Panel
from lab.comparison import MARKETS, SEARCH
from lab.tables import markdown, with_interval
from lab.tasks import TRAINING, Task, planted, real
from lab.units import Record, Result, Unit, grouped
from nas.network.model import network_of
from nas.network.training import evaluate, train
from nas.search.loop import search, supernet
from nas.search.selection import random_genotype
from nas.search.settings import SearchSettings
from nas.space.genotype import Genotype

#: training settings: those of the other experiments; a third of the rate for twice as long; twice the channels
TRAININGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gentle": {"learning_rate": TRAINING.learning_rate / 3, "epochs": 2 * TRAINING.epochs, "patience": 2 * TRAINING.patience},
    "wide": {"widen": 2},
}  # fmt: skip


def units(seeds: int, cells: int, markets: Sequence[str], variants: Sequence[str]) -> list[Unit]:
    """One problem each."""
    return [
        Unit(f"{market}-{seed:03d}", {"market": market, "seed": seed, "cells": cells, "variants": list(variants), "search": SEARCH})
        for seed in range(seeds)
        for market in markets
    ]  # fmt: skip


def compute(unit: Unit, histories: list[Panel]) -> Result:
    """Losses per cell: of every training on validation and test, and of every supernet on validation. The last ones are of what each
    variant's search found."""
    torch.set_num_threads(1)
    asked = unit.settings
    market, seed = asked["market"], asked["seed"]
    task = (
        real(histories[seed % len(histories)], seed)
        if market == "real"
        else planted(seed, MARKETS[market] or 0.0, "small")
    )
    reads = tuple((name, pipelines[0]) for name, pipelines in task.space.features)
    settings = SearchSettings(**asked["search"])
    stretches = task.tensors, task.train, task.validation
    found = [search(task.space, *stretches, settings, seed, variant=v).genotype for v in asked["variants"]]
    generator = torch.Generator().manual_seed(70_000 + seed)
    drawn: dict[str, Genotype] = {}
    while len(drawn) < asked["cells"]:
        cell = replace(random_genotype(task.space, generator), features=reads)
        drawn.setdefault(cell.key(), cell)
    cells = [*drawn.values(), *(replace(each, features=reads) for each in found)]
    trained = {name: [alone(task, cell, seed, changes) for cell in cells] for name, changes in TRAININGS.items()}
    scores = {}
    for variant in asked["variants"]:
        run = supernet(task.space, *stretches, settings, seed, variant)
        scores[variant] = [run.validation(run.architecture.chosen_mix(cell))[0] for cell in drawn.values()]
    return {"trained": trained, "supernet": scores, "found": [str(each) for each in found]}


def alone(task: Task, cell: Genotype, seed: int, changes: dict[str, Any]) -> tuple[float, float]:
    """(validation loss, test loss) of a cell trained from scratch."""
    how = {k: v for k, v in changes.items() if k != "widen"}
    cell = cell.sized(cell.cells, cell.channels * changes.get("widen", 1))
    tensors, network = task.tensors.only(task.space.columns(cell.features)), network_of(cell, seed)
    outcome = train(network, tensors, task.train, task.validation, replace(TRAINING, **how), seed)
    network.eval()
    context = int(network.receptive_field)  # type: ignore[arg-type]
    return outcome.validation_losses[outcome.best_epoch], evaluate(network, tensors, task.test, context)[0]


def tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b; 0 where all values of one are equal, which order nothing."""
    value = float(kendalltau(a, b).statistic)
    return value if np.isfinite(value) else 0.0


def ranks_table(found: Sequence[Record]) -> tuple[str, str]:
    """(verdict, text and tables)."""
    rows, places, verdicts = [], [], []
    for (market,), mine in grouped(found, "market").items():
        results, cells = [record.result for record in mine], mine[0].settings["cells"]

        def column(values: list[float]) -> str:
            return with_interval(np.array(values), np.mean)

        def of(result: Any, name: str, place: int, cells: int = cells) -> list[float]:
            return [pair[place] for pair in result["trained"][name][:cells]]

        for variant in mine[0].settings["variants"]:
            taus = {n: [tau(r["supernet"][variant], of(r, n, 0)) for r in results] for n in TRAININGS}
            test = [tau(r["supernet"][variant], of(r, "plain", 1)) for r in results]
            rows.append([market, f"supernet of `{variant}`", str(len(mine)), *map(column, taus.values()), column(test)])
            verdicts.append(f"{market}, `{variant}`: tau {np.mean(taus['plain']):+.2f}")
            k = cells + mine[0].settings["variants"].index(variant)
            beats = {
                n: np.mean([np.mean([r["trained"][n][k][1] < other for other in of(r, n, 1)]) for r in results])
                for n in TRAININGS
            }
            places.append([market, f"`{variant}`", *(f"{share:.0%}" for share in beats.values())])
        agree = {
            (a, b): [tau(of(r, a, 0), of(r, b, 0)) for r in results] for a, b in itertools.combinations(TRAININGS, 2)
        }
        own = [tau(of(r, "plain", 0), of(r, "plain", 1)) for r in results]
        others = [column(agree["plain", name]) for name in ("gentle", "wide")]
        rows.append([market, "training `plain`", str(len(mine)), "", *others, column(own)])
        verdicts.append(f"{market}, two trainings of one cell: {np.mean(agree['plain', 'gentle']):+.2f}")
    text = (
        f"Kendall's tau between the order in which a supernet ranks {found[0].settings['cells']} random cells by its validation loss and "
        "that of their own trainings, mean over problems with 95% bootstrap intervals. `gentle`: a third of the rate for twice the epochs; "
        "`wide`: twice the channels. The row of the training says what two trainings agree on, which no supernet can be asked to exceed. "
        "All cells read all inputs.\n\n"
    )
    head = ["market", "ranked by", "problems", "plain", "gentle", "wide", "test loss of plain"]
    below = ["market", "what the search found beats, of the random cells, on test", *TRAININGS]
    return "; ".join(verdicts) + ".", text + markdown(head, rows) + "\n\n" + markdown(below, places)
