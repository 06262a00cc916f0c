"""Regrets of rivals and variants on the tabular benchmark, gathered once and told as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.panel import FloatArray
from lab.rivals import anytime, diagnosis, interval, regret_of
from lab.tabular import Tabular, readable, words
from lab.units import Record
from nas.search.rivals import RIVALS

DRAWS = 2_000  # of a bootstrap
FEWEST_SEEDS = 10  # a bootstrap of fewer is too narrow for a verdict
Gathered = dict[str, Any]


def gathered(table: Tabular, searches: Sequence[Record], runs: int, budget: int) -> Gathered:
    """Everything that docs/benchmark.md tells, as plain values.

    space: `whole`, or `readable` where the file holds no more than a differentiable search can end with. rivals: per task the mean curve
    and the regrets at the end, one per run. variants: per number of epochs and variant the cost in trainings, regrets [task][seed] and the
    difference to evolution at that cost.
    """
    whole = len(table.row) == len(words())
    space = words() if whole else readable()
    curves = {name: anytime(table, space, name, runs, budget) for name in RIVALS}
    rivals = {}
    for name, curve in curves.items():
        against = _difference(curve[:, :, -1], curves["evolution"][:, :, -1])
        rivals[name] = {"curve": _plain(curve.mean(1)), "final": _plain(curve[:, :, -1]), "less_evolution": against,
                        "mean": interval(curve[:, :, -1].mean(0))}  # fmt: skip
    return {
        "space": "whole" if whole else "readable", "words": len(space), "networks": len(table.names), "tasks": list(table.tasks),
        "runs": runs, "budget": budget, "diagnosis": diagnosis(table), "rivals": rivals,
        "variants": _variants(table, space, searches, curves["evolution"]),
    }  # fmt: skip


def _variants(
    table: Tabular, space: Sequence[str], searches: Sequence[Record], evolution: FloatArray
) -> dict[str, dict[str, Any]]:
    """Of the seeds that every task has: per number of epochs, per variant."""
    found: dict[str, dict[str, Any]] = {}
    for epochs in sorted({record.settings["search"]["epochs"] for record in searches}):
        mine = {
            (r.settings["task"], r.settings["seed"]): r.result
            for r in searches
            if r.settings["search"]["epochs"] == epochs
        }
        seeds = [s for s in sorted({seed for _, seed in mine}) if all((task, s) in mine for task in table.tasks)]
        if not seeds:
            continue
        told = {}
        for name in mine[table.tasks[0], seeds[0]]["found"]:
            each = [[mine[task, seed] for seed in seeds] for task in table.tasks]
            regret = np.array([
                [regret_of(table, space, task, result["found"][name]["test"]) for result in row]
                for task, row in zip(table.tasks, each, strict=True)
            ])  # fmt: skip
            cost = 1.0 + float(
                np.mean([result["found"][name]["seconds"] / result["training"] for row in each for result in row])
            )
            at = min(math.ceil(cost), evolution.shape[2]) - 1
            told[name] = {"cost": cost, "regret": _plain(regret), "mean": interval(regret.mean(0)),
                          "less_evolution": _difference(regret, evolution[:, :, at])}  # fmt: skip
        found[str(epochs)] = {"seeds": len(seeds), "variants": told}
    return found


def _difference(one: FloatArray, other: FloatArray) -> tuple[float, float, float]:
    """Of mean regrets over the tasks, with a 95% interval by a bootstrap of both. one, other: [task, run], runs independent."""
    rng = np.random.default_rng(0)
    a, b = one.mean(0), other.mean(0)
    drawn = [each[rng.integers(len(each), size=(DRAWS, len(each)))].mean(1) for each in (a, b)]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    return float(a.mean() - b.mean()), float(low), float(high)


def _plain(values: FloatArray) -> list[Any]:
    """Rounded; None for NaN, which JSON does not have."""
    kept = np.round(values, 4).astype(object)
    kept[np.isnan(values)] = None
    rounded: list[Any] = kept.tolist()
    return rounded


def verdict(difference: Sequence[float]) -> str:
    """What an interval of the difference to evolution says."""
    return "beats it" if difference[2] < 0.0 else "loses to it" if difference[1] > 0.0 else "not told apart"


def _judged(difference: Sequence[float], seeds: int) -> str:
    """`verdict`, where the seeds are enough for one."""
    return verdict(difference) if seeds >= FEWEST_SEEDS else "too few seeds"


def _told(value: Sequence[float]) -> str:
    return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"


def _signed(value: Sequence[float]) -> str:
    return f"{value[0]:+.2f} ({value[1]:+.2f} to {value[2]:+.2f})"


def markdown(found: Mapping[str, Any]) -> str:
    """Three tables: the tasks, the rivals at the end of their budget, the variants at their cost."""
    tasks = found["tasks"]
    rows = [
        [d["task"], f"{d['best']:.4f}", f"{d['median']:.4f}", f"{d['between_networks']:.0%}", f"{d['rank_correlation']:.2f}",
         f"{d['best_readable_regret']:.2f}", f"{1000 * d['seconds']:.0f}"] for d in found["diagnosis"]
    ]  # fmt: skip
    head = ["task", "best test loss", "median", "variance between networks", "rank correlation validation, test",
            "least regret that a differentiable search can reach", "ms a training"]  # fmt: skip
    parts = [_table(head, rows)]
    rows = [
        [name, _told(r["mean"]), *(f"{np.mean(final):.2f}" for final in r["final"]),
         "" if name == "evolution" else f"{verdict(r['less_evolution'])}: {_signed(r['less_evolution'])}"]
        for name, r in sorted(found["rivals"].items(), key=lambda item: float(item[1]["mean"][0]))
    ]  # fmt: skip
    parts.append(_table([f"rival, {found['budget']} trainings", "regret", *tasks, "against evolution"], rows))
    for epochs, group in found["variants"].items():
        rows = [
            [f"`{name}`", f"{v['cost']:.1f}", _told(v["mean"]), *(f"{np.mean(row):.2f}" for row in v["regret"]),
             f"{_judged(v['less_evolution'], group['seeds'])}: {_signed(v['less_evolution'])}"]
            for name, v in sorted(group["variants"].items(), key=lambda item: float(item[1]["mean"][0]))
        ]  # fmt: skip
        head = [
            f"variant, {epochs} epochs, {group['seeds']} seeds",
            "cost",
            "regret",
            *tasks,
            "against evolution at equal cost",
        ]
        parts.append(_table(head, rows))
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
