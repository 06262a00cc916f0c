"""From logits to mixing weights. Every relaxation maps [rows, choices] logits (padding masked) to weights of the same shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Schedule = Literal["constant", "linear", "exponential", "cosine"]


@dataclass(frozen=True)
class Temperature:
    """Softmax temperature from `start` to `end` over a search. 1 is plain DARTS; towards 0 the softmax becomes an argmax."""

    start: float = 1.0
    end: float = 1.0
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        if self.start <= 0 or self.end <= 0:
            raise ValueError(f"temperatures must be positive, not {self.start} and {self.end}")

    def at(self, progress: float) -> float:
        """progress in [0, 1] -> temperature."""
        if self.schedule == "constant":
            return self.start
        if self.schedule == "linear":
            return self.start + (self.end - self.start) * progress
        if self.schedule == "exponential":
            return float(self.start * (self.end / self.start) ** progress)
        return self.end + 0.5 * (self.start - self.end) * (1.0 + math.cos(math.pi * progress))


class Choices:
    """Rows of choices of unequal length, padded to one matrix; `flat` order is row by row without padding."""

    def __init__(self, rows: tuple[tuple[str, ...], ...]) -> None:
        self.rows = rows
        width = max((len(r) for r in rows), default=1)
        self.mask = torch.tensor([[k < len(r) for k in range(width)] for r in rows]).view(len(rows), width)
        self.shape = (len(rows), width)

    def flat(self, padded: Tensor) -> Tensor:
        """[rows, width] -> [sum of lengths]."""
        return padded[self.mask]


Relaxation = Callable[[Tensor, Tensor, float], Tensor]


def softmax(logits: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """DARTS, equation 2, with temperature. logits, mask: [rows, choices]."""
    return torch.softmax((logits / temperature).masked_fill(~mask, float("-inf")), -1)


def sigmoid(logits: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """FairDARTS (Chu et al. 2020): each choice by itself, no competition."""
    return torch.sigmoid(logits / temperature) * mask
