"""Recurrent rivals: LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014), one layer of 16 units.

They run along the stretch from a zero state; `receptive_field` is the warm-up before the first bar that counts. What happened
earlier has then faded from the state, but unlike the other networks' memory it has no sharp end.
"""

from __future__ import annotations

from torch import Tensor, nn

from nas.baselines.registry import built_in, forecast_head

WARM_UP_BARS = 96


class Recurrent(nn.Module):
    """A recurrent layer and a linear head. [batch, input, time] -> [batch, horizon, time]."""

    def __init__(self, layer: nn.LSTM | nn.GRU, horizons: int) -> None:
        super().__init__()
        self.receptive_field = WARM_UP_BARS
        self.layer = layer
        self.head = forecast_head(layer.hidden_size, horizons)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.layer(x.transpose(1, 2))
        return self.head(states.transpose(1, 2))  # type: ignore[no-any-return]


@built_in("lstm", "LSTM", "one recurrent layer of 16 units with gates and a cell (Hochreiter and Schmidhuber 1997)")
def lstm(inputs: int, horizons: int) -> nn.Module:
    return Recurrent(nn.LSTM(inputs, 16, batch_first=True), horizons)


@built_in("gru", "GRU", "one gated recurrent layer of 16 units (Cho et al. 2014)")
def gru(inputs: int, horizons: int) -> nn.Module:
    return Recurrent(nn.GRU(inputs, 16, batch_first=True), horizons)
