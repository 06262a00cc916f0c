"""A supernet the way public code builds it, as a rival to measure against: one module per op and edge (pre-activation, convolution, batch
norm), a weighted sum over a module list, a batch of windows whose last bar is forecast. Written for this comparison; used nowhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.space.ops import Op, get_op


class _Dense(nn.Module):
    """ReLU, convolution, batch norm: the pre-activation block of the originals."""

    def __init__(self, channels: int, taps: int, dilation: int) -> None:
        super().__init__()
        self.pad = (taps - 1) * dilation
        self.convolution = nn.Conv1d(channels, channels, taps, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.convolution(nn.functional.pad(torch.relu(x), (self.pad, 0))))
        return out


class _Fixed(nn.Module):
    """A depthwise convolution with given taps (moving averages, differences) and a batch norm, as pooling is in the originals."""

    taps: Tensor

    def __init__(self, channels: int, taps: list[float]) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("taps", torch.tensor(taps[::-1]).repeat(channels, 1, 1))
        self.norm = nn.BatchNorm1d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, (self.taps.shape[-1] - 1, 0))
        out: Tensor = self.norm(nn.functional.conv1d(padded, self.taps, groups=self.channels))
        return out


class _Attention(nn.Module):
    mask: Tensor

    def __init__(self, channels: int, window: int, band: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, 1, batch_first=True)
        back = torch.arange(window)[:, None] - torch.arange(window)[None]
        self.register_buffer("mask", (back < 0) | (back >= band))
        self.norm = nn.BatchNorm1d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2)
        out: Tensor = self.norm(self.attention(y, y, y, attn_mask=self.mask, need_weights=False)[0].transpose(1, 2))
        return out


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


def _module(op: Op, channels: int, window: int) -> nn.Module:
    if op.kind == "zero":
        return _Zero()
    if op.name == "identity":
        return nn.Identity()
    if op.kind == "constant":
        taps = [0.0] * (max(op.lags) + 1)
        for lag, c in zip(op.lags, op.coefficients, strict=True):
            taps[lag] = c
        return _Fixed(channels, taps)
    if op.kind == "ema":
        return _Fixed(channels, [(1 - op.decay) * op.decay**k for k in range(min(op.length, window))])
    if op.kind == "attention":
        return _Attention(channels, window, op.span)
    spread = op.lags[1] if len(op.lags) > 1 else 1
    return _Dense(channels, len(op.lags), spread)


class PerOpSupernet(nn.Module):
    """forward(x [batch of windows, input, window], alphas [edges, ops]) -> forecast of each window's last bar [batch]."""

    def __init__(self, ops: tuple[str, ...], nodes: int, channels: int, inputs: int, window: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.stem = nn.Sequential(nn.Conv1d(inputs, channels, 1, bias=False), nn.BatchNorm1d(channels))
        edges = nodes * (nodes + 1) // 2
        self.edges = nn.ModuleList(
            nn.ModuleList(_module(get_op(name), channels, window) for name in ops) for _ in range(edges)
        )
        self.head = nn.Linear(nodes * channels, 1)

    def forward(self, x: Tensor, alphas: Tensor) -> Tensor:
        states, at = [self.stem(x)], 0
        weights = torch.softmax(alphas, -1)
        for _ in range(self.nodes):
            total = torch.zeros_like(states[0])
            for state in states:
                for k, op in enumerate(self.edges[at]):  # type: ignore[arg-type]
                    total = total + weights[at, k] * op(state)
                at += 1
            states.append(total)
        out: Tensor = self.head(torch.cat(states[1:], 1)[:, :, -1])[:, 0]
        return out
