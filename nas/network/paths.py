"""Which functions compute blocks and attention: the CPU's kernels, or torch's own, which any device and `torch.func.vmap` know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_torch_only = ContextVar("torch_only", default=False)


def by_kernels(x: Tensor) -> bool:
    """Whether the CPU's kernels compute on x."""
    return x.device.type == "cpu" and not _torch_only.get()


@contextmanager
def torch_only() -> Iterator[None]:
    """Inside, networks run in torch's own functions on a CPU too, as they do on a GPU."""
    before = _torch_only.set(True)
    try:
        yield
    finally:
        _torch_only.reset(before)
