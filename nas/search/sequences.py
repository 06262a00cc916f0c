"""A search outside trading: sequences and what follows from each, split over samples.

Samples are laid side by side on one time axis, each at the end of a block as long as the longest network looks back, zeros before it; only
the last bar of a block carries loss. The search and the training are those of markets, and no network reads from one sample into another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data.errors import InputError, known_word
from nas.network import lean_torch
from nas.network.model import network_of
from nas.network.stretches import Scaler, Tensors
from nas.network.training import Trained, TrainingSettings, train
from nas.search import loop
from nas.search.result import SearchResult
from nas.search.settings import SearchSettings
from nas.space.genotype import Genotype
from nas.space.ops import DEFAULT_OPS
from nas.space.search_space import Graph, SearchSpace

FloatArray = npt.NDArray[np.float64]
Task = Literal["regression", "classification"]
STRETCHES = 4  # per step; each of so many samples that they make up `batch` together


@dataclass(frozen=True, eq=False, repr=False)
class SequenceResult:
    """What a search on sequences found, trained from scratch.

    Parameters
    ----------
    search : SearchResult
        The search: genotype, history, weights, picture.
    network : Module
        The trained network.
    outcome : Trained
        Its training.
    classes : array, optional
        Of a classification, the labels in the order of the outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from nas.search import search_sequences
    >>> x = np.random.default_rng(0).standard_normal((60, 1, 12))  # [sample, input, step]
    >>> y = np.where(x[:, 0, -1] > x[:, 0, -2], "up", "down")
    >>> found = search_sequences(x, y, task="classification", ops=("zero", "dense", "conv3"), nodes=1, channels=4, epochs=3)
    >>> found.predict(x).shape, found.classes.tolist(), found.probabilities(x).shape
    ((60,), ['down', 'up'], (60, 2))
    """

    search: SearchResult
    network: nn.Module
    outcome: Trained
    scaler: Scaler
    steps: int
    block: int
    mean: FloatArray
    deviation: FloatArray
    classes: npt.NDArray[Any] | None = None

    @property
    def genotype(self) -> Genotype:
        """The architecture."""
        return self.search.genotype

    @property
    def text(self) -> str:
        """The network in words."""
        return self.search.text

    def __repr__(self) -> str:
        return f"SequenceResult({self.text})"

    def _repr_html_(self) -> str:
        return self.search._repr_html_()

    def predict(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """[sample, input, step] -> the likeliest class [sample], or the forecast [sample, output] in the targets' own units."""
        out = self._outputs(x)
        if self.classes is not None:
            return np.asarray(self.classes[out.argmax(1)])
        return out * self.deviation + self.mean

    def probabilities(self, x: npt.ArrayLike) -> FloatArray:
        """[sample, class], in the order of `classes`. InputError for a regression."""
        if self.classes is None:
            raise InputError("this is a regression, which has no probabilities; use predict")
        return np.asarray(torch.softmax(torch.from_numpy(self._outputs(x)), 1).numpy())

    @torch.no_grad()
    @lean_torch.one_thread()
    def _outputs(self, x: npt.ArrayLike) -> FloatArray:
        values = _sequences(x)
        made_for = len(self.scaler.mean), self.steps
        if values.shape[1:] != made_for:
            raise InputError(
                f"the sequences have {values.shape[1]} inputs and {values.shape[2]} steps, this network was made for {made_for[0]} inputs "
                f"and {made_for[1]} steps"
            )
        scaled, _ = self.scaler.apply(values)
        names = [int(name.removeprefix("x")) for name, _ in self.genotype.features]
        shown = np.pad(scaled[:, names], ((0, 0), (0, 0), (self.block - self.steps, 0)))
        out = self.network.eval()(torch.from_numpy(shown))[:, :, -1]
        return np.asarray(out.double().numpy())


@lean_torch.one_thread()
def search_sequences(
    x: Any,
    y: npt.ArrayLike | None = None,
    *,
    task: Task = "regression",
    validation: float | Sequence[int] = 0.25,
    drawn: bool = True,
    variant: str = "darts",
    seed: int = 0,
    ops: Sequence[str] = DEFAULT_OPS,
    nodes: int = 2,
    cells: int = 1,
    channels: int = 16,
    search_cells: int | None = None,
    cell_inputs: int = 1,
    edges_per_node: int = 2,
    graph: Graph = "dense",
    batch: int = 32,
    settings: SearchSettings | None = None,
    training: TrainingSettings | None = None,
    checkpoint: Path | None = None,
    on_record: Callable[[dict[str, Any]], None] = lambda _: None,
    **changes: Any,
) -> SequenceResult:
    """Search a network from sequences to targets and train what was found: weights on some samples, alphas and stopping on others.

    Parameters
    ----------
    x : array [sample, input, step] or [sample, step], or a dataset
        A dataset (anything with `len` whose items are pairs of sequence and target) needs no y.
    y : array [sample], or [sample, output] in a regression
        Several outputs are several horizons; classes may have any labels.
    task : {"regression", "classification"}
        Squared error of standardised targets, or cross-entropy.
    validation : float or sequence of int
        Share of the samples, or which ones.
    drawn : bool
        The share is drawn by `seed`. False: the last samples, for windows that were cut from one series in order; leave out those whose
        window reaches over the cut, or give `validation` and hand only clean samples in.
    variant, seed, ops, nodes, cells, channels, search_cells, cell_inputs, edges_per_node, graph
        As of `nas.search.search` and `SearchSpace`; ops of your own by `nas.register_op`.
    batch : int
        Samples of a step.
    settings, training : optional
        How the search runs (unless given 30 epochs, and an undecided edge holds its first op, as in the papers: signals outside markets
        are strong) and how its network is trained; their lengths in bars are set by `batch`.
    checkpoint : Path, optional
        A killed search goes on from here, to the same bytes; the file is gone at the end.
    on_record : callable
        Receives every epoch's row of the history.
    **changes
        Fields of `SearchSettings`.

    Raises
    ------
    InputError
        For shapes that do not fit, values that are not finite, one class alone, and whatever `nas.search.loop.search` refuses.

    References
    ----------
    Deng and Lindauer (2025), Optimizing Time Series Forecasting Architectures: A Hierarchical Neural Architecture Search Approach
    (DARTS-TS), TMLR, arXiv 2406.05088: the wider space, of sequence networks and flat ones.

    Examples
    --------
    >>> import numpy as np
    >>> from nas.search import search_sequences
    >>> x = np.random.default_rng(0).standard_normal((80, 2, 10))
    >>> y = np.stack([x[:, 0, -1], x[:, 1, -3:].mean(1)], 1)  # two outputs
    >>> found = search_sequences(x, y, ops=("zero", "dense", "conv3"), nodes=1, channels=4, epochs=2)
    >>> found.predict(x).shape
    (80, 2)
    """
    known_word("task", task, ("regression", "classification"))
    if batch < 1:
        raise InputError(f"a step needs at least one sample; give a batch of 1 or more, not {batch}")
    values, targets = _both(x, y)
    fit, held = _split(len(values), validation, drawn, seed)
    labels, mean, deviation, classes = _labels(targets, task, fit)
    space = SearchSpace(
        ops=tuple(ops), nodes=nodes, cells=cells, channels=channels, search_cells=search_cells, edges_per_node=edges_per_node,
        cell_inputs=cell_inputs, graph=graph,
        horizons=tuple(range(1, labels.shape[1] + 1)),
    ).with_features({f"x{k}": ("raw",) for k in range(values.shape[1])})  # fmt: skip
    block = max(values.shape[2], space.receptive_field)
    scaler = Scaler.fit(values[fit], slice(None))
    tensors = _side_by_side(scaler.apply(values)[0], labels, np.concatenate([fit, held]), block)
    parts = slice(0, len(fit) * block), slice(len(fit) * block, len(values) * block)
    loss = {"loss": "classes" if task == "classification" else "squared"}
    lengths = {"length": block * max(1, batch // STRETCHES), "batch": STRETCHES}
    how = (settings or SearchSettings(epochs=30, undecided="first")).changed(**(loss | lengths | changes))
    found = loop.search(space, tensors, *parts, how, seed, variant=variant, on_record=on_record, checkpoint=checkpoint)
    network = network_of(found.genotype, seed)
    shown = tensors.only(space.columns(found.genotype.features))
    told = replace(training or TrainingSettings(epochs=60, patience=15), loss=how.loss, **lengths)
    outcome = train(network, shown, *parts, told, seed)
    return SequenceResult(found, network, outcome, scaler, values.shape[2], block, mean, deviation, classes)


def _both(x: Any, y: npt.ArrayLike | None) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Sequences and targets, from two arrays or from a dataset of pairs."""
    if y is None:
        if not hasattr(x, "__len__") or isinstance(x, np.ndarray) or any(len(x[k]) != 2 for k in range(min(3, len(x)))):
            raise InputError("give targets y, or a dataset whose items are pairs of sequence and target")
        pairs = [x[k] for k in range(len(x))]
        x, y = ([_plain(each[side]) for each in pairs] for side in (0, 1))
    values, targets = _sequences(x), np.asarray(_plain(y))
    if len(values) != len(targets):
        raise InputError(f"there are {len(values)} sequences and {len(targets)} targets; give one for each")
    return values, targets


def _plain(values: Any) -> Any:
    """A tensor, wherever it lies and whatever gradient it has, as an array; everything else as it is."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values


def _sequences(x: Any) -> npt.NDArray[np.float32]:
    """[sample, input, step]; InputError for other shapes and values that are not finite."""
    try:
        values = np.asarray(_plain(x), dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(
            "sequences are numbers [sample, input, step], all equally long; pad shorter ones at their beginning"
        ) from None
    if values.ndim == 2:
        values = values[:, None]
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(f"sequences are [sample, input, step] or [sample, step], not of shape {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(
            "the sequences hold NaN or infinite values; fill them, say by 0, with an input that tells where"
        )
    return values


def _split(
    count: int, validation: float | Sequence[int], drawn: bool, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(samples for weights, samples for alphas and stopping)."""
    if isinstance(validation, float):
        if not 0.0 < validation < 1.0:
            raise InputError(f"the validation share must lie between 0 and 1, not {validation}")
        order = np.random.default_rng(seed).permutation(count) if drawn else np.arange(count)
        held = np.sort(order[count - max(1, round(count * validation)) :])
    elif isinstance(validation, int):
        raise InputError(f"validation is a share such as 0.25, or a list of which samples, not {validation}")
    else:
        held = np.unique(np.asarray(validation, dtype=np.int64))
        if not held.size or held[0] < 0 or held[-1] >= count or len(held) != len(validation):
            raise InputError(f"validation names different samples from 0 to {count - 1}, or a share such as 0.25")
    fit = np.setdiff1d(np.arange(count), held)
    if not fit.size:
        raise InputError(f"all {count} samples are for validation; leave some for training")
    return fit, held


def _labels(
    targets: npt.NDArray[Any], task: str, fit: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[Any] | None]:
    """(labels [sample, output], mean and deviation that undo their scaling, classes). Scaled by the samples that are fitted alone."""
    if task == "classification":
        if targets.ndim != 1:
            raise InputError(f"classes are [sample], not of shape {targets.shape}")
        classes, place = np.unique(targets, return_inverse=True)
        if len(classes) < 2:
            raise InputError("all samples are of one class; there is nothing to tell apart")
        if targets.dtype.kind == "f" and (targets != np.round(targets)).any():
            raise InputError(
                f"targets such as {targets[0]} are numbers, not classes; leave task out, which is regression then"
            )
        unseen = [str(name) for k, name in enumerate(classes) if k not in place[fit]]
        if unseen:
            raise InputError(
                f"class {', '.join(unseen)} has no sample outside validation, to learn it from; give others to validation"
            )
        return np.eye(len(classes))[place], np.zeros(len(classes)), np.ones(len(classes)), classes
    if targets.dtype.kind not in "biuf":
        raise InputError(f"targets such as {str(targets.flat[0])!r} are no numbers; give task='classification'")
    numbers = np.asarray(targets, dtype=np.float64)
    numbers = numbers[:, None] if numbers.ndim == 1 else numbers
    if numbers.ndim != 2 or not np.isfinite(numbers).all():
        raise InputError(f"targets are finite numbers [sample] or [sample, output], not of shape {numbers.shape}")
    mean, deviation = numbers[fit].mean(0), numbers[fit].std(0)
    deviation = np.where(deviation > 1e-12, deviation, 1.0)
    return (numbers - mean) / deviation, mean, deviation, None


def _side_by_side(
    values: npt.NDArray[np.float32], labels: FloatArray, order: npt.NDArray[np.int64], block: int
) -> Tensors:
    """One time axis of blocks, in this order of samples."""
    padded = np.pad(values[order], ((0, 0), (0, 0), (block - values.shape[2], 0)))
    x = torch.from_numpy(np.ascontiguousarray(padded.transpose(1, 0, 2).reshape(1, values.shape[1], -1)))
    bars = torch.arange(len(order)) * block + block - 1
    y, weight = torch.zeros(1, labels.shape[1], x.shape[-1]), torch.zeros(1, 1, x.shape[-1])
    y[0, :, bars] = torch.from_numpy(labels[order].T.astype(np.float32))
    weight[0, 0, bars] = 1.0
    return Tensors(x, y, weight)
