"""What a forecast is judged by. Every loss is (forecast, label, weight) -> scalar.

forecast, label: [batch, horizon, time], labels in standard deviations of the horizon's return; weight: [batch, 1, time], 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
# 6.5 bp per unit of turnover over the usual 1.3% deviation of a 6-hour return of Bitcoin, as the labels are scaled by deviation
COST_DEVIATIONS = 0.05


def huber(forecast: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Huber loss (delta 1 standard deviation) averaged over weighted bars."""
    loss = nn.functional.huber_loss(forecast, label, reduction="none", delta=1.0)
    return (loss * weight).sum() / (weight.sum() * label.shape[1]).clamp_min(1.0)


def direction(forecast: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of the sign of the return; the forecast is the logit of a rise. A return of exactly 0 is half a rise."""
    rise = (label > 0).to(forecast.dtype) + 0.5 * (label == 0).to(forecast.dtype)
    loss = nn.functional.binary_cross_entropy_with_logits(forecast, rise, reduction="none")
    return (loss * weight).sum() / (weight.sum() * label.shape[1]).clamp_min(1.0)


def sharpe(forecast: Tensor, label: Tensor, weight: Tensor, cost: float = COST_DEVIATIONS) -> Tensor:
    """Minus the per-bar Sharpe ratio of holding tanh(forecast), net of `cost` (standard deviations) per unit of turnover.

    Each stretch starts with the position it would hold anyway, so its first bar pays nothing; bars without weight neither earn
    nor pay. The ratio is taken over all bars of the batch, per horizon, then averaged over the horizons.
    """
    position = torch.tanh(forecast)
    before = torch.cat([position[..., :1], position[..., :-1]], -1)
    earned = (position * label - cost * (position - before).abs()) * weight
    bars = weight.sum().clamp_min(2.0)
    mean = earned.sum((0, 2)) / bars
    variance = ((earned - mean[None, :, None]).square() * weight).sum((0, 2)) / bars
    return -(mean * (variance + 1e-8).rsqrt()).mean()


def squared(forecast: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error over weighted bars and horizons: what forecasting benchmarks print."""
    return ((forecast - label).square() * weight).sum() / (weight.sum() * label.shape[1]).clamp_min(1.0)


def classes(forecast: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of classes, one output each, over weighted bars; label: 1 for the right one, 0 elsewhere."""
    surprise = -(label * torch.log_softmax(forecast, 1)).sum(1, keepdim=True)
    return (surprise * weight).sum() / weight.sum().clamp_min(1.0)


LOSSES: dict[str, Loss] = {
    "huber": huber,
    "squared": squared,
    "direction": direction,
    "sharpe": sharpe,
    "classes": classes,
}
