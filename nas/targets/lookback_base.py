"""The closed form of long horizons: the best linear map from a window to what follows it, of low rank.

Least squares on windows without their level are near the best linear forecast there is (Toner and Darlow 2024). Every window counts by
its spread to the power -`weight`: 0 is the squared error as it is scored, 2 the squared error in units of the window's own spread, by
which quiet and lively stretches, or channels, say as much as each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.panel import InputError

FloatArray = npt.NDArray[np.float64]
LEVELS_BARS, WEIGHTS, PENALTIES, RANKS = (
    (1, 24, 168),
    (0.0, 1.0, 2.0, 3.0),
    (0.01, 0.1, 0.5),
    (2, 4, 6, 8, 10, 12, 16, 20, 24),
)
#: squared spread, in deviations of the training part, below which windows count no more than this
FLOOR = 1e-2
#: windows taken at once, to keep memory small
AT_ONCE = 2048


@dataclass(frozen=True)
class LinearBase:
    """map: [lookback, horizon], each column sums to 1, so forecast = window @ map and a shifted series has the shifted forecast.

    level: bars of the trailing mean taken off; weight, penalty, rank: as found by validation, whose mean squared error is `validation`.
    """

    map: FloatArray
    level: int
    weight: float
    penalty: float
    rank: int
    validation: float

    @property
    def parameters(self) -> int:
        """Numbers of the factors of the map."""
        return self.rank * sum(self.map.shape)


@dataclass(frozen=True)
class _Moments:
    """Sums over windows x (without level) and what follows, y: x x', x y', y y' of all windows; `windows` many."""

    xx: Tensor
    xy: Tensor
    yy: float
    windows: int

    def error(self, left: Tensor, right: Tensor) -> float:
        """Mean squared error of x @ left @ right over these windows. left: [lookback, rank]; right: [rank, horizon]."""
        explained = float(((left.T @ self.xy) * right).sum())
        total = self.yy - 2.0 * explained + float(((left.T @ self.xx @ left) * (right @ right.T)).sum())
        return total / self.windows / right.shape[1]


def _moments(series: Tensor, horizon: int, lookback: int, origins: slice, level: int, weight: float) -> _Moments:
    """series: [channel, T]. Only bars from the first window's first to the last target are read."""
    xx, xy = torch.zeros(lookback, lookback, dtype=torch.float64), torch.zeros(lookback, horizon, dtype=torch.float64)
    yy, count = 0.0, 0
    for channel in series:
        windows = channel[origins.start - lookback + 1 : origins.stop].unfold(0, lookback, 1)
        targets = channel[origins.start + 1 : origins.stop + horizon].unfold(0, horizon, 1)
        for x, y in zip(windows.split(AT_ONCE), targets.split(AT_ONCE), strict=True):
            mean = x[:, -level:].mean(1, keepdim=True)
            x, y = x - mean, y - mean
            counted = (x.square().mean(1, keepdim=True) + FLOOR).pow(-weight / 2)
            xx += ((x * counted).T @ x).double()
            xy += ((x * counted).T @ y).double()
            yy += float((counted * y.square()).sum())
            count += len(x)
    return _Moments(xx, xy, yy, count)


def linear_base(
    series: FloatArray, horizon: int, lookback: int, fit: slice, stop: slice, largest: float = math.inf
) -> LinearBase:
    """Fitted on windows with origins in `fit`, chosen by those in `stop`: level, weight, penalty and rank.

    series: [channel, T], scaled, one map for all channels. fit, stop: last bars of windows; nothing after the last target of `stop` is
    read.
    largest: numbers its factors may have. InputError where no rank is that small.
    """
    ranks = [rank for rank in RANKS if rank * (lookback + horizon) <= largest]
    if not ranks:
        raise InputError(f"a map of {lookback} x {horizon} of rank {RANKS[0]} has more than {largest:.0f} numbers")
    values = torch.from_numpy(series[:, : stop.stop + horizon].astype(np.float32))
    best: LinearBase | None = None
    for level in (bars for bars in LEVELS_BARS if bars <= lookback):
        judge = _moments(values, horizon, lookback, stop, level, 0.0)
        for weight in WEIGHTS:
            learned = _moments(values, horizon, lookback, fit, level, weight)
            for penalty, left, right in _factors(learned, ranks[-1]):
                for rank in ranks:
                    error = judge.error(left[:, :rank], right[:rank])
                    if best is None or error < best.validation:
                        linear = _shifting(left[:, :rank] @ right[:rank], level)
                        best = LinearBase(linear, level, weight, penalty, rank, error)
    assert best is not None
    return best


def _factors(learned: _Moments, rank: int) -> Iterator[tuple[float, Tensor, Tensor]]:
    """(penalty, left [lookback, rank], right [rank, horizon]) of the ridge of penalty x the mean eigenvalue: the first r columns and rows
    are the map of rank r that keeps most of what it forecasts (reduced rank regression, Izenman 1975).
    """
    eigenvalues, vectors = torch.linalg.eigh(learned.xx)
    seen = vectors.T @ learned.xy
    for penalty in PENALTIES:
        raised = eigenvalues.clamp_min(0.0) + penalty * eigenvalues.mean()
        forecast = seen / raised.sqrt()[:, None]  # in the metric of the penalised windows
        directions = torch.linalg.eigh(forecast @ forecast.T)[1].flip(1)[:, :rank]
        yield penalty, vectors @ (directions / raised.sqrt()[:, None]), directions.T @ forecast


def _shifting(linear: Tensor, level: int) -> FloatArray:
    """The map of windows without level as a map of windows as they are: the level is taken off and put back."""
    whole = linear.numpy().copy()
    whole[-level:] += (1.0 - linear.sum(0).numpy()) / level
    return whole
