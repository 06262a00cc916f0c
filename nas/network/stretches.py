"""From a panel to what networks learn from: labels, scaling fitted on the training stretch, batches of stretches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.panel import InputError, Panel
from nas.features.bank import Choice, FeatureBank, build_bank, causal_volatility
from nas.targets.returns import CLIP_DEVIATIONS, scaled_return

FloatArray = npt.NDArray[np.float64]
Places = list[tuple[int, int]]  # (asset, or group of assets read together; first bar with loss)


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and standard deviation of each feature column, fitted on a training stretch only.

    Parameters
    ----------
    mean, deviation : float [column]
        `Scaler.fit` makes them.

    Examples
    --------
    >>> import numpy as np
    >>> from nas import Scaler
    >>> values = np.array([[[1.0, 3.0, 1.0, 3.0, 99.0]]], dtype=np.float32)  # [asset, column, time]
    >>> scaler = Scaler.fit(values, slice(0, 4))
    >>> scaled, known = scaler.apply(values)
    >>> scaled[0, 0].tolist(), known.all()
    ([-1.0, 1.0, -1.0, 1.0, 5.0], np.True_)
    """

    mean: FloatArray
    deviation: FloatArray

    @staticmethod
    def fit(values: npt.NDArray[np.float32], bars: slice | Sequence[slice]) -> Scaler:
        """values: [asset, column, time]; only `bars`, one stretch or several, is looked at. A constant column gets deviation 1."""
        parts = (bars,) if isinstance(bars, slice) else bars
        part = np.concatenate([values[:, :, each] for each in parts], axis=2).astype(np.float64)
        known = np.isfinite(part)
        count = np.maximum(known.sum((0, 2)), 1)
        mean = np.where(known, part, 0.0).sum((0, 2)) / count
        variance = np.where(known, (part - mean[None, :, None]) ** 2, 0.0).sum((0, 2)) / count
        deviation = np.sqrt(variance)
        return Scaler(mean, np.where(deviation > 1e-12, deviation, 1.0))

    def apply(
        self, values: npt.NDArray[np.float32], spared: slice | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Scaled and clipped values with 0 where unknown, and per asset and bar whether all columns are known: [asset, time].

        spared: columns that an asset knows in none of these bars do not count against it.
        """
        known = np.isfinite(values)
        scaled = (values - self.mean[None, :, None]) / self.deviation[None, :, None]
        scaled = np.clip(np.where(known, scaled, 0.0), -CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        if spared is not None:
            never = ~known[:, :, spared].any(2, keepdims=True)
            known = (known | never) & known.any(1, keepdims=True)
        everything: npt.NDArray[np.bool_] = np.all(known, axis=1)
        return scaled.astype(np.float32), everything


def labels(panel: Panel, horizons: tuple[int, ...], volatility: FloatArray | None = None) -> FloatArray:
    """What a forecast of returns at bar t is about, as `nas.targets.returns.scaled_return` has it, per horizon.

    Returns [asset, horizon, time]; NaN where the future or the volatility is not known. volatility: [time, asset] (None: EWMA).
    """
    return np.stack([scaled_return(panel, horizon, volatility) for horizon in horizons], 1)


@dataclass(frozen=True, eq=False)
class Samples:
    """Everything of one panel that searches and trainings read; each window slices it.

    Parameters
    ----------
    panel, bank
        The market and its features.
    labels : float [asset, horizon, time]
        What forecasts are about, in standard deviations; NaN where unknown.
    horizons : tuple of int
        Bars ahead.

    Examples
    --------
    >>> from data import load_panel
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    >>> from nas import Samples
    >>> Samples.of(panel, horizons=(1, 6)).labels.shape
    (1, 2, 1440)
    """

    panel: Panel
    bank: FeatureBank
    labels: FloatArray
    horizons: tuple[int, ...]

    @staticmethod
    def of(
        panel: Panel,
        horizons: tuple[int, ...],
        features: Choice | str = "default",
        most_memory: int | None = None,
        volatility: FloatArray | None = None,
    ) -> Samples:
        """features, most_memory: as of `build_bank`. volatility: [time, asset] that scales the labels (None: EWMA)."""
        bank = build_bank(panel, features, most_memory=most_memory)
        return Samples(panel, bank, labels(panel, horizons, volatility), horizons)

    def without(self, held: Sequence[slice], reach: int) -> Samples:
        """The same with nothing to be known of the bars `held`: neither features nor labels, nor labels that end inside.

        reach: bars that a label reads ahead. Prices stay in the panel, which neither searches nor trainings of one asset read.
        """
        values, erased = self.bank.values.copy(), self.labels.copy()
        for part in held:
            values[:, :, part] = np.nan
            erased[:, :, max(0, part.start - reach) : part.stop] = np.nan
        return replace(self, bank=replace(self.bank, values=values), labels=erased)

    def columns(self, features: tuple[tuple[str, str], ...]) -> npt.NDArray[np.int64]:
        """Bank columns of chosen pipelines."""
        names = list(self.bank.names)
        return np.array([names.index(item) for item in features], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Tensors:
    """Scaled inputs and labels of one window, ready for networks.

    Parameters
    ----------
    x : Tensor [asset, column, time]
        Where assets are read together [1, asset, column + 1, time]: the last column says which bars are known (`with_presence`).
    y : Tensor [asset, horizon, time]
        Labels.
    weight : Tensor [asset, 1, time]
        1 where every input is known and the bar may carry loss.
    returns : float [asset, time], optional
        Where assets are read together: log returns over their volatility, NaN where not known (who leads whom is found in them).

    Examples
    --------
    >>> from data import load_panel
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    >>> from nas import Samples, Scaler, Tensors
    >>> samples = Samples.of(panel, horizons=(6,))
    >>> tensors = Tensors.of(samples, Scaler.fit(samples.bank.values, slice(200, 1000)))
    >>> tensors.x.shape[1] == len(samples.bank.names), tensors.y.shape
    (True, torch.Size([1, 1, 1440]))
    """

    x: Tensor
    y: Tensor
    weight: Tensor
    returns: FloatArray | None = None

    def to(self, device: str | torch.device) -> Tensors:
        """The same values on another device; themselves where they are there already."""
        if self.x.device == torch.device(device):
            return self
        return replace(self, x=self.x.to(device), y=self.y.to(device), weight=self.weight.to(device))

    @property
    def together(self) -> bool:
        """Whether assets are read together."""
        return self.x.dim() == 4

    @property
    def columns(self) -> int:
        """How many inputs there are, presence apart."""
        return self.x.shape[-2] - self.together

    def only(self, columns: Sequence[int]) -> Tensors:
        """With these columns."""
        index = [*columns, self.columns] if self.together else list(columns)
        return replace(self, x=self.x[..., index, :])

    @staticmethod
    def of(
        samples: Samples,
        scaler: Scaler,
        columns: npt.NDArray[np.int64] | None = None,
        together: bool = False,
        spared: slice | None = None,
    ) -> Tensors:
        """The window's tensors from the samples: inputs scaled by `scaler`, weight 1 where all columns and the label are known.

        columns: of the bank (None: all). together: all assets as one group with presence, and their returns. spared: as of
        `Scaler.apply`, for a search: it reads all inputs, and one that an asset never has must not silence the asset.
        """
        values = samples.bank.values if columns is None else samples.bank.values[:, columns]
        x, known = scaler.apply(values, spared)
        y = samples.labels
        usable = known[:, None, :] & np.isfinite(y).all(1, keepdims=True)
        return Tensors(
            torch.from_numpy(with_presence(x, known) if together else x),
            torch.from_numpy(np.nan_to_num(y).astype(np.float32)),
            torch.from_numpy(usable.astype(np.float32)),
            standardised_returns(samples.panel) if together else None,
        )


def for_training(
    panel: Panel, bank: FeatureBank, receptive_field: int, reach: int, share: float
) -> tuple[slice, slice]:
    """(training, validation) bars of a whole panel: its last `share` validates, and what labels and context span is purged before it.

    reach: bars that a label reads ahead. InputError for a share outside (0, 1) and a panel too short.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"the validation share must lie between 0 and 1, not {share}")
    first, last, purge = bank.warmup_bars, len(panel) - reach, reach + receptive_field
    cut = last - round(share * (last - first))
    if cut - purge - first < purge or last - cut < 2:
        raise InputError(
            f"{len(panel)} bars are too few for a search: {first} warm the features up and {purge} are purged before validation; "
            f"give more history, fewer cells or nodes, or ops that look back less far"
        )
    return slice(first, cut - purge), slice(cut, last)


def with_presence(x: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """[asset, column, time] and [asset, time] -> [1, asset, column + 1, time]: all assets as one group, the last column 1 where known."""
    return np.concatenate([x, known[:, None].astype(np.float32)], 1)[None]


def standardised_returns(panel: Panel) -> FloatArray:
    """[asset, time]: log return of the close over the volatility known before it, clipped; NaN where either is not known."""
    returns = np.diff(np.log(panel.field("close")), axis=0, prepend=np.nan)
    before = np.vstack([np.full((1, returns.shape[1]), np.nan), causal_volatility(panel)[:-1]])
    with np.errstate(invalid="ignore", divide="ignore"):
        out: FloatArray = np.clip(returns / np.where(before > 0, before, np.nan), -CLIP_DEVIATIONS, CLIP_DEVIATIONS).T
    return out


def batches(
    tensors: Tensors, bars: slice, *, length: int, batch: int, context: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One epoch of random stretches inside `bars`, each with `context` earlier bars whose loss weight is zero.

    The context may reach before `bars.start` (that is the past) but labels are read inside `bars` only; the caller ends
    `bars` before the purge. Yields x [batch, column, context + length], y [batch, horizon, length], weight [batch, 1, length].
    Assets that are read together come as groups of one stretch: x [group, asset, column + 1, context + length], y and weight with
    batch = group * asset; as many groups as come nearest to `batch` stretches, one at least.
    """
    for places, size in places_over(tensors, (bars,), length=length, batch=batch, generator=generator):
        yield stack_stretches(tensors, places, size, context)


def batches_over(
    tensors: Tensors, parts: Sequence[slice], *, length: int, batch: int, context: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """`batches` of several stretches of bars, in one random order."""
    for places, size in places_over(tensors, parts, length=length, batch=batch, generator=generator):
        yield stack_stretches(tensors, places, size, context)


def places_over(
    tensors: Tensors, parts: Sequence[slice], *, length: int, batch: int, generator: torch.Generator
) -> list[tuple[Places, int]]:
    """What `batches_over` yields, before anything is read: per batch its (asset or group, first bar with loss) and bars with loss."""
    groups, batch = tensors.x.shape[0], groups_per_batch(tensors, batch)
    found: list[tuple[Places, int]] = []
    for bars in parts:
        size = bars.stop - bars.start
        bars_each = min(length, size)
        offset = int(torch.randint(0, bars_each, (1,), generator=generator))
        starts = [
            min(max(bars.start, bars.start - offset + k * bars_each), bars.stop - bars_each)
            for k in range(max(1, round(size / bars_each)) + 1)
        ]
        places = [(group, s) for group in range(groups) for s in starts]
        order = torch.randperm(len(places), generator=generator).tolist()
        for first in range(0, len(order), batch):
            found.append(([places[k] for k in order[first : first + batch]], bars_each))
    if len(parts) == 1:  # in random order already
        return found
    return [found[k] for k in torch.randperm(len(found), generator=generator).tolist()]


def groups_per_batch(tensors: Tensors, stretches: int) -> int:
    """How many groups of assets read together come nearest to so many stretches, one at least."""
    return max(1, round(stretches * tensors.x.shape[0] / tensors.y.shape[0]))


def stack_stretches(tensors: Tensors, places: Places, length: int, context: int) -> tuple[Tensor, Tensor, Tensor]:
    """places: (asset, or group of assets read together; first bar with loss). Bars before the panel's first are zeros."""
    xs, ys, ws = [], [], []
    members = tensors.y.shape[0] // tensors.x.shape[0]
    for group, start in places:
        begin = start - context
        x = tensors.x[group, ..., max(begin, 0) : start + length]
        if begin < 0:
            x = torch.nn.functional.pad(x, (-begin, 0))
        xs.append(x)
        mine = slice(group * members, (group + 1) * members)
        ys.append(tensors.y[mine, :, start : start + length])
        ws.append(tensors.weight[mine, :, start : start + length])
    return torch.stack(xs), torch.cat(ys), torch.cat(ws)


def spread(
    tensors: Tensors, parts: Sequence[slice], length: int, context: int, stretches: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One batch of stretches (shorter where `parts` are) evenly spread over `parts` and the assets, as `stack_stretches` gives them."""
    places, length = spread_places(tensors, parts, length, stretches)
    return stack_stretches(tensors, places, length, context)


def spread_places(tensors: Tensors, parts: Sequence[slice], length: int, stretches: int) -> tuple[Places, int]:
    """Where the stretches of `spread` begin, and how long they are."""
    groups, length = tensors.x.shape[0], min(length, *(part.stop - part.start for part in parts))
    count = groups_per_batch(tensors, stretches)
    places = []
    for k in range(count):
        part = parts[k % len(parts)]
        room = part.stop - part.start - length
        places.append((k % groups, part.start + (room * k) // max(1, count - 1)))
    return places, length


def alternating(
    train: slice, validation: slice, blocks: int, purge_bars: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """(stretches for weights, stretches for alphas). blocks 0: the two as they are.

    blocks n: all bars from the start of `train` to the end of `validation` are cut into 2n blocks that serve weights and alphas in
    turn, so that both see every part of the time; each block gives up its last `purge_bars` bars. InputError where none remain.
    """
    if blocks == 0:
        return (train,), (validation,)
    edges = np.linspace(train.start, validation.stop, 2 * blocks + 1).astype(int).tolist()
    parts = [slice(a, b - purge_bars) for a, b in itertools.pairwise(edges)]
    parts[-1] = slice(parts[-1].start, validation.stop)
    if min(p.stop - p.start for p in parts) < purge_bars:
        raise InputError(
            f"{blocks} pairs of blocks over {validation.stop - train.start} bars leave less than the purge of {purge_bars} bars "
            f"in each; use fewer blocks"
        )
    return tuple(parts[::2]), tuple(parts[1::2])
