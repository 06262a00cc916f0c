"""Truncated exponential moving averages as a twice-differentiable torch function on a numba kernel."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Float32Array = npt.NDArray[np.float32]


@numba.njit(cache=True, fastmath=False)  # type: ignore[untyped-decorator, unused-ignore]
def _ema_kernel(x: Float32Array, out: Float32Array, decay: float, length: int, gain: float) -> None:
    """x, out: [time, n]. out[t] = gain * sum_{k < length} w_k x[t-k], w_k = (1-decay) decay^k / (1 - decay^length)."""
    bars, n = x.shape
    tail = decay**length
    scale = gain * (1.0 - decay) / (1.0 - tail)
    state = np.zeros(n, dtype=np.float64)
    for t in range(bars):
        if t >= length:
            for i in range(n):
                state[i] = decay * state[i] + x[t, i] - tail * x[t - length, i]
                out[t, i] = scale * state[i]
        else:
            for i in range(n):
                state[i] = decay * state[i] + x[t, i]
                out[t, i] = scale * state[i]


@numba.njit(cache=True, fastmath=False)  # type: ignore[untyped-decorator, unused-ignore]
def _ema_adjoint_kernel(g: Float32Array, out: Float32Array, decay: float, length: int, gain: float) -> None:
    """The transpose of `_ema_kernel`: the same recurrence run backwards in time."""
    bars, n = g.shape
    tail = decay**length
    scale = gain * (1.0 - decay) / (1.0 - tail)
    state = np.zeros(n, dtype=np.float64)
    for r in range(bars):
        t = bars - 1 - r
        if r >= length:
            for i in range(n):
                state[i] = decay * state[i] + g[t, i] - tail * g[t + length, i]
                out[t, i] = scale * state[i]
        else:
            for i in range(n):
                state[i] = decay * state[i] + g[t, i]
                out[t, i] = scale * state[i]


def _run(x: Tensor, decay: float, length: int, gain: float, adjoint: bool) -> Tensor:
    flat = x.detach().contiguous().view(x.shape[0], -1)
    out = torch.empty_like(flat)
    kernel = _ema_adjoint_kernel if adjoint else _ema_kernel
    kernel(flat.numpy(), out.numpy(), decay, length, gain)
    return out.view(x.shape)


class _Ema(torch.autograd.Function):
    """Linear, so its backward is the adjoint, whose backward is the map itself: second derivatives come for free."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: float, length: int, gain: float, adjoint: bool) -> Tensor:
        ctx.settings = (decay, length, gain, adjoint)
        return _run(x, decay, length, gain, adjoint)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        decay, length, gain, adjoint = ctx.settings
        return _Ema.apply(grads[0], decay, length, gain, not adjoint), None, None, None, None  # type: ignore[no-untyped-call]


def ema(x: Tensor, decay: float, length: int, gain: float = 1.0) -> Tensor:
    """Exponential moving average over the last `length` bars, causal, zero before the first bar.

    x: [time, ...]. Returns the same shape. y[t] = gain * sum_{k<length} w_k x[t-k], w_k proportional to decay^k, sum w_k = 1.
    """
    return _Ema.apply(x, decay, length, gain, False)  # type: ignore[no-untyped-call, no-any-return]


def ema_reference(x: Tensor, decay: float, length: int, gain: float = 1.0) -> Tensor:
    """The formula itself, one lag at a time; the specification of `ema`."""
    weights = [(1 - decay) * decay**k / (1 - decay**length) for k in range(length)]
    out = torch.zeros_like(x)
    for k, w in enumerate(weights[: x.shape[0]]):
        out = out + gain * w * torch.cat([torch.zeros_like(x[:k]), x[: x.shape[0] - k]])
    return out
