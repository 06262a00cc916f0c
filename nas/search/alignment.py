"""Cells that want the same ops: the regulariser of Lambda-DARTS (Movahedi et al. 2023, arXiv 2210.07998).

The cells of a supernet share one alpha, and the gradients by it that they contribute may point apart; then the deepest cell decides, and it
likes skips. The network's weights are pushed to where those gradients correlate: lambda times the gradient of their mean cosine, by central
differences along `directions`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LENGTH = 1e-3  # of the step of the differences, over all cells (epsilon_0 of its code)


def mean_cosine(gradients: Sequence[Tensor]) -> Tensor:
    """Over all pairs of cells. gradients: one flat tensor per cell, two at least."""
    units = torch.stack([g / torch.linalg.vector_norm(g) for g in gradients])
    products = units @ units.t()
    count = len(gradients)
    return (products.sum() - products.diagonal().sum()) / (count * (count - 1))


def directions(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Per cell the gradient of `mean_cosine` by what the cell contributes (equation 9): what lies across its own direction of the sum of
    all directions, over its length and the number of pairs."""
    count = len(gradients)
    units = [g / torch.linalg.vector_norm(g) for g in gradients]
    total = torch.stack(units).sum(0)
    pairs = count * (count - 1) / 2
    return [
        (total - unit * (unit @ total)) / (torch.linalg.vector_norm(g) * pairs)
        for g, unit in zip(gradients, units, strict=True)
    ]
