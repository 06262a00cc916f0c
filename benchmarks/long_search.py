"""Do long searches fill the cell with skips? `python -m benchmarks.long_search --seeds 8`.

A cell of three nodes is searched for 150 epochs on a label that two convolutions in a row made, so that every skip is wrong (`collapse` of
`benchmarks.recovery`). What is counted is the share of skips among the chosen connections, as the relaxed weights or the removals choose
and after undecided edges took the simpler of their two ops; a blind choice among the ops gives the chance.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.recovery import COLLAPSE, TRAIN, VALIDATION, planted
from nas.search.decisions import resolved
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.ops import SKIPS
from nas.space.search_space import SearchSpace

SPACES = {
    "wide": ("zero", "identity", "skip", "conv3", "dilated3", "ema4"),
    "narrow": ("identity", "separable3"),
}


def main(
    seeds: Annotated[int, typer.Option(help="Searches of each kind.", min=1)] = 8,
    first_seed: Annotated[int, typer.Option(help="Number of the first.", min=0)] = 0,
    variants: Annotated[str, typer.Option(help="Search variants, comma separated.")] = "darts,plus,pt,fair",
    epochs: Annotated[int, typer.Option(help="Passes of a search over its training stretch.", min=1)] = 150,
    ops: Annotated[str, typer.Option(help="wide, narrow or both, comma separated.")] = "wide,narrow",
) -> None:
    torch.set_num_threads(1)
    settings = SearchSettings(epochs=epochs, learning_rate=1e-2, diagnostics_every=0, undecided="first")
    print("ops     variant   chance  skips  simpler  by seed (epochs run)")
    for name in ops.split(","):
        chosen = SPACES[name]
        wanted = [op for op in chosen if op != "zero"]
        chance = sum(op in SKIPS for op in wanted) / len(wanted)
        for variant in variants.split(","):
            shares, simple, told = [], [], []
            for seed in range(first_seed, first_seed + seeds):
                tensors, features = planted(COLLAPSE, seed)
                space = SearchSpace(ops=chosen, nodes=3, channels=8, features=features)
                found = search(space, tensors, TRAIN, VALIDATION, settings, seed, variant=variant)
                count = sum(len(row) for row in found.genotype.nodes)
                shares.append(found.genotype.skips / count)
                if found.decisions is not None:
                    simple.append(resolved(found.genotype, found.decisions).skips / count)
                told.append(f"{shares[-1]:.0%} ({len(found.history)})")
            after = f"{np.mean(simple):7.0%}" if simple else "      -"
            print(f"{name:7} {variant:9} {chance:6.0%} {np.mean(shares):6.0%}  {after}  {', '.join(told)}", flush=True)


if __name__ == "__main__":
    typer.run(main)
