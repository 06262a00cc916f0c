"""Linear rivals (Zeng et al., "Are Transformers Effective for Time Series Forecasting?", AAAI 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from nas.baselines.registry import built_in, forecast_head


class Linear(nn.Module):
    """One causal linear map over the last `taps` bars of every input."""

    def __init__(self, inputs: int, horizons: int, taps: int = 24) -> None:
        super().__init__()
        self.receptive_field = taps
        self.map = forecast_head(inputs, horizons, taps)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)  # type: ignore[no-any-return]


@built_in("linear", "Linear by hand", "one linear map over the last 24 bars of every input")
def linear(inputs: int, horizons: int) -> nn.Module:
    return Linear(inputs, horizons)


class DLinear(nn.Module):
    """Trend (moving average of `average` bars) and remainder, each through a linear map over `taps` bars."""

    def __init__(self, inputs: int, horizons: int, taps: int = 24, average: int = 25) -> None:
        super().__init__()
        self.receptive_field = taps + average - 1
        self.average = average
        self.trend = forecast_head(inputs, horizons, taps)
        self.remainder = forecast_head(inputs, horizons, taps)

    def forward(self, x: Tensor) -> Tensor:
        trend = nn.functional.avg_pool1d(nn.functional.pad(x, (self.average - 1, 0)), self.average, stride=1)
        return self.trend(trend) + self.remainder(x - trend)  # type: ignore[no-any-return]


@built_in("dlinear", "DLinear", "moving average and remainder, each through a linear map of 24 bars (Zeng et al. 2023)")
def dlinear(inputs: int, horizons: int) -> nn.Module:
    return DLinear(inputs, horizons)


class NLinear(nn.Module):
    """The last value of every input is subtracted from the window before the linear map; it has a weight of its own."""

    def __init__(self, inputs: int, horizons: int, taps: int = 24) -> None:
        super().__init__()
        self.receptive_field = taps
        self.map = forecast_head(inputs, horizons, taps)
        self.last = forecast_head(inputs, horizons)

    def forward(self, x: Tensor) -> Tensor:
        # map(x - last) = map(x) - (sum of taps) last, without building a window per bar
        shift = nn.functional.conv1d(x, self.map.conv.weight.sum(2, keepdim=True))
        return self.map(x) - shift + self.last(x)  # type: ignore[no-any-return]


@built_in("nlinear", "NLinear", "a linear map of 24 bars relative to the last one (Zeng et al. 2023)")
def nlinear(inputs: int, horizons: int) -> nn.Module:
    return NLinear(inputs, horizons)
