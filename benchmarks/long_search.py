"""Do long searches fill the cell with skips? `python -m benchmarks.long_search --seeds 8`.

A cell of three nodes is searched for 150 epochs on a label that two convolutions in a row made, so that every skip is wrong (`collapse` of
`benchmarks.recovery`). What is counted is the share of skips among the chosen connections, as the relaxed weights or the removals choose
and after undecided edges took the simpler of their two ops; a blind choice among the ops gives the chance. Beside it: the share of op
weights that end at 0 or 1 (below 0.15 or above 0.85), which is what `fair` is there for. With `--data` the same is asked of stretches
of real candles in the presets' space, where no op is known to be wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.recovery import COLLAPSE, TRAIN, VALIDATION, planted
from data.panel import Panel
from data.sources import load_panel
from lab.tasks import real
from nas.network.stretches import Tensors
from nas.search.decisions import resolved
from nas.search.loop import search
from nas.search.result import SearchResult
from nas.search.settings import SearchSettings
from nas.space.ops import SKIPS
from nas.space.search_space import SearchSpace

SPACES = {
    "wide": ("zero", "identity", "skip", "conv3", "dilated3", "ema4"),
    "narrow": ("identity", "separable3"),
}


REAL = "real"
ENDS = 0.15, 0.85  # a weight outside them has ended
Problem = tuple[Tensors, SearchSpace, slice, slice]


def problem(name: str, seed: int, history: Panel | None) -> Problem:
    """Inputs and label, space, training and validation bars: planted in a space of `SPACES`, or a stretch of real candles."""
    if history is not None:
        task = real(history, seed, space="large")
        return task.tensors, task.space, task.train, task.validation
    tensors, features = planted(COLLAPSE, seed)
    return tensors, SearchSpace(ops=SPACES[name], nodes=3, channels=8, features=features), TRAIN, VALIDATION


def at_the_ends(found: SearchResult) -> float:
    """Share of the op weights that took part (one that is exactly 0 was out of the race) below 0.15 or above 0.85."""
    weights = np.array([weight for row in found.op_weights for weight in row if weight > 0.0])
    return float(((weights < ENDS[0]) | (weights > ENDS[1])).mean())


def main(
    seeds: Annotated[int, typer.Option(help="Searches of each kind.", min=1)] = 8,
    first_seed: Annotated[int, typer.Option(help="Number of the first.", min=0)] = 0,
    variants: Annotated[str, typer.Option(help="Search variants, comma separated.")] = "darts,plus,pt,fair",
    epochs: Annotated[int, typer.Option(help="Passes of a search over its training stretch.", min=1)] = 150,
    ops: Annotated[str, typer.Option(help="wide, narrow or both, comma separated.")] = "wide,narrow",
    data: Annotated[Path | None, typer.Option(help="Hourly candles for real stretches.")] = None,
    finalists: Annotated[int, typer.Option(help="Of a last round that decides what is left open.", min=1)] = 1,
) -> None:
    torch.set_num_threads(1)
    settings = SearchSettings(
        epochs=epochs, learning_rate=1e-2, diagnostics_every=0, undecided="first", finalists=finalists
    )
    history = None if data is None else load_panel((data.name.split("_")[0].split(".")[0],), "60", files=(data,))
    print("ops     variant   chance  skips  simpler  at 0 or 1  by seed (epochs run)")
    for name in [*ops.split(","), *([REAL] if history is not None else [])]:
        for variant in variants.split(","):
            shares, simple, ends, told = [], [], [], []
            for seed in range(first_seed, first_seed + seeds):
                tensors, space, *stretches = problem(name, seed, history if name == REAL else None)
                found = search(space, tensors, *stretches, settings, seed, variant=variant)
                count = sum(len(row) for row in found.genotype.nodes)
                shares.append(found.genotype.skips / count)
                ends.append(at_the_ends(found))
                if found.decisions is not None and finalists == 1:  # a last round leaves nothing open
                    simple.append(resolved(found.genotype, found.decisions).skips / count)
                told.append(f"{shares[-1]:.0%} ({len(found.history)})")
            wanted = [op for op in space.ops if op != "zero"]
            chance = sum(op in SKIPS for op in wanted) / len(wanted)
            after = f"{np.mean(simple):7.0%}" if simple else "      -"
            print(
                f"{name:7} {variant:9} {chance:6.0%} {np.mean(shares):6.0%}  {after}  {np.mean(ends):9.0%}  {', '.join(told)}",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
