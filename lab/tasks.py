"""What architectures are compared on: planted tasks, whose answer is known, and stretches of real candles. And how each is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data.panel import InputError, Panel
from nas.baselines import build_baseline
from nas.network.model import network_of
from nas.network.stretches import Samples, Scaler, Tensors
from nas.network.training import TrainingSettings, evaluate, train
from nas.search.selection import random_genotype
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace

#: without attention, whose cost would be most of an experiment's
OPS = ("zero", "identity", "dense", "conv3", "dilated3", "ema4", "ema12", "ema36", "diff1")
TEACHER_OPS = ("identity", "conv3", "dilated3", "ema4", "ema12", "ema36", "diff1")
INPUTS, HEARD = 6, 2  # white-noise inputs, and how many of them the label was made of
#: `small`: the presets' before cells read two others; `large`: their space since then
SPACES: dict[str, dict[str, Any]] = {
    "small": {"nodes": 2, "channels": 8},
    "large": {"nodes": 4, "cell_inputs": 2, "channels": 16, "search_channels": 8},
}
TRAINING = TrainingSettings(epochs=15, length=256, batch=4, patience=5)
#: bars of a stretch of real candles: 150 days to learn from, 50 to validate, 60 unseen
REAL = (3_600, 1_200, 1_440)


@dataclass(frozen=True, eq=False)
class Task:
    """One problem: inputs, labels, what may be chosen, and three stretches in order of time with a purge between them."""

    tensors: Tensors
    space: SearchSpace
    train: slice
    validation: slice
    test: slice


def planted(seed: int, strength: float, space: str = "small") -> Task:
    """A label made by a random network of two nodes from two of six inputs; strength: its share of the label's variance.

    space: of `SPACES`; the stretches are as long in each, further apart where networks look back further.
    """
    names = tuple(f"input{k}" for k in range(INPUTS))
    chosen = SearchSpace(ops=OPS, **SPACES[space], features=tuple((name, ("raw",)) for name in names))
    gap = max(240, chosen.receptive_field + 2)
    ends = gap + 1_960, 2 * gap + 1_960 + 800, 3 * gap + 1_960 + 800 + 1_120
    x, label = planted_label(seed, strength, ends[2])
    stretches = slice(gap, ends[0]), slice(ends[0] + gap, ends[1]), slice(ends[1] + gap, ends[2])
    return Task(Tensors(x, label, torch.ones(1, 1, ends[2])), chosen, *stretches)


def planted_label(seed: int, strength: float, bars: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [1, INPUTS, bars] of white noise and the label [1, 1, bars] of `planted`."""
    names = tuple(f"input{k}" for k in range(INPUTS))
    generator = torch.Generator().manual_seed(40_000 + seed)
    heard = sorted(torch.randperm(INPUTS, generator=generator)[:HEARD].tolist())
    small = SearchSpace(ops=TEACHER_OPS, nodes=2, channels=4, features=tuple((names[k], ("raw",)) for k in heard))
    drawn = random_genotype(small, generator)
    heard_inputs = tuple((names[k], "raw") for k in heard)
    teacher = network_of(Genotype(drawn.nodes, 4, 1, (1,), heard_inputs), 1_000 + seed)
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((1, INPUTS, bars)).astype(np.float32))
    with torch.no_grad():
        signal = teacher(x[:, heard])[0, 0].double().numpy()
    noise = rng.standard_normal(bars)
    label = (signal - signal.mean()) / signal.std() * strength**0.5 + noise * (1.0 - strength) ** 0.5
    return x, torch.from_numpy(label.astype(np.float32))[None, None]


def real(history: Panel, seed: int, horizon: int = 6, space: str = "small") -> Task:
    """A stretch of a real history that begins at a random bar; standard inputs and labels, scaled by its training part."""
    chosen = SearchSpace(ops=OPS, **SPACES[space], horizons=(horizon,))
    gap = chosen.receptive_field + horizon + 1
    warm_up = 800
    needed = warm_up + sum(REAL) + 2 * gap + horizon + 1
    if len(history) < needed:
        raise InputError(f"the history has {len(history)} bars, a stretch needs {needed}; give a longer file")
    start = int(np.random.default_rng([seed, 29]).integers(0, len(history) - needed + 1))
    samples = Samples.of(history.cut(start, start + needed), (horizon,))
    bank = samples.bank
    begin = max(warm_up, bank.warmup_bars)
    train_bars = slice(begin, begin + REAL[0])
    validation = slice(train_bars.stop + gap, train_bars.stop + gap + REAL[1])
    test = slice(validation.stop + gap, min(validation.stop + gap + REAL[2], needed - horizon - 1))
    tensors = Tensors.of(samples, Scaler.fit(bank.values, train_bars))
    return Task(
        tensors, chosen.with_features(dict(zip(bank.inputs, bank.pipelines, strict=True))), train_bars, validation, test
    )


def judge(
    task: Task, network: torch.nn.Module, features: tuple[tuple[str, str], ...], seed: int
) -> tuple[float, float]:
    """Train from scratch with early stopping on validation: (validation loss, correlation of forecast and label on test)."""
    tensors = task.tensors.only(task.space.columns(features))
    outcome = train(network, tensors, task.train, task.validation, TRAINING, seed)
    network.eval()
    context = int(network.receptive_field)  # type: ignore[arg-type]
    return outcome.validation_losses[outcome.best_epoch], evaluate(network, tensors, task.test, context)[1]


def judge_genotype(task: Task, genotype: Genotype, seed: int) -> tuple[float, float]:
    """`judge` of the discrete network of a genotype with fresh weights of this seed."""
    return judge(task, network_of(genotype, seed), genotype.features, seed)


def judge_baseline(task: Task, name: str, seed: int) -> tuple[float, float]:
    """A hand-designed network reads the first candidate of every input."""
    first = tuple((name_, pipelines[0]) for name_, pipelines in task.space.features)
    network = build_baseline(name, len(first), len(task.space.horizons), seed)
    return judge(task, network, first, seed)
