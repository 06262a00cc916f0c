"""Functions that treat every bar by itself, computed in blocks of bars whose intermediate values are not kept.

What such a function holds between its inputs and its outputs (scores of all pairs of assets, say) may be many times larger than both.
In blocks it stays in the processor's cache, and on the way back it is computed again instead of remembered (Chen et al. 2016, "Training
deep nets with sublinear memory cost"): memory grows with inputs and outputs only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK_VALUES = (
    2**19
)  # of the largest intermediate in one block, 2 MiB: larger ones leave the cache, smaller ones cost calls

PerBar = Callable[..., tuple[Tensor, ...]]


def per_bar(function: PerBar, values_per_bar: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    """function(*inputs), all tensors [time, ...], every bar from the inputs of that bar alone. Differentiable as often as needed.

    values_per_bar: size of the function's largest intermediate at one bar. Short inputs go through the function as they are.
    """
    block = max(1, BLOCK_VALUES // values_per_bar)
    if len(inputs[0]) <= block:
        return function(*inputs)
    return _Blocks.apply(function, block, *inputs)  # type: ignore[no-untyped-call, no-any-return]


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: PerBar, block: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.function, ctx.block = function, block
        ctx.save_for_backward(*inputs)
        blocks = [function(*part) for part in _parts(inputs, block)]
        return tuple(torch.cat(part) for part in zip(*blocks, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # the derivative treats every bar by itself, too: the second derivative is the derivative of this one
        needed = ctx.needs_input_grad[2:]
        inputs = ctx.saved_tensors
        found = iter(_Blocks.apply(_derivative(ctx.function, needed), ctx.block, *inputs, *grads))  # type: ignore[no-untyped-call]
        return (None, None, *(next(found) if need else None for need in needed))


def _parts(inputs: Sequence[Tensor], block: int) -> Iterator[tuple[Tensor, ...]]:
    for start in range(0, len(inputs[0]), block):
        yield tuple(x[start : start + block] for x in inputs)


def _derivative(function: PerBar, needed: Sequence[bool]) -> PerBar:
    """(*inputs, *gradients of the outputs) -> gradients of the inputs that need one."""

    def derivative(*arguments: Tensor) -> tuple[Tensor, ...]:
        inputs, grads = arguments[: len(needed)], arguments[len(needed) :]
        again = torch.is_grad_enabled()  # inside a second derivative, which passes through here
        with torch.enable_grad():
            if not again:
                inputs = tuple(x.detach().requires_grad_(need) for x, need in zip(inputs, needed, strict=True))
            wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
            return torch.autograd.grad(
                function(*inputs), wanted, grads, create_graph=again, allow_unused=True, materialize_grads=True
            )

    return derivative
