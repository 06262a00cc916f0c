"""Does a search that decides decide alike from other starting weights, and does it say so where there is nothing to decide?

The searches are those of the presets: space, proxy, lengths, rates and repeats come from `strategies.walkforward.config`. A *run* is what a
user gets of one window: one search with its repeats, or all the seeds of a preset that has several.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lab.tables import markdown
from lab.tasks import INPUTS, OPS, planted_label
from lab.units import Record, Result, Unit, grouped
from nas.network.model import network_of
from nas.network.stretches import Tensors
from nas.search.decisions import Decisions, merged
from nas.search.loop import search
from nas.space.genotype import Connection, Genotype
from nas.space.ops import DEFAULT_OPS
from nas.space.search_space import SearchSpace
from strategies.walkforward.config import bars_of, resolve
from strategies.walkforward.policies import Competition

#: ops that one edge is made of, one problem each; what a node of the cell is made of: `lab.tasks`
PLANTED = ("identity", "conv3", "dilated3", "ema4", "ema12", "ema36", "diff1", "attention")
KINDS = ("one edge", "cell", "noise")
PRESETS = ("quick", "default")
RUNS = 5  # per window, from other seeds
STRENGTH = {"one edge": 0.5, "cell": 0.3, "noise": 0.0}
SEED_STEP = 1_000  # between the runs of a window


def units(seeds: int, presets: Sequence[str] = PRESETS, kinds: Sequence[str] = KINDS, first: int = 0) -> list[Unit]:
    """seeds: problems of each kind (of one edge: one per op and seed), numbered from `first`."""
    found = []
    for seed in range(first, first + seeds):
        for preset, kind in itertools.product(presets, kinds):
            for op in PLANTED if kind == "one edge" else ("",):
                name = f"{preset}-{kind.replace(' ', '-')}-{seed:03d}" + (f"-{op}" if op else "")
                runs = 1 if kind == "noise" else RUNS
                found.append(Unit(name, {"preset": preset, "kind": kind, "seed": seed, "op": op, "runs": runs}))
    return found


def problem(kind: str, op: str, seed: int, bars: int) -> tuple[Tensors, SearchSpace]:
    """Inputs of white noise, and a label that one op, a cell of two nodes or nothing made of them."""
    if kind != "one edge":
        x, label = planted_label(seed, STRENGTH[kind], bars)
        space = SearchSpace(ops=OPS, features=tuple((f"input{k}", ("raw",)) for k in range(INPUTS)))
        return Tensors(x, label, torch.ones(1, 1, bars)), space
    features = tuple((f"input{k}", "raw") for k in range(2))
    teacher = network_of(Genotype(((Connection(op, 0),),), 4, 1, (1,), features), 1_000 + seed)
    rng = np.random.default_rng([seed, 31])
    x = torch.from_numpy(rng.standard_normal((1, 2, bars)).astype(np.float32))
    with torch.no_grad():
        for name, weight in teacher.named_parameters():
            if "attention" in name:
                weight.mul_(3.0)  # a fresh attention hardly differs from a mean; a trained one is sharp
        signal = teacher(x)[0, 0].double().numpy()
    strength = STRENGTH[kind]
    label = (signal - signal.mean()) / signal.std() * strength**0.5 + rng.standard_normal(bars) * (1 - strength) ** 0.5
    space = SearchSpace(ops=DEFAULT_OPS, nodes=1, features=tuple((name, (pipeline,)) for name, pipeline in features))
    return Tensors(x, torch.from_numpy(label.astype(np.float32))[None, None], torch.ones(1, 1, bars)), space


def compute(unit: Unit) -> Result:
    """What every run of the window claims."""
    torch.set_num_threads(1)
    asked = unit.settings
    config = resolve(asked["preset"], None, {})
    settings = replace(Competition.settings_of(config)[0], diagnostics_every=0)
    train, validation = (bars_of(getattr(config, name), 3_600 * 10**9, name) for name in ("train", "validation"))
    space = SearchSpace(nodes=config.nodes, cell_inputs=config.cell_inputs)  # for the longest that any looks back
    gap = space.receptive_field + 2
    tensors, space = problem(asked["kind"], asked["op"], asked["seed"], 2 * gap + train + validation)
    space = replace(
        space, channels=config.channels, search_channels=config.search_channels, search_cells=config.search_cells
    )
    if asked["kind"] != "one edge":
        space = replace(space, nodes=config.nodes, cell_inputs=config.cell_inputs)
    parts = slice(gap, gap + train), slice(2 * gap + train, 2 * gap + train + validation)
    runs = []
    for run in range(asked["runs"]):
        found: list[Decisions] = []
        for seed in range(config.seeds):
            result = search(
                space, tensors, *parts, settings, asked["seed"] + SEED_STEP * run + seed, variant=config.variant[0]
            )
            if result.decisions is not None:
                found.append(result.decisions)
        runs.append(merged(found).to_dict())
    return {"runs": runs, "ops": len(space.ops) - ("zero" in space.ops)}


def decided(run: dict[str, Any]) -> dict[tuple[int, int], str]:
    """Edge -> op, of the claims that stand."""
    return {(c["source"], c["node"]): c["first"] for c in run["claims"] if c["decided"]}


def decisions_table(found: Sequence[Record]) -> tuple[str, str]:
    """(verdict, text and table)."""
    rows, verdicts = [], []
    for (kind, preset), mine in grouped(found, "kind", "preset").items():
        runs = [[decided(run) for run in record.result["runs"]] for record in mine]
        count = sum(map(len, runs))
        nothing = sum(not run for each in runs for run in each)
        stand = sum(len(run) for each in runs for run in each)
        same = [a[e] == b[e] for each in runs for a, b in itertools.combinations(each, 2) for e in a.keys() & b.keys()]
        right = [
            run[0, 0] == record.settings["op"]
            for record, each in zip(mine, runs, strict=True)
            if kind == "one edge"
            for run in each
            if (0, 0) in run
        ]
        agreement = f"{np.mean(same):.0%} of {len(same)}" if same else "no edge decided twice"
        edges = len(mine[0].result["runs"][0]["claims"])
        rows.append(
            [preset, kind, str(len(mine)), str(count), f"{stand / count:.2f} of {edges}", agreement,
             f"{np.mean(right):.0%}" if right else "", f"{nothing / count:.0%}"]
        )  # fmt: skip
        if kind == "noise":
            verdicts.append(f"{preset}, noise: {nothing / count:.0%} of {count} runs say that nothing was decided.")
        else:
            verdicts.append(
                f"{preset}, {kind}: on edges decided by two runs of one window they name the same op in {agreement}."
            )
    chance = f"one in {len(OPS) - 1} to {len(DEFAULT_OPS) - 1}"
    text = (
        "A run is what a user gets of one window: one search with its repeats (`quick`), or the seeds of the preset together (`default`). "
        f"Five runs of every planted window, from other seeds; ops agree by chance in {chance}. `one edge`: half of the label's variance "
        "comes from one op, and there is one edge to put it on. `cell`: the space of the preset (4 nodes, 14 edges), the label from a cell "
        "of two nodes, 30% of its variance. `noise`: the same space, nothing to be found.\n\n"
    )
    head = [
        "preset", "problem", "windows", "runs", "edges decided per run", "same op on edges decided by two runs",
        "decided op is the planted one", "runs that say nothing was decided",
    ]  # fmt: skip
    return "\n".join(verdicts), text + markdown(head, rows)
