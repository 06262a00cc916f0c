"""Every linear block of a source in one pass: lagged copies and truncated exponential moving averages, side by side for one matrix product.

The map is linear, so its backward is its adjoint and second derivatives cost nothing extra. On a CPU both are numba kernels; elsewhere
the same map is lags and banded Toeplitz products (`by_torch`), which is also what tests compare the kernels with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.network.paths import by_kernels

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LinearBlocks:
    """Which blocks: `lags` in bars, then one EMA per (decay, length in bars, gain).

    y[t] = gain * sum_{k < length} w_k x[t-k] with w_k = (1 - decay) decay^k / (1 - decay^length), so that sum w_k = 1.
    """

    lags: tuple[int, ...] = ()
    emas: tuple[tuple[float, int, float], ...] = ()
    _arrays: tuple[Array, Array, Array, Array] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # scale: w_0 with the gain; tail: what leaves the sum after `length` bars
        decays = np.array([d for d, _, _ in self.emas], dtype=np.float64)
        lengths = np.array([n for _, n, _ in self.emas], dtype=np.int64)
        scales = np.array([g * (1.0 - d) / (1.0 - d**n) for d, n, g in self.emas], dtype=np.float64)
        object.__setattr__(self, "_arrays", (np.array(self.lags, dtype=np.int64), decays, lengths, scales))

    def __len__(self) -> int:
        return len(self.lags) + len(self.emas)

    def __call__(self, x: Tensor) -> Tensor:
        """x: [time, batch, channel] -> [time, batch, block, channel]; zero before the first bar. Causal."""
        if by_kernels(x):
            return _Blocks.apply(x, self, False)  # type: ignore[no-untyped-call, no-any-return]
        return self.by_torch(x)

    def by_torch(self, x: Tensor) -> Tensor:
        """The same map in torch's own functions, for any device."""
        return torch.stack([*(lagged(x, lag) for lag in self.lags), *(_toeplitz(x, *e) for e in self.emas)], 2)

    def run(self, x: Tensor, adjoint: bool) -> Tensor:
        """By the kernels, on a CPU. x: [time, batch, channel] -> [time, batch, block, channel]; adjoint: the other way round."""
        arrays = x.detach().contiguous().numpy()
        if adjoint:
            bars, batch, _, channels = x.shape
            out = torch.empty(bars, batch, channels, dtype=x.dtype)
            _adjoint_kernel(arrays, out.numpy(), *self._arrays)
        else:
            bars, batch, channels = x.shape
            out = torch.empty(bars, batch, len(self), channels, dtype=x.dtype)
            _kernel(arrays, out.numpy(), *self._arrays)
        return out


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: LinearBlocks, adjoint: bool) -> Tensor:
        ctx.settings = (blocks, adjoint)
        return blocks.run(x, adjoint)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        blocks, adjoint = ctx.settings
        return _Blocks.apply(grads[0], blocks, not adjoint), None, None  # type: ignore[no-untyped-call]


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _kernel(x: Array, out: Array, lags: Array, decays: Array, lengths: Array, scales: Array) -> None:
    """x: [time, batch, channel]; out: [time, batch, block, channel]. Sums of EMAs are carried in double precision."""
    bars, batch, channels = x.shape
    state = np.zeros((len(decays), batch, channels), dtype=np.float64)
    for t in range(bars):
        for k in range(len(lags)):
            lag = lags[k]
            for b in range(batch):
                if t >= lag:
                    for i in range(channels):
                        out[t, b, k, i] = x[t - lag, b, i]
                else:
                    for i in range(channels):
                        out[t, b, k, i] = 0.0
        for e in range(len(decays)):
            decay, length, scale, k = decays[e], lengths[e], scales[e], len(lags) + e
            tail = decay**length
            for b in range(batch):
                row = state[e, b]
                if t >= length:
                    for i in range(channels):
                        row[i] = decay * row[i] + x[t, b, i] - tail * x[t - length, b, i]
                        out[t, b, k, i] = scale * row[i]
                else:
                    for i in range(channels):
                        row[i] = decay * row[i] + x[t, b, i]
                        out[t, b, k, i] = scale * row[i]


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _adjoint_kernel(g: Array, out: Array, lags: Array, decays: Array, lengths: Array, scales: Array) -> None:
    """The transpose of `_kernel`: the same sums run backwards in time. g: [time, batch, block, channel]; out: [time, batch, channel]."""
    bars, batch, _, channels = g.shape
    state = np.zeros((len(decays), batch, channels), dtype=np.float64)
    total = np.zeros(channels, dtype=np.float64)
    for r in range(bars):
        t = bars - 1 - r
        for b in range(batch):
            total[:] = 0.0
            for k in range(len(lags)):
                if t + lags[k] < bars:
                    ahead = t + lags[k]
                    for i in range(channels):
                        total[i] += g[ahead, b, k, i]
            for e in range(len(decays)):
                decay, length, scale, k = decays[e], lengths[e], scales[e], len(lags) + e
                row = state[e, b]
                if r >= length:
                    tail = decay**length
                    for i in range(channels):
                        row[i] = decay * row[i] + g[t, b, k, i] - tail * g[t + length, b, k, i]
                        total[i] += scale * row[i]
                else:
                    for i in range(channels):
                        row[i] = decay * row[i] + g[t, b, k, i]
                        total[i] += scale * row[i]
            for i in range(channels):
                out[t, b, i] = total[i]


def lagged(x: Tensor, lag: int) -> Tensor:
    """x[t - lag], zero before the first bar. x: [time, ...]."""
    if lag == 0:
        return x
    if lag >= x.shape[0]:
        return torch.zeros_like(x)
    return torch.cat([torch.zeros_like(x[:lag]), x[:-lag]])


def ema(x: Tensor, decay: float, length: int, gain: float = 1.0) -> Tensor:
    """One truncated exponential moving average. x: [time, batch, channel]; returns the same shape."""
    return LinearBlocks(emas=((decay, length, gain),))(x)[:, :, 0]


def ema_reference(x: Tensor, decay: float, length: int, gain: float = 1.0) -> Tensor:
    """The formula itself, one lag at a time; the specification of `ema`."""
    out = torch.zeros_like(x)
    for k, w in enumerate(_weights(decay, length)[: x.shape[0]]):
        out = out + gain * w * lagged(x, k)
    return out


def _weights(decay: float, length: int) -> Sequence[float]:
    return [(1 - decay) * decay**k / (1 - decay**length) for k in range(length)]


def _toeplitz(x: Tensor, decay: float, length: int, gain: float) -> Tensor:
    """`ema` as one matrix product per chunk of `length` bars with the chunk before it. x: [time, batch, channel]."""
    bars, batch, channels = x.shape
    chunks = -(-bars // length)
    padded = torch.cat([x.new_zeros(length, batch, channels), x, x.new_zeros(chunks * length - bars, batch, channels)])
    here = padded.view(chunks + 1, length, batch * channels)
    out = _band(decay, length, gain, x.dtype, x.device) @ torch.cat([here[:-1], here[1:]], 1)
    return out.reshape(chunks * length, batch, channels)[:bars]


@cache  # made once: a copy from the host in every step would wait for the device
def _band(decay: float, length: int, gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[length, 2 length]: the weights of a chunk's bars on itself and on the chunk before it."""
    weights = torch.tensor(_weights(decay, length), dtype=dtype, device=device) * gain
    back = torch.arange(length, device=device)[:, None] + length - torch.arange(2 * length, device=device)[None, :]
    return torch.where((back >= 0) & (back < length), weights[back.clamp(0, length - 1)], weights.new_zeros(()))
