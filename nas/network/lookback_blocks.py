"""Non-linear maps of a whole lookback, day by day: small enough to be candidates beside the linear ones of `lookback`.

Every block is (window [..., lookback] without its level, in units of its own spread) -> [..., horizon], row by row: nothing but the
window is read. Their last layer starts small, so that a block begins near what the rest of the network says.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN, WIDE = 8, 16


class Recurrent(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) over the days of the window; its last state is mapped to the horizon."""

    def __init__(self, lookback: int, period: int, horizon: int) -> None:
        super().__init__()
        self.period = period
        self.unit = nn.GRU(period, HIDDEN, batch_first=True)
        self.head = _small(nn.Linear(HIDDEN, horizon))

    def forward(self, window: Tensor) -> Tensor:
        days = window.reshape(-1, window.shape[-1] // self.period, self.period)
        out: Tensor = self.head(self.unit(days)[0][:, -1])
        return out.reshape(*window.shape[:-1], -1)


class Doubly(nn.Module):
    """Two doubly residual blocks (Oreshkin et al. 2020, N-BEATS): one of the means of days, then one of the mean day of what that left."""

    def __init__(self, lookback: int, period: int, horizon: int) -> None:
        super().__init__()
        self.period, self.horizon, self.past = period, horizon, lookback // period
        ahead = -(-horizon // period)
        self.trend = nn.Sequential(nn.Linear(self.past, WIDE), nn.ReLU(), _small(nn.Linear(WIDE, self.past + ahead)))
        self.season = nn.Sequential(nn.Linear(period, WIDE), nn.ReLU(), _small(nn.Linear(WIDE, period)))

    def forward(self, window: Tensor) -> Tensor:
        table = window.reshape(*window.shape[:-1], -1, self.period)
        levels = self.trend(table.mean(-1))
        left = table - levels[..., : self.past, None]
        ahead = levels[..., self.past :, None] + self.season(left.mean(-2))[..., None, :]
        return ahead.flatten(-2)[..., : self.horizon]  # type: ignore[no-any-return]


def _small(layer: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    return layer


BLOCKS: dict[str, type[nn.Module]] = {"recurrent": Recurrent, "doubly": Doubly}
