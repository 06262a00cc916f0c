"""Feed-forward rivals: a perceptron over a window and a temporal convolutional network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.baselines.registry import CausalConv, built_in, forecast_head


class Perceptron(nn.Module):
    """Two hidden layers over the last `taps` bars of every input."""

    def __init__(self, inputs: int, horizons: int, hidden: int = 32, taps: int = 24) -> None:
        super().__init__()
        self.receptive_field = taps
        self.first = CausalConv(inputs, hidden, taps)
        self.second = nn.Conv1d(hidden, hidden, 1)
        self.head = forecast_head(hidden, horizons)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))  # type: ignore[no-any-return]


@built_in("mlp", "MLP", "two hidden layers of 32 units over the last 24 bars of every input")
def mlp(inputs: int, horizons: int) -> nn.Module:
    return Perceptron(inputs, horizons)


class Tcn(nn.Module):
    """Temporal convolutional network (Bai, Kolter, Koltun 2018): residual blocks of dilated causal convolutions."""

    def __init__(self, inputs: int, horizons: int, channels: int = 16, levels: int = 4, taps: int = 3) -> None:
        super().__init__()
        self.receptive_field = 1 + sum((taps - 1) * 2**k for k in range(levels))
        self.stem = nn.Conv1d(inputs, channels, 1)
        self.blocks = nn.ModuleList(CausalConv(channels, channels, taps, 2**k) for k in range(levels))
        self.head = forecast_head(channels, horizons)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.stem(x)
        for block in self.blocks:
            hidden = hidden + torch.relu(block(hidden))
        return self.head(hidden)  # type: ignore[no-any-return]


@built_in("tcn", "TCN by hand", "four residual dilated causal convolutions, 16 channels (Bai et al. 2018)")
def tcn(inputs: int, horizons: int) -> nn.Module:
    return Tcn(inputs, horizons)
