"""Networks a person would have designed: the searched ones must beat these on the same data, training and budget.

A baseline is a function (inputs, horizons) -> module with forward(x [batch, input, time]) -> [batch, horizon, time], causal, and an
integer `receptive_field`. `@baseline(...)` adds one to the registry; the command and the report pick it up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Builder = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Baseline:
    """A hand-designed network: `build(inputs, horizons)`."""

    name: str
    title: str
    description: str
    build: Builder


BASELINES: dict[str, Baseline] = {}


def baseline(name: str, title: str, description: str) -> Callable[[Builder], Builder]:
    def add(build: Builder) -> Builder:
        BASELINES[name] = Baseline(name, title, description, build)
        return build

    return add


def build_baseline(name: str, inputs: int, horizons: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BASELINES[name].build(inputs, horizons)


class CausalConv(nn.Module):
    """Convolution over the past. [batch, channel, time] in and out."""

    def __init__(self, inputs: int, outputs: int, taps: int, dilation: int = 1) -> None:
        super().__init__()
        self.pad = (taps - 1) * dilation
        self.conv = nn.Conv1d(inputs, outputs, taps, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(x, (self.pad, 0)))  # type: ignore[no-any-return]


class Tcn(nn.Module):
    """Temporal convolutional network (Bai, Kolter, Koltun 2018): residual blocks of dilated causal convolutions."""

    def __init__(self, inputs: int, horizons: int, channels: int = 16, levels: int = 4, taps: int = 3) -> None:
        super().__init__()
        self.receptive_field = 1 + sum((taps - 1) * 2**k for k in range(levels))
        self.stem = nn.Conv1d(inputs, channels, 1)
        self.blocks = nn.ModuleList(CausalConv(channels, channels, taps, 2**k) for k in range(levels))
        self.head = nn.Conv1d(channels, horizons, 1)
        nn.init.normal_(self.head.weight, std=0.1 * channels**-0.5)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.stem(x)
        for block in self.blocks:
            hidden = hidden + torch.relu(block(hidden))
        return self.head(hidden)  # type: ignore[no-any-return]


@baseline("tcn", "TCN by hand", "four residual dilated causal convolutions, 16 channels (Bai et al. 2018)")
def tcn(inputs: int, horizons: int) -> nn.Module:
    return Tcn(inputs, horizons)


class Linear(nn.Module):
    """One causal linear map over the last `taps` bars of every input (the spirit of DLinear, Zeng et al. 2023)."""

    def __init__(self, inputs: int, horizons: int, taps: int = 24) -> None:
        super().__init__()
        self.receptive_field = taps
        self.map = CausalConv(inputs, horizons, taps)
        nn.init.normal_(self.map.conv.weight, std=0.1 * (inputs * taps) ** -0.5)
        nn.init.zeros_(self.map.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)  # type: ignore[no-any-return]


@baseline("linear", "Linear by hand", "one linear map over the last 24 bars of every input")
def linear(inputs: int, horizons: int) -> nn.Module:
    return Linear(inputs, horizons)
