"""Ops that read several assets at the same bar or earlier ones. All are causal, equivariant (permuting the assets permutes what comes
out) and masked: an asset that is not known at a bar is neither read nor given anything there.

x: [time, batch, channel], the batch made of groups of assets that belong together, asset by asset. Memory is linear in the number of
assets, and so is time but for the scores of attention, one per pair and bar.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from nas.network.per_bar import per_bar
from nas.space.ops import CORRELATION_BARS

EPSILON = 1e-6
FEW_ASSETS = 24  # below, a product over pairs of assets is cheaper than one over the bars of a window
# Standard deviations of the training bars by which the market's log volatility lies above its mean where the market counts as volatile.
VOLATILE_ABOVE = 0.75


class Market(NamedTuple):
    """Who is known, and what state the market is in. present: [time, group, asset], 1 where the asset's inputs are known at that bar,
    else 0. volatile: the same shape, 1 where the market is volatile at that bar; None where no op asks for it."""

    present: Tensor
    volatile: Tensor | None = None

    def grouped(self, x: Tensor) -> Tensor:
        """[time, group * asset, c] -> [time, group, asset, c]."""
        bars, groups, assets = self.present.shape
        return x.reshape(bars, groups, assets, -1)

    @property
    def number(self) -> Tensor:
        """[time, group, 1]: assets known, at least 1."""
        return self.present.sum(-1, keepdim=True).clamp_min(1.0)


class Leads(NamedTuple):
    """Who may lead whom, for each follower its candidates: leader, lag [asset, k] (lag in bars, 1 or more), weight [asset, k], signed.

    volatile: [asset, k], true where the candidate leads in the volatile market only; None where all lead always."""

    leader: Tensor
    lag: Tensor
    weight: Tensor
    volatile: Tensor | None = None


def market_factor(x: Tensor, market: Market) -> Tensor:
    """The mean over the known assets, the same for each of them."""
    values = market.grouped(x)
    mean = (values * market.present[..., None]).sum(2, keepdim=True) / market.number[..., None]
    return _back(mean.expand_as(values), market, x)


def cross_section(x: Tensor, market: Market) -> Tensor:
    """z-score across the known assets, channel by channel; 0 where fewer than two are known."""
    return _back(_standardised(x, market), market, x)


def cross_rank(x: Tensor, market: Market) -> Tensor:
    """Rank across the known assets under a normal cross-section, uniform on -1..1: erf(z / sqrt 2).

    Smooth, so that gradients pass; of large cross-sections it is the usual rank, and an outlier counts no more than the best.
    """
    return _back(torch.erf(_standardised(x, market) / sqrt(2.0)), market, x)


def _standardised(x: Tensor, market: Market) -> Tensor:
    values, here, count = market.grouped(x), market.present[..., None], market.number[..., None]
    mean = (values * here).sum(2, keepdim=True) / count
    apart = (values - mean) * here
    variance = apart.square().sum(2, keepdim=True) / count
    return apart * torch.rsqrt(variance + EPSILON) * (count > 1)


def across_attention(x: Tensor, projection: Tensor, market: Market) -> Tensor:
    """Attention of each asset over all known assets, itself included, at the same bar. projection: [c, 3c]."""
    c, (_, groups, assets) = x.shape[-1], market.present.shape
    q, k, v = market.grouped(x @ projection).chunk(3, -1)
    (out,) = per_bar(_attended, groups * assets * assets, q * c**-0.5, k, v, market.present)
    return _back(out, market, x)


def _attended(q: Tensor, k: Tensor, v: Tensor, present: Tensor) -> tuple[Tensor]:
    """q, k, v: [time, group, asset, c]; present: [time, group, asset]."""
    outside = (present[:, :, None, :] - 1.0) * 1e9
    return (torch.softmax(q @ k.transpose(-1, -2) + outside, -1) @ v,)


def correlation_mix(x: Tensor, series: Tensor, values: Tensor, market: Market, bars: int = CORRELATION_BARS) -> Tensor:
    """The other assets' values, each weighed by its correlation with the asset over the last `bars` bars, over their number.

    series: [c, 1], makes of the channels the series whose correlation counts; values: [c, c]. Deviations are from each asset's own mean
    over the window, so that no pair exceeds 1. An asset that is known at fewer than three quarters of the bars counts as uncorrelated:
    of the pairs that count, each shares half of the bars or more.
    """
    here = market.present
    _, groups, assets = here.shape
    u = market.grouped(x @ series)[..., 0] * here
    windows = _windows(u, bars), _windows(here, bars)
    (out,) = per_bar(_correlated, groups * assets * bars, *windows, market.grouped(x @ values), here)
    return _back(out / (market.number[..., None] - 1.0).clamp_min(1.0), market, x)


def _correlated(past: Tensor, known: Tensor, values: Tensor, here: Tensor) -> tuple[Tensor]:
    """past, known: [time, group, window, asset]; values: [time, group, asset, c]; here: [time, group, asset].

    With z_i the deviations of asset i in the window over their norm, the correlation of a pair is z_i . z_j, and
    sum_j (z_i . z_j) v_j = z_i . (sum_j z_j v_j): no pair need be looked at.
    """
    bars = past.shape[2]
    number = known.sum(2)
    mean = past.sum(2) / number.clamp_min(1.0)
    apart = torch.addcmul(past, known, mean[:, :, None], value=-1.0)
    square = torch.linalg.vecdot(apart, apart, dim=2)
    scale = torch.rsqrt(square + EPSILON * bars) * here * (number * 4.0 >= 3.0 * bars)
    weighed = values * scale[..., None]
    turned = apart.transpose(-1, -2)
    few = here.shape[-1] < FEW_ASSETS  # the same product, the cheaper order
    total = (turned @ apart) @ weighed if few else turned @ (apart @ weighed)
    return ((total - square[..., None] * weighed) * scale[..., None],)


def _windows(x: Tensor, bars: int) -> Tensor:
    """[time, group, asset] -> [time, group, window, asset]: the last `bars` bars of each, zeros before the first. A view."""
    return torch.cat([x.new_zeros(bars - 1, *x.shape[1:]), x]).unfold(0, bars, 1).transpose(-1, -2)


def lead_lag(x: Tensor, projection: Tensor, leads: Leads, market: Market) -> Tensor:
    """What the leaders did: sum over an asset's candidates of weight x (leader's values `lag - 1` bars ago). projection: [c, c].

    A lag counts from the leader's bar to the follower's bar that it moves. The first bar that a forecast made at the close of bar t
    can be about is t + 1, so a leader `lag` bars ahead is read at bar t + 1 - lag: lag 1 is its newest bar. A candidate that leads in the
    volatile market only gives nothing where the market is not volatile at bar t, the newest that is known.
    """
    gated = leads.volatile if leads.volatile is not None and bool(leads.volatile.any()) else None
    if gated is not None and market.volatile is None:
        raise ValueError("a link that holds in the volatile market only needs the market's state")
    values = market.grouped(x @ projection)
    width = int(leads.lag.max())
    back = width - leads.lag  # position of bar t + 1 - lag in a window of `width` bars that ends at t
    padded = torch.cat([values.new_zeros(width - 1, *values.shape[1:]), values])
    known = torch.cat([market.present.new_zeros(width - 1, *market.present.shape[1:]), market.present])
    # asset by asset: the gradient of a slice of all of them is as large as all of them, once per follower
    series = padded.unbind(2)
    bars = len(values)
    total = torch.zeros_like(values)
    for k in range(leads.leader.shape[1]):
        columns, shown = [], []
        for leader, start in zip(leads.leader[:, k].tolist(), back[:, k].tolist(), strict=True):
            columns.append(series[leader][start : start + bars])
            shown.append(known[start : start + bars, :, leader])
        weight = torch.stack(shown, 2) * leads.weight[:, k]
        if gated is not None and market.volatile is not None:
            weight = torch.where(gated[:, k], weight * market.volatile, weight)
        total = total + torch.stack(columns, 2) * weight[..., None]
    return _back(total, market, x)


def _back(values: Tensor, market: Market, x: Tensor) -> Tensor:
    """[time, group, asset, c] as [time, batch, c]; 0 for assets that are not known."""
    return (values * market.present[..., None]).reshape(*x.shape[:2], -1)
