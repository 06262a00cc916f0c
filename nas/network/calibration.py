"""Equally loud ops: gains measured on the training bars, then frozen.

Ops have unit gain for white inputs, and inputs of markets are not white: an average over 36 bars of log volume is 4.7 times as loud as the
input itself, a difference over one bar a tenth. What is loud counts more in a mixture whatever it is worth, and gets the larger gradient.
So every op of a fresh network is heard once on a sample of the training bars, node by node, and its factor (`Cell.calibration`) brings its
output to the spread of its input. Spread is the standard deviation over time: a level moves nothing. The factors are saved with the
weights; nothing changes them later, and no bar outside the training stretch is read but the context before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nas.network.cell import Cell
from nas.network.reference import reference_forward
from nas.network.stretches import Tensors, spread

SAMPLE_BARS, STRETCH_BARS = 4_096, 256
MOST = 20.0  # a factor beyond it would amplify what is all but constant


@torch.no_grad()
def calibrate(
    network: nn.Module, tensors: Tensors, parts: Sequence[slice], *mix: Tensor | None, context: int | None = None
) -> None:
    """Set the factors of every cell of a fresh network from the bars `parts`. mix: of a supernet; context: bars heard before a stretch
    (None: the network's receptive field). Networks without cells stay as they are."""
    cells = [module for module in network.modules() if isinstance(module, Cell)]
    if not cells:
        return
    reach = int(network.receptive_field) if context is None else context  # type: ignore[arg-type]
    x = spread(tensors, parts, STRETCH_BARS, reach, SAMPLE_BARS // STRETCH_BARS)[0]

    def hear(cell: Cell, k: int, before: Tensor, after: Tensor) -> None:
        loud, wanted = (part[reach:].std((0, 1)).square().mean().sqrt() for part in (after, before))
        if float(loud) > 0.0 and float(wanted) > 0.0:  # silent: zero, and what joins after the node's norm
            cell.calibration[k] = (wanted / loud).clamp(1.0 / MOST, MOST)

    for cell in cells:
        cell.forward = partial(reference_forward, cell, measured=partial(hear, cell))  # type: ignore[assignment]
    try:
        network(x, *mix)
    finally:
        for cell in cells:
            del cell.forward  # the class's own again
