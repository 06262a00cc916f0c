"""What a trained network leans on: how much worse it forecasts where one input, or the output of one edge, comes at another time.

Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019) on unseen bars. What is permuted is turned in time by a random
number of bars, so that its own course is kept, and only its place beside the label is lost. The interval is of daily means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.network.cell import Cell
from nas.network.reference import reference_forward
from nas.network.stretches import FloatArray, with_presence

TURNS = 4  # random places per input or edge; their mean is what counts
ERRORS = 2.5  # standard errors of the interval: 98.5% where days are many, so that 95% hold where they are few and fat-tailed


@dataclass(frozen=True)
class Importance:
    """part: `input` or `edge`, and its number. lost: share of the label's mean square by which the squared error grows; low, high: its
    interval (`ERRORS` standard errors of daily means)."""

    part: str
    number: int
    lost: float
    low: float
    high: float


@torch.no_grad()
def importance(
    network: nn.Module,
    x: npt.NDArray[np.float32],
    known: npt.NDArray[np.bool_],
    labels: FloatArray,
    bars: slice,
    *,
    day_bars: int,
    seed: int,
    together: bool = False,
) -> list[Importance]:
    """Of every input, then of every edge of a network of cells, on `bars`.

    x: [asset, input, time], known: [asset, time], as `Scaler.apply` gives them. labels: [asset, time] of the first horizon, NaN where not
    known. day_bars: bars whose mean is one observation. together: the network reads all assets at once. Empty where fewer than
    three days have labels.
    """
    network = network.eval()
    begin = max(0, bars.start - int(network.receptive_field))  # type: ignore[arg-type]
    shown = torch.from_numpy(np.ascontiguousarray((with_presence(x, known) if together else x)[..., begin : bars.stop]))
    length = bars.stop - begin
    usable = known[:, bars] & np.isfinite(labels[:, bars])
    label = np.where(usable, labels[:, bars], 0.0)
    size = float((label**2).sum() / max(1, usable.sum()))
    if size <= 0.0:
        return []
    generator = np.random.default_rng([seed, 41])
    turns = generator.integers(max(1, length // 8), max(2, length - length // 8), TURNS).tolist()

    def daily(values: Tensor) -> FloatArray:
        """Squared error of forecasts, its mean per day: [day]."""
        error = np.where(usable, (values[:, 0, bars.start - begin :].numpy() - label) ** 2, 0.0).sum(0)
        starts = np.arange(0, error.size, day_bars)
        counts = np.add.reduceat(usable.sum(0), starts)
        found: FloatArray = np.add.reduceat(error, starts)[counts > 0] / counts[counts > 0]
        return found

    intact = daily(network(shown))
    if len(intact) < 3:
        return []

    def told(part: str, number: int, forecasts: Callable[[int], Tensor]) -> Importance:
        lost = (np.mean([daily(forecasts(turn)) for turn in turns], axis=0) - intact) / size
        mean, error = float(lost.mean()), float(lost.std(ddof=1)) / math.sqrt(len(lost))
        return Importance(part, number, mean, mean - ERRORS * error, mean + ERRORS * error)

    found = [told("input", k, partial(_turned_input, network, shown, k)) for k in range(x.shape[1])]
    cells = [module for module in network.modules() if isinstance(module, Cell)]
    for k in _edges(cells):
        found.append(told("edge", k, partial(_turned_edge, network, cells, shown, k)))
    return found


def _turned_input(network: nn.Module, x: Tensor, column: int, turn: int) -> Tensor:
    changed = x.clone()
    changed[..., column, :] = x[..., column, :].roll(turn, -1)
    out: Tensor = network(changed)
    return out


def _edges(cells: list[Cell]) -> Iterator[int]:
    """Places of the edges that carry anything; the cells of a network are alike."""
    if cells:
        yield from (k for k, (_, op) in enumerate(cells[0].entries) if op.kind != "zero")


def _turned_edge(network: nn.Module, cells: list[Cell], x: Tensor, place: int, turn: int) -> Tensor:
    """Forecasts where that edge of every cell passes on what it would have at another time."""

    def moved(k: int, out: Tensor) -> Tensor:
        return out.roll(turn, 0) if k == place else out

    for cell in cells:
        cell.forward = partial(reference_forward, cell, moved=moved)  # type: ignore[assignment]
    try:
        found: Tensor = network(x)
    finally:
        for cell in cells:
            del cell.forward  # the class's own again
    return found
