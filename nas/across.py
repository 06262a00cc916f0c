"""Ops that read several assets at the same bar or earlier ones. All are causal, equivariant (permuting the assets permutes what comes
out) and masked: an asset that is not known at a bar is neither read nor given anything there.

x: [time, batch, channel], the batch made of groups of assets that belong together, asset by asset. What an op adds per asset is linear
in the number of assets but for the pairs of attention (one product of queries and keys) and correlation (three moments a pair).
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from nas.ops import CORRELATION_BARS

EPSILON = 1e-6


class Market(NamedTuple):
    """Who is known. present: [time, group, asset], 1 where the asset's inputs are known at that bar, else 0."""

    present: Tensor

    def grouped(self, x: Tensor) -> Tensor:
        """[time, group * asset, c] -> [time, group, asset, c]."""
        bars, groups, assets = self.present.shape
        return x.reshape(bars, groups, assets, -1)

    @property
    def number(self) -> Tensor:
        """[time, group, 1]: assets known, at least 1."""
        return self.present.sum(-1, keepdim=True).clamp_min(1.0)


class Leads(NamedTuple):
    """Who may lead whom, for each follower its candidates: leader, lag [asset, k] (lag in bars, 1 or more), weight [asset, k], signed."""

    leader: Tensor
    lag: Tensor
    weight: Tensor


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
    c = x.shape[-1]
    q, k, v = market.grouped(x @ projection).chunk(3, -1)
    scores = (q @ k.transpose(-1, -2)) * c**-0.5
    seen = market.present[:, :, None, :] > 0
    weights = torch.softmax(scores.masked_fill(~seen, -1e9), -1)
    return _back(weights @ v, market, x)


def correlation_mix(x: Tensor, series: Tensor, values: Tensor, market: Market, bars: int = CORRELATION_BARS) -> Tensor:
    """The other assets' values, each weighed by its correlation with the asset over the last `bars` bars.

    series: [c, 1], makes of the channels the series whose correlation counts; values: [c, c]. Pairs that share fewer than half of the
    bars count as uncorrelated. Deviations are from each asset's own mean over the window, so that no pair exceeds 1.
    """
    here = market.present
    u = market.grouped(x @ series)[..., 0] * here  # [time, group, asset]
    number = _window(here, bars).clamp_min(1.0)
    mean = _window(u, bars) / number
    variance = (_window(u * u, bars) - number * mean * mean).clamp_min(0.0)
    both = _window(here[..., :, None] * here[..., None, :], bars)
    product = _window(u[..., :, None] * u[..., None, :], bars)
    theirs = _window(u[..., :, None] * here[..., None, :], bars)  # sum of u_i over the bars where j is known too
    covariance = (
        product
        - mean[..., None, :] * theirs
        - mean[..., :, None] * theirs.transpose(-1, -2)
        + mean[..., :, None] * mean[..., None, :] * both
    )
    scale = torch.rsqrt(variance + EPSILON * bars)
    correlation = covariance * scale[..., :, None] * scale[..., None, :]
    own = torch.eye(here.shape[-1], dtype=torch.bool, device=here.device)
    counted = (both * 2 >= bars) & ~own & (here[..., None, :] > 0)
    mixed = correlation.masked_fill(~counted, 0.0) @ market.grouped(x @ values)
    return _back(mixed / (market.number[..., None] - 1.0).clamp_min(1.0), market, x)


def _window(x: Tensor, bars: int) -> Tensor:
    """Sum over the last `bars` bars. x: [time, ...]."""
    total = x.cumsum(0)
    if len(x) <= bars:
        return total
    return torch.cat([total[:bars], total[bars:] - total[:-bars]])


def lead_lag(x: Tensor, projection: Tensor, leads: Leads, market: Market) -> Tensor:
    """What the leaders did: sum over an asset's candidates of weight x (leader's values `lag - 1` bars ago). projection: [c, c].

    A lag counts from the leader's bar to the follower's bar that it moves. The first bar that a forecast made at the close of bar t
    can be about is t + 1, so a leader `lag` bars ahead is read at bar t + 1 - lag: lag 1 is its newest bar.
    """
    values = market.grouped(x @ projection)
    width = int(leads.lag.max())
    back = width - leads.lag  # position of bar t + 1 - lag in a window of `width` bars that ends at t
    padded = torch.cat([values.new_zeros(width - 1, *values.shape[1:]), values])
    known = torch.cat([market.present.new_zeros(width - 1, *market.present.shape[1:]), market.present])
    bars = len(values)
    total = torch.zeros_like(values)
    for k in range(leads.leader.shape[1]):
        columns, shown = [], []
        for leader, start in zip(leads.leader[:, k].tolist(), back[:, k].tolist(), strict=True):
            columns.append(padded[start : start + bars, :, leader])
            shown.append(known[start : start + bars, :, leader])
        total = total + torch.stack(columns, 2) * (torch.stack(shown, 2) * leads.weight[:, k])[..., None]
    return _back(total, market, x)


def _back(values: Tensor, market: Market, x: Tensor) -> Tensor:
    """[time, group, asset, c] as [time, batch, c]; 0 for assets that are not known."""
    return (values * market.present[..., None]).reshape(*x.shape[:2], -1)
