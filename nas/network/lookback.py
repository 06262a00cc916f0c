"""Searching a forecaster of many steps: from the last `lookback` bars of one series to the next `horizons` bars, channel by channel.

The one search loop and the one training loop serve it: `Tensors` hold the channels as assets (channel independence: all share one
network, Nie et al. 2023, section 3.1), the candidate levels as columns, and the next bars as labels. Two things are chosen:

- the *level* that is taken off the window before the map and put back on its forecast (reversible instance normalisation, Kim et al.
  2022, without its scale: a linear map passes a scale through unchanged). Candidates are the columns; mixed levels are levels.
- the *map* from window to horizon, an op of `LOOKBACK_OPS`. The linear ones are folded: the hidden values of the low-rank ones are one
  matrix product, their mix another (DESIGN, idea 2). Blocks (`lookback_blocks`) see the window in units of its own spread.

With a `base`, a linear map of the window found beforehand (`nas.targets.lookback_base`), the map learns what that leaves (DESIGN, idea 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from data.panel import InputError
from nas.network.lookback_blocks import BLOCKS
from nas.network.stretches import Tensors
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace

FloatArray = npt.NDArray[np.float64]
View = Literal["window", "trend", "remainder", "recent"]
#: bars of the moving average that splits trend from remainder (DLinear, Zeng et al. 2023: 25)
TREND_BARS = 25
RECENT_BARS = 96
#: added to the spread of a window, in deviations of the training part, so that a window that stands still is not blown up
SPREAD_FLOOR = 0.1


@dataclass(frozen=True)
class LookbackOp:
    """A map from the levelled window to the horizon: a sum of low-rank maps of views, and of one shared by the phases of the period.

    ranks: rank of the map per view. folded: the same small map for every phase of the period (SparseTSF, Lin et al. 2024). block: a name
    of `lookback_blocks.BLOCKS`, or none.
    """

    name: str
    title: str
    ranks: tuple[tuple[View, int], ...] = ()
    folded: bool = False
    block: str = ""

    def parameters(self, lookback: int, period: int, horizon: int) -> int:
        """Learned numbers of the op for these lengths, all in steps."""
        count = sum(rank * (_length(view, lookback) + horizon) for view, rank in self.ranks)
        if self.block:
            count += sum(p.numel() for p in BLOCKS[self.block](lookback, period, horizon).parameters())
        return count + (lookback // period * -(-horizon // period) if self.folded else 0)


LOOKBACK_OPS: dict[str, LookbackOp] = {
    op.name: op
    for op in (
        LookbackOp("level", "the level goes on"),
        LookbackOp("rank4", "linear map of rank 4", (("window", 4),)),
        LookbackOp("rank8", "linear map of rank 8", (("window", 8),)),
        LookbackOp("rank12", "linear map of rank 12", (("window", 12),)),
        LookbackOp("split6", "trend and remainder, each a linear map of rank 6", (("trend", 6), ("remainder", 6))),
        LookbackOp("recent12", f"linear map of rank 12 of the last {RECENT_BARS} bars", (("recent", 12),)),
        LookbackOp("folded", "one linear map for every phase of the period", folded=True),
        LookbackOp("folded_rank8", "the folded map and one of rank 8", (("window", 8),), folded=True),
        LookbackOp("recurrent", "a recurrent unit over the days", block="recurrent"),
        LookbackOp("doubly", "doubly residual blocks of trend and season", block="doubly"),
    )
}


def _length(view: View, lookback: int) -> int:
    return min(RECENT_BARS, lookback) if view == "recent" else lookback


@dataclass(frozen=True)
class LookbackSpace(SearchSpace):
    """One edge, whose ops are maps of the whole lookback; `features` holds the candidate levels as pipelines of one input.

    base: [lookback, horizon], whose columns sum to 1 (a shifted series has the shifted forecast), on which the ops build; None: the level.
    """

    ops: tuple[str, ...] = tuple(LOOKBACK_OPS)
    nodes: int = 1
    lookback: int = 336
    period: int = 24
    base: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in self.ops:
            if name not in LOOKBACK_OPS:
                raise InputError(f"no lookback op named {name!r}; there are {', '.join(LOOKBACK_OPS)}")
        if self.nodes != 1 or self.cells != 1:
            raise InputError("a lookback space has one node in one cell")
        if self.period < 1 or self.lookback % self.period:
            raise InputError(
                f"the lookback of {self.lookback} bars is no multiple of the period of {self.period}; give one that is"
            )
        if self.horizons != tuple(range(1, len(self.horizons) + 1)):
            raise InputError("the horizons of a lookback space are 1, 2, 3, ... without holes")

    @property
    def together(self) -> bool:
        return False

    @property
    def receptive_field(self) -> int:
        return self.lookback


class LookbackNetwork(nn.Module):
    """forward(x [batch, level column, time]) -> [batch, horizon, time]; column 0 is the series itself. Causal, time-invariant.

    With `mix` (weight per op) and `input_mix` (weight per column) it is the supernet; the weights of the columns are brought to sum
    1, so that something is always taken off. Without them `level` is the column.
    """

    def __init__(self, space: LookbackSpace, ops: Sequence[str], level: int | None = None) -> None:
        super().__init__()
        self.receptive_field = space.lookback
        self.ops = [LOOKBACK_OPS[name] for name in ops]
        self.period, self.horizon, self.level = space.period, len(space.horizons), level
        parts = [(k, view, rank) for k, op in enumerate(self.ops) for view, rank in op.ranks]
        self.views = tuple(dict.fromkeys(view for _, view, _ in parts))
        self.into, self.out = nn.ParameterDict(), nn.ParameterDict()
        op_of: list[int] = []  # of every inner value, view by view
        for view in self.views:
            mine = [(k, rank) for k, v, rank in parts if v == view]
            length, ranks = _length(view, space.lookback), sum(rank for _, rank in mine)
            self.into[view] = nn.Parameter(torch.randn(length, ranks) * length**-0.5)
            self.out[view] = nn.Parameter(torch.randn(ranks, self.horizon) * (0.1 * ranks**-0.5))
            op_of += [k for k, rank in mine for _ in range(rank)]
        self.register_buffer("op_of", torch.tensor(op_of, dtype=torch.long), persistent=False)
        self.register_buffer("smoothing", moving_average(space.lookback), persistent=False)
        self.register_buffer("base", space.base, persistent=False)
        self.blocks = nn.ModuleDict(
            {
                str(k): BLOCKS[op.block](space.lookback, self.period, self.horizon)
                for k, op in enumerate(self.ops)
                if op.block
            }
        )
        self.folding = [k for k, op in enumerate(self.ops) if op.folded]
        if self.folding:
            rows, columns = space.lookback // space.period, -(-self.horizon // space.period)
            self.fold = nn.Parameter(torch.randn(len(self.folding), rows, columns) * (0.1 * rows**-0.5))

    def forward(
        self,
        x: Tensor,
        mix: Tensor | None = None,
        input_mix: Tensor | None = None,
        bypass: Tensor | None = None,
        *,
        last: int | None = None,
    ) -> Tensor:
        lookback = self.receptive_field
        if input_mix is not None:
            weights = input_mix / input_mix.sum().clamp_min(1e-6)
            level = (x * weights[:, None]).sum(1)
        else:
            level = x[:, self.level or 0]
        bars = level.shape[-1] if last is None else last
        level = level[:, -bars:]
        series = nn.functional.pad(x[:, 0], (lookback - 1, 0))[:, -(lookback - 1 + bars) :]
        window = series.unfold(-1, lookback, 1) - level[..., None]  # [batch, time, lookback]
        total = level[..., None].expand(-1, -1, self.horizon)
        if self.base is not None:
            total = total + window @ self.get_buffer("base")
        if self.views:
            inner = window @ torch.cat([self.seen(view) for view in self.views], 1)
            if mix is not None:
                inner = inner * mix[self.get_buffer("op_of")]
            total = total + inner @ torch.cat([self.out[view] for view in self.views])
        if self.folding:
            fold = self.fold if mix is None else self.fold * mix[self.folding][:, None, None]
            phases = window.reshape(*window.shape[:-1], -1, self.period)  # [batch, time, row, phase]
            folded = torch.einsum("btrp,rc->btcp", phases, fold.sum(0)).flatten(2)
            total = total + folded[..., : self.horizon]
        if self.blocks:
            spread = window.square().mean(-1, keepdim=True).sqrt() + SPREAD_FLOOR
            for k, block in self.blocks.items():
                weight = 1.0 if mix is None else mix[int(k)]
                total = total + block(window / spread) * spread * weight
        return total.transpose(1, 2)

    def seen(self, view: str) -> Tensor:
        """The map of a view as a map of the whole window: every view is linear, so the views are folded into the weights."""
        weights: Tensor = self.into[view]
        if view == "recent":
            return nn.functional.pad(weights, (0, 0, self.receptive_field - len(weights), 0))
        if view == "window":
            return weights
        trend: Tensor = self.get_buffer("smoothing") @ weights
        return trend if view == "trend" else weights - trend


def moving_average(lookback: int) -> Tensor:
    """[lookback, lookback]: window @ this is its centred moving average, ends repeated (DLinear). Nothing outside the window is read."""
    half = TREND_BARS // 2
    padded = nn.functional.pad(torch.eye(lookback)[:, None], (half, half), mode="replicate")
    return nn.functional.avg_pool1d(padded, TREND_BARS, stride=1)[:, 0]


def lookback_supernet(
    space: LookbackSpace, seed: int, kept: Sequence[Sequence[bool]] | None, partial: int, auxiliary: bool
) -> LookbackNetwork:
    """The weights of every op that is still in the race. InputError for variants that need channels or skips."""
    if partial != 1 or auxiliary:
        raise InputError("a lookback space has no channels to send past its ops and no skip: choose another variant")
    ops = [name for k, name in enumerate(space.ops) if kept is None or kept[0][k]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LookbackNetwork(space, ops)


def lookback_network(space: LookbackSpace, genotype: Genotype, seed: int) -> LookbackNetwork:
    """The discrete network of a genotype with fresh weights; it reads the same columns as the supernet."""
    (_, pipelines), chosen = space.features[0], dict(genotype.features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LookbackNetwork(space, [c.op for c in genotype.nodes[0]], pipelines.index(next(iter(chosen.values()))))


#: level -> bars of the trailing mean that is taken off (0: nothing is)
LEVELS = {"last": 1, "mean24": 24, "mean168": 168, "mean336": 336}


def trailing_mean(series: FloatArray, bars: int) -> FloatArray:
    """[..., T]: mean of the last `bars` values, of fewer before there are that many; bars 0: zeros."""
    if bars == 0:
        return np.zeros_like(series)
    total = np.cumsum(np.concatenate([np.zeros_like(series[..., :1]), series], -1), -1)
    stop = np.arange(1, series.shape[-1] + 1)
    start = np.maximum(stop - bars, 0)
    mean: FloatArray = (total[..., stop] - total[..., start]) / (stop - start)
    return mean


def lookback_tensors(series: FloatArray, horizon: int, levels: Sequence[int]) -> Tensors:
    """series: [channel, T], scaled. Labels are views of the series: label h at bar t is the value at t + h + 1; the last bars have none."""
    columns = np.stack([series if bars == 1 else trailing_mean(series, bars) for bars in levels], 1)
    values = torch.from_numpy(series.astype(np.float32))
    future = values[:, 1:].unfold(1, horizon, 1).transpose(1, 2)  # [channel, horizon, T - horizon]
    x = torch.from_numpy(columns[..., : future.shape[-1]].astype(np.float32))
    return Tensors(x, future, torch.ones(len(series), 1, future.shape[-1]))
