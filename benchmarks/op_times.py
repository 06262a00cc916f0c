"""`python -m benchmarks.op_times`: time of every op on one edge, counted and measured, and the measured ones as a table for `op_costs`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import spearmanr

from benchmarks.speed_search import seconds
from benchmarks.tables import say, table
from nas.network.cell import Cell, Edge
from nas.space.ops import DEFAULT_OPS, OPS, get_op

BARS, BATCH = 512, 4  # of a stretch, as searches have it


def measured(name: str, channels: int, least_s: float) -> float:
    """Nanoseconds a bar of a cell with this op alone, forward; node, norm and calls of torch included."""
    torch.manual_seed(0)
    cell, x = Cell([Edge(0, 0, (name,))], 1, channels), torch.randn(BARS, BATCH, channels)
    with torch.no_grad():
        return 1e9 * seconds(lambda: cell(x), least_s) / (BARS * BATCH)


def main(
    channels: Annotated[int, typer.Option(help="Of the network.")] = 16,
    least: Annotated[float, typer.Option(help="Seconds of each measurement.")] = 0.3,
    every: Annotated[bool, typer.Option("--every", help="All ops of one asset, not the default ones.")] = False,
) -> None:
    """Counted beside measured, their rank correlation, and the measured table in TOML, for a file that --config names."""
    torch.set_num_threads(1)
    chosen = [op.name for op in OPS.values() if not op.across] if every else list(DEFAULT_OPS)
    names = [name for name in chosen if name != "zero"]
    # what a cell costs without its op: that of the cheapest
    plain = measured("skip", channels, least)
    found = {name: max(0.0, measured(name, channels, least) - plain) for name in names}
    rows = [[name, f"{get_op(name).nanoseconds(channels):.1f}", f"{found[name]:.1f}"] for name in names]
    say(table(["op", "counted ns a bar", "measured, above a skip"], rows))
    say(f"rank correlation {spearmanr(list(found.values()), [float(row[1]) for row in rows]).statistic:.2f}")
    say("\n[op_costs]")
    for name, spent in found.items():
        say(f"{name} = {np.round(spent, 1)}")


if __name__ == "__main__":
    typer.run(main)
