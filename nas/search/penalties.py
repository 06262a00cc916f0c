"""Penalties on the architecture: terms that push its logits beside the validation loss, in sizes of its gradient (`nas.search.forces`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import sqrt

import torch
from torch import Tensor

from data.errors import InputError
from nas.network.cell import Cell, Edge
from nas.search.supernet import Architecture
from nas.space.ops import get_op
from nas.space.search_space import SearchSpace

Regulariser = Callable[
    [Architecture, float], Tensor
]  # (architecture, progress in [0, 1]) -> scalar added to the validation loss


def zero_one(weight: float) -> Regulariser:
    """-(sigmoid - 1/2)^2 of every choice, pushing it to yes or no (FairDARTS, Chu et al. 2020, equation 6).

    weight: its largest push on a logit at the end of the search, in sizes of the gradient of the validation loss (`nas.search.forces`);
    it grows from 0, so that the data speak first. `none` and `zero` carry nothing and are left where they start: at 1/2 `none` is the
    bar that a pipeline has to clear.
    """
    # the slope of (s - 1/2)^2 by the logit is 2 (s - 1/2) s (1 - s): at most 1 / (6 sqrt 3)
    steepest = 6.0 * sqrt(3.0)

    def loss(architecture: Architecture, progress: float) -> Tensor:
        named = torch.tensor([name != "zero" for name in architecture.space.ops])
        ops = architecture.op_weights()[architecture.op_choices.mask & named]
        features = architecture.feature_weights()[architecture.is_pipeline]
        return -weight * steepest * progress * torch.stack([(w - 0.5).square().sum() for w in (ops, features)]).sum()

    return loss


def beta_decay(weight: float) -> Regulariser:
    """progress * log sum exp alpha of every edge and input: Beta-DARTS (Ye et al. 2022, equation 11), growing linearly.

    weight: what it takes off a logit that outweighs all others at the end, in sizes of the gradient (`nas.search.forces`).
    """

    def loss(architecture: Architecture, progress: float) -> Tensor:
        masked = [
            logits.masked_fill(~choices.mask, float("-inf")).logsumexp(-1).sum()
            for logits, choices in (
                (architecture.ops, architecture.op_choices),
                (architecture.features, architecture.feature_choices),
            )
            if len(logits)
        ]
        return weight * progress * torch.stack(masked).sum()

    return loss


def expected(weight: float, cost: Callable[[Architecture], Sequence[float]]) -> Regulariser:
    """Expected cost of the mix, sum over edges of op weight x cost: the form in which ProxylessNAS prices latency (Cai et al. 2019,
    equation 2) and FBNet (Wu et al. 2019, equation 3, its beta = 1).

    weight: what it takes off the logit of the dearest op where that and a free op share an edge evenly, times 4, in sizes of the gradient.
    cost: per op of the space, the dearest 1.
    """

    def loss(architecture: Architecture, progress: float) -> Tensor:
        del progress  # a price is the same from the first step on
        return weight * (architecture.op_weights() * torch.tensor(cost(architecture))).sum()

    return loss


def parameters(weight: float) -> Regulariser:
    """`expected` with an op's share of the parameters of the largest one."""
    return expected(weight, lambda architecture: shares(architecture.space.ops))


def latency(weight: float) -> Regulariser:
    """`expected` with an op's share of the time of the slowest one (`times`)."""
    return expected(weight, lambda architecture: times(architecture.space, architecture.op_costs))


def times(space: SearchSpace, measured: Mapping[str, float]) -> list[float]:
    """Per op of the space its time over that of the slowest: as measured, or where nothing is given as modelled from counted work
    (`Op.nanoseconds`), which no load of a machine changes. InputError for a table that lacks an op."""
    lacking = [name for name in space.ops if measured and name not in measured and name != "zero"]
    if lacking:
        raise InputError(
            f"op_costs lacks {', '.join(lacking)}; give every op of the space a time, or no op_costs for the counted ones"
        )
    spent = [measured.get(name, 0.0) for name in space.ops] if measured else counted(space.ops, space.channels)
    return [each / (max(spent) or 1.0) for each in spent]


@cache  # asked for in every step
def counted(ops: tuple[str, ...], channels: int) -> list[float]:
    """Per op its modelled nanoseconds a bar."""
    return [get_op(name).nanoseconds(channels) for name in ops]


@cache  # asked for in every step
def shares(ops: tuple[str, ...], channels: int = 4) -> tuple[float, ...]:
    """Per op its parameters on one edge over those of the largest; zeros where no op has any."""
    counts = [sum(p.numel() for p in Cell([Edge(0, 0, (op,))], 1, channels).parameters()) for op in ops]
    return tuple(count / max(1, *counts) for count in counts)
