"""A new hand-designed network: a rival that the searched ones must beat. Causal, [batch, input, time] -> [batch, horizon, time]."""

import torch
from torch import Tensor, nn

from data import load_panel
from nas import Samples, Scaler, Tensors, TrainingSettings, baseline, train
from nas.baselines.registry import CausalConv, build_baseline, forecast_head


@baseline("two_speeds", "Two speeds", "a convolution over 3 bars beside one over 3 half days")
class TwoSpeeds(nn.Module):
    def __init__(self, inputs: int, horizons: int) -> None:
        super().__init__()
        self.receptive_field = 1 + 2 * 12  # bars a forecast reads, its own included: purge and warm-up follow from it
        self.fast, self.slow = CausalConv(inputs, 8, taps=3), CausalConv(inputs, 8, taps=3, dilation=12)
        self.head = forecast_head(16, horizons)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.fast(x), self.slow(x)], dim=1).relu())  # type: ignore[no-any-return]


panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-05-01", source="simulated")
samples = Samples.of(panel, horizons=(6,))
fit, stop = slice(samples.bank.warmup_bars, 2000), slice(2100, 2800)  # 100 bars of purge lie between
tensors = Tensors.of(samples, Scaler.fit(samples.bank.values, fit))
network = build_baseline("two_speeds", tensors.x.shape[1], horizons=1, seed=0)
outcome = train(network, tensors, fit, stop, TrainingSettings(epochs=5), seed=0)
print(f"validation loss {min(outcome.validation_losses):.3f}, correlation {outcome.correlation:+.2f}")
