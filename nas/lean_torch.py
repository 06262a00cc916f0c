"""torch's optimisers without its compiler: making one and stepping it imports torch._dynamo and sympy, two seconds of processor time in
every process, although nothing here is compiled."""

from __future__ import annotations

from typing import Any

import torch


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
