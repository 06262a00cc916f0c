"""From logits to mixing weights. Every relaxation maps [rows, choices] logits (`mask` false: no such choice) to weights of the same shape.

`draw` is the search's random generator. A relaxation without randomness ignores it, and every relaxation without a generator
gives its noiseless weights: what is reported, validated and discretised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from data.errors import InputError, known_word

Schedule = Literal["constant", "linear", "exponential", "cosine"]


@dataclass(frozen=True)
class Temperature:
    """Softmax temperature from `start` to `end` over a search. 1 is plain DARTS; towards 0 the softmax becomes an argmax."""

    start: float = 1.0
    end: float = 1.0
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        known_word("temperature schedule", self.schedule, get_args(Schedule))
        if self.start <= 0 or self.end <= 0:
            raise InputError(f"temperatures must be positive, not {self.start} and {self.end}")

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
    """Rows of choices out of one list of names each.

    rows: all names per row. kept: per row which of them may still be chosen (default: all).
    """

    def __init__(self, rows: Sequence[Sequence[str]], kept: Sequence[Sequence[bool]] | None = None) -> None:
        self.rows = tuple(tuple(r) for r in rows)
        width = max((len(r) for r in rows), default=1)
        self.mask = torch.zeros(len(self.rows), width, dtype=torch.bool)
        for k, row in enumerate(self.rows):
            self.mask[k, : len(row)] = torch.tensor([True] * len(row) if kept is None else list(kept[k]))
        self.shape = (len(self.rows), width)


Relaxation = Callable[[Tensor, Tensor, float, Generator | None], Tensor]


def softmax(logits: Tensor, mask: Tensor, temperature: float, draw: Generator | None = None) -> Tensor:
    """DARTS, equation 2, with temperature. logits, mask: [rows, choices]."""
    return torch.softmax((logits / temperature).masked_fill(~mask, float("-inf")), -1)


def sigmoid(logits: Tensor, mask: Tensor, temperature: float, draw: Generator | None = None) -> Tensor:
    """FairDARTS (Chu et al. 2020): each choice by itself, no competition."""
    return torch.sigmoid(logits / temperature) * mask


def perturbed(spread: float, around: Relaxation = softmax) -> Relaxation:
    """Weights of `around` plus uniform noise in [-spread, spread], back on the simplex: SDARTS-RS (Chen and Hsieh 2020). Choices that do
    not compete (`sigmoid`) go back between 0 and 1 instead."""

    def relax(logits: Tensor, mask: Tensor, temperature: float, draw: Generator | None = None) -> Tensor:
        weights = around(logits, mask, temperature, draw)
        if draw is None:
            return weights
        noise = (2.0 * torch.rand(weights.shape, generator=draw) - 1.0).to(weights.dtype) * spread
        moved = (weights + noise).clamp_min(0.0) * mask
        if around is sigmoid:
            return moved.clamp_max(1.0)
        total = moved.sum(-1, keepdim=True)
        return torch.where(total > 0, moved / total.clamp_min(1e-12), weights)

    return relax


def sampled(logits: Tensor, mask: Tensor, temperature: float, draw: Generator | None = None) -> Tensor:
    """One choice per row by the Gumbel-max trick, gradient of the softmax: GDAS (Dong and Yang 2019), straight through.

    Noiseless: one-hot on the largest logit.
    """
    if draw is not None:
        uniform = torch.rand(logits.shape, generator=draw).to(logits.dtype).clamp(1e-9, 1.0 - 1e-7)
        logits = torch.log_softmax(logits.masked_fill(~mask, float("-inf")), -1) - torch.log(-torch.log(uniform))
    soft = softmax(logits, mask, temperature)
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


def reinmax(logits: Tensor, mask: Tensor, temperature: float, draw: Generator | None = None) -> Tensor:
    """One choice per row drawn from the softmax, gradient of second order in it: ReinMax (Liu et al. 2023, Bridging Discrete and
    Backpropagation, algorithm 2). Noiseless: the softmax at `temperature`, which is 1 or more.

    With D the draw and p the softmax: the gradient is that of 2 softmax at (p_temperature + D) / 2, less half of that of p.
    """
    tempered = softmax(logits, mask, temperature)
    if draw is None:
        return tempered
    soft = softmax(logits, mask, 1.0)
    drawn = torch.multinomial(soft.detach(), 1, generator=draw)
    return straight(logits, mask, soft, tempered, torch.zeros_like(soft).scatter(-1, drawn, 1.0))


def straight(logits: Tensor, mask: Tensor, soft: Tensor, tempered: Tensor, hard: Tensor) -> Tensor:
    """The one-hot `hard` with the gradient of ReinMax by `logits`. soft, tempered: their softmax at 1 and at the temperature."""
    middle = (0.5 * (tempered + hard)).detach().log() + (logits - logits.detach())
    carrier = 2.0 * torch.softmax(middle.masked_fill(~mask, float("-inf")), -1) - 0.5 * soft
    return hard + (carrier - carrier.detach())


def dirichlet(logits: Tensor, mask: Tensor, temperature: float, draw: Generator | None = None) -> Tensor:
    """Weights drawn from a Dirichlet of concentration elu(logit) + 1, gradient through the draw: DrNAS (Chen et al. 2021, section 3.1).

    Noiseless: the softmax, by which its code reads the cell off. A row of which some choices are out of the race is drawn whole and scaled,
    which is the Dirichlet of those that are left.
    """
    if draw is None:
        return softmax(logits, mask, temperature)
    seed = int(torch.randint(2**31, (1,), generator=draw))
    with torch.random.fork_rng(devices=[]):  # torch's own draw takes no generator
        torch.manual_seed(seed)
        drawn: Tensor = torch.distributions.Dirichlet(torch.nn.functional.elu(logits) + 1.0).rsample()
    kept = drawn * mask
    return kept / kept.sum(-1, keepdim=True).clamp_min(1e-12)


def uniform_path(logits: Tensor, mask: Tensor, temperature: float, draw: Generator | None = None) -> Tensor:
    """One choice per row, all equally likely: random search with weight sharing (Li and Talwalkar 2019). Noiseless: all equal."""
    if draw is None:
        return mask / mask.sum(-1, keepdim=True).clamp_min(1)
    score = torch.rand(logits.shape, generator=draw).masked_fill(~mask, -1.0)
    return torch.zeros(logits.shape, dtype=logits.dtype).scatter(-1, score.argmax(-1, keepdim=True), 1.0)


def edge_softmax(logits: Tensor, targets: Tensor, nodes: int) -> Tensor:
    """Softmax over the edges that enter the same node: PC-DARTS's edge normalisation (Xu et al. 2020, equation 3).

    logits, targets: [edges]; targets[e] is the node that edge e enters. Returns [edges], summing to 1 per node.
    """
    table = logits.new_full((nodes, len(logits)), float("-inf"))
    place = (targets, torch.arange(len(logits)))
    filled = table.index_put(place, logits)
    return torch.softmax(filled, -1)[place]
