"""The weights of the ops moved to where the network serves them worst: SDARTS-ADV (Chen and Hsieh 2020, arXiv 2002.05283, equation 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 7  # of its code: seven steps of 2 spread / 7


def attacked(
    loss: Callable[[Tensor], Tensor],
    weights: Tensor,
    mask: Tensor,
    spread: float,
    noise: Tensor,
    *,
    compete: bool = True,
    steps: int = STEPS,
) -> Tensor:
    """Weights within `spread` of `weights` of nearly the largest loss, by signed gradients from a random start; `weights` themselves where
    that does not raise the loss.

    weights, mask, noise: [rows, choices]; noise in [-spread, spread] is the start. compete: rows go back onto the simplex, else between 0
    and 1. loss: of such weights, scalar. The result carries no gradient.
    """
    start = weights.detach()
    with torch.no_grad():
        before = loss(start)
    moved = _back(start + noise, mask, compete)
    for _ in range(steps):
        moved.requires_grad_()
        (slope,) = torch.autograd.grad(loss(moved), [moved])
        stepped = moved.detach() + 2.0 * spread / steps * slope.sign()
        moved = _back(start + (stepped - start).clamp(-spread, spread), mask, compete)
    with torch.no_grad():
        return start if before > loss(moved) else moved


def _back(weights: Tensor, mask: Tensor, compete: bool) -> Tensor:
    """Between 0 and 1, rows summing to 1 where choices compete; a row of which nothing is left becomes its largest choice."""
    inside = weights.clamp(0.0, 1.0) * mask
    if not compete:
        return inside
    largest = torch.zeros_like(weights).scatter(
        -1, weights.masked_fill(~mask, float("-inf")).argmax(-1, keepdim=True), 1.0
    )
    inside = torch.where(inside.sum(-1, keepdim=True) == 0.0, largest, inside)
    return inside / inside.sum(-1, keepdim=True)
