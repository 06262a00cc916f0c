"""Peak memory of one forward and backward pass of the supernet, plain and with partial channels: `python -m benchmarks.partial_memory`.

Each measurement is a process of its own; what is told is how far its peak resident memory rises above that of a pass over a short stretch.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

SHORT, LONG = 64, 40_000  # bars


def one(partial: int, bars: int) -> None:
    import torch

    from nas.search.supernet import Architecture, supernet_of
    from nas.space.search_space import SearchSpace
    from nas.tasks.memory import peak_mib

    torch.set_num_threads(1)
    space = SearchSpace(channels=16, features=tuple((f"input{k}", ("raw",)) for k in range(4)))
    architecture = Architecture(space, generator=torch.Generator().manual_seed(0), normalised=partial > 1)
    network = supernet_of(space, 0, partial=partial)
    network(torch.randn(1, 4, bars), *architecture.mix()).square().mean().backward()
    sys.stdout.write(f"{peak_mib()}\n")


def measured(partial: int) -> float:
    """MiB above the process's own size."""
    command = [sys.executable, "-m", "benchmarks.partial_memory", "--only", str(partial)]
    peaks = [
        float(subprocess.run([*command, str(bars)], check=True, capture_output=True, text=True).stdout)
        for bars in (SHORT, LONG)
    ]
    return peaks[1] - peaks[0]


def main(
    only: Annotated[
        tuple[int, int], typer.Option(help="Partial channels and bars of one measurement.", hidden=True)
    ] = (0, 0),
) -> None:
    """Memory of one pass through the supernet, all channels against a quarter of them."""
    if only[0]:
        one(*only)
        return
    plain, partial = measured(1), measured(4)
    print(
        f"peak of one pass over {LONG} bars: all channels {plain:.0f} MiB, a quarter {partial:.0f} MiB, {partial / plain:.0%}"
    )


if __name__ == "__main__":
    typer.run(main)
