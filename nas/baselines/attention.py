"""Attention rivals, causal and time-invariant: no bar attends to a later one, and places are counted back from the bar itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.baselines.registry import CausalConv, built_in, forecast_head


class PastAttention(nn.Module):
    """Every bar attends to itself and the bars `stride`, 2 x `stride`, ... before it, `places` in all. [batch, channel, time].

    Two heads; a learned bias per head and place tells how far back a key is.
    """

    def __init__(self, channels: int, places: int, stride: int, heads: int = 2) -> None:
        super().__init__()
        self.places, self.stride, self.heads = places, stride, heads
        self.project = nn.Conv1d(channels, 3 * channels, 1)
        self.merge = nn.Conv1d(channels, channels, 1)
        self.bias = nn.Parameter(torch.zeros(heads, places))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, time = x.shape
        reach = (self.places - 1) * self.stride
        query, key, value = self.project(x).view(batch, 3, self.heads, channels // self.heads, time).unbind(1)

        def past(of: Tensor) -> Tensor:  # [batch, head, channel, place, time]
            padded = nn.functional.pad(of, (reach, 0))
            back = [padded[..., reach - k * self.stride : reach - k * self.stride + time] for k in range(self.places)]
            return torch.stack(back, 3)

        scores = torch.einsum("bhct,bhcpt->bhpt", query, past(key)) * query.shape[2] ** -0.5 + self.bias[..., None]
        mixed = torch.einsum("bhpt,bhcpt->bhct", torch.softmax(scores, 2), past(value))
        return self.merge(mixed.reshape(batch, channels, time))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Patches of `patch` bars that end at the bar itself, `layers` of attention over earlier patches and a feed-forward map.

    After PatchTST (Nie et al. 2023), with patches counted back from every bar so that one pass forecasts all bars.
    """

    def __init__(
        self, inputs: int, horizons: int, patch: int, places: int, channels: int = 16, layers: int = 2
    ) -> None:
        super().__init__()
        self.receptive_field = patch + layers * (places - 1) * patch
        self.stem = CausalConv(inputs, channels, patch)
        self.attention = nn.ModuleList(PastAttention(channels, places, patch) for _ in range(layers))
        self.widen = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 1) for _ in range(layers))
        self.narrow = nn.ModuleList(nn.Conv1d(2 * channels, channels, 1) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2 * layers))  # over channels, never over time
        self.head = forecast_head(channels, horizons)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.stem(x)
        for k, (attend, widen, narrow) in enumerate(zip(self.attention, self.widen, self.narrow, strict=True)):
            hidden = hidden + attend(_over_channels(self.norms[2 * k], hidden))
            hidden = hidden + narrow(nn.functional.gelu(widen(_over_channels(self.norms[2 * k + 1], hidden))))
        return self.head(hidden)  # type: ignore[no-any-return]


def _over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


@built_in(
    "patchtst", "PatchTST", "two layers of attention over 8 patches of 8 bars, 16 channels (after Nie et al. 2023)"
)
def patchtst(inputs: int, horizons: int) -> nn.Module:
    return Transformer(inputs, horizons, patch=8, places=8)


@built_in(
    "transformer", "Transformer", "two layers of attention over the last 24 bars, 16 channels (Vaswani et al. 2017)"
)
def transformer(inputs: int, horizons: int) -> nn.Module:
    return Transformer(inputs, horizons, patch=1, places=24)
