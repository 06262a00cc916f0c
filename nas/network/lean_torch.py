"""torch's optimisers without its compiler: making one and stepping it imports torch._dynamo and sympy, two seconds of processor time in
every process, although nothing here is compiled.

And one step of descent without what `backward`, `zero_grad` and `clip_grad_norm_` do besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def _plain(method: Any) -> Any:
    """What `functools.wraps` wrapped; the method itself where a later torch has no such wrapper."""
    return getattr(method, "__wrapped__", method)


# torch/_compile.py imports the compiler only to learn that a method is not to be compiled; it looks for this attribute first
for _method in list(vars(torch.optim.Optimizer).values()):
    if hasattr(_method, "__wrapped__") and not hasattr(_method.__wrapped__, "__dynamo_disable"):
        _method.__wrapped__.__dynamo_disable = _method.__wrapped__


# the wrapper around `step` turns gradients off and tells the compiler to break its graph there; only the first part is needed
class AdamW(torch.optim.AdamW):
    """torch.optim.AdamW, step for step."""

    step = torch.no_grad()(_plain(torch.optim.AdamW.step))


class Adam(torch.optim.Adam):
    """torch.optim.Adam, step for step."""

    step = torch.no_grad()(_plain(torch.optim.Adam.step))


class SGD(torch.optim.SGD):
    """torch.optim.SGD, step for step."""

    step = torch.no_grad()(_plain(torch.optim.SGD.step))


def clip_factor(gradients: Sequence[Tensor], limit: float) -> Tensor:
    """What a gradient is multiplied by so that its norm over all tensors stays below `limit`; at most 1."""
    norm = torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in gradients]))
    factor: Tensor = (limit / (norm + 1e-6)).clamp(max=1.0)
    return factor


def descend(optimiser: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], loss: Tensor, clip: float) -> float:
    """One step of `optimiser` down `loss`, gradients clipped to the norm `clip`. Returns the loss before the step."""
    step_down(optimiser, parameters, torch.autograd.grad(loss, parameters, allow_unused=True), clip)
    return loss.item()


def step_down(
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    gradients: Sequence[Tensor | None],
    clip: float,
) -> None:
    """One step of `optimiser` along `gradients`, clipped to the norm `clip`; what it is given are its own to change."""
    used = [g for g in gradients if g is not None]
    torch._foreach_mul_(used, clip_factor(used, clip))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


@contextmanager
def one_thread() -> Iterator[None]:
    """The same bytes whatever runs beside; networks this small are fastest on one thread anyway."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
