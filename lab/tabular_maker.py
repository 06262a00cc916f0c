"""Makes the table of `lab.tabular`: the tasks, every network's ordinary training on each of them, one Parquet."""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from data.atomic import write_bytes
from data.panel import FloatArray, InputError, Panel
from lab.forecast import load
from lab.tabular import RUNGS, SEEDS, TASKS, Tabular, canonical, genotype_of, networks
from lab.tabular_kernel import CHANNELS, CONVS, EDGES, NODES, OPS, TAPS, Floats, size, train_cell
from lab.tasks import planted_label
from lab.units import Record, Result, Unit
from nas.network.calibration import SAMPLE_BARS, STRETCH_BARS
from nas.network.model import network_of
from nas.network.stretches import Samples, Scaler, Tensors, batches_over, spread
from nas.network.training import TrainingSettings
from nas.targets import get_target

#: bars: to learn from (stretches of `TRAINING.length`, whole batches), to validate, unseen; before and between them
TRAIN, VALIDATION, TEST, GAP = 11 * 256, 1_024, 2_048, 136
TRAINING = TrainingSettings(
    epochs=RUNGS[-1], learning_rate=1e-2, weight_decay=1e-4, length=256, batch=3, patience=RUNGS[-1]
)
AHEAD = {"ETTh1": 6, "ETTh2": 6, "btc-return": 6, "btc-range": 24}  # bars
STRENGTH = 0.3  # share of the planted label's variance that is signal
START = np.datetime64("2024-01-01", "ns")  # of the training bars of Bitcoin
FEATURES = {
    "return": ("raw",),
    "range": ("log>zscore168",),
    "volume": ("log>zscore168",),
    "volatility": ("log>zscore168",),
    "day_sin": ("raw",),
    "day_cos": ("raw",),
}
CHUNK = 500  # networks of a unit


@dataclass(frozen=True, eq=False)
class Problem:
    """x: [time, input], y, weight: [time], float32; the stretches are in order of time, `GAP` bars or more apart."""

    name: str
    x: Floats
    y: Floats
    weight: Floats
    train: slice
    validation: slice
    test: slice

    @cached_property
    def digest(self) -> str:
        """Of everything that a training reads."""
        parts = (
            self.x.tobytes(),
            self.y.tobytes(),
            self.weight.tobytes(),
            str((self.train, self.validation, self.test)).encode(),
        )
        return hashlib.sha256(b"".join(parts)).hexdigest()[:12]

    @property
    def tensors(self) -> Tensors:
        """The same as trainings and searches of this house read it."""
        x, y, weight = (torch.from_numpy(np.ascontiguousarray(part)) for part in (self.x.T, self.y, self.weight))
        return Tensors(x[None], y[None, None], weight[None, None])

    @property
    def features(self) -> tuple[tuple[str, str], ...]:
        """A name for every input."""
        return tuple((f"input{k}", "raw") for k in range(self.x.shape[1]))


def stretches(first: int) -> tuple[slice, slice, slice]:
    """Training, validation and test bars, one after the other from bar `first`."""
    validation = first + TRAIN + GAP
    test = validation + VALIDATION + GAP
    return slice(first, first + TRAIN), slice(validation, validation + VALIDATION), slice(test, test + TEST)


def _problem(name: str, x: FloatArray, y: FloatArray, parts: tuple[slice, slice, slice]) -> Problem:
    """x: [input, time]. Inputs standard over the training bars, the label divided by its deviation there."""
    scaled, known = Scaler.fit(x[None].astype(np.float32), parts[0]).apply(x[None].astype(np.float32))
    weight = (known[0] & np.isfinite(y)).astype(np.float32)
    label = np.nan_to_num(y / np.nanstd(y[parts[0]])).astype(np.float32)
    return Problem(name, np.ascontiguousarray(scaled[0].T), label, weight, *parts)


def planted() -> Problem:
    """A label made by a random network of two nodes from two of six inputs of white noise (`lab.tasks.planted_label`)."""
    parts = stretches(GAP)
    x, y = planted_label(0, STRENGTH, parts[2].stop)
    return _problem("planted", x[0].double().numpy(), y[0, 0].double().numpy(), parts)


def transformer(path: Path) -> Problem:
    """ETTh1 or ETTh2: how far the oil temperature moves in six hours, from seven columns.

    Training ends where the official part does, validation and test begin `GAP` bars after the official ones begin."""
    data = load(path)
    if data.name not in AHEAD or len(data.series) != 7:
        raise InputError(f"{path} is no task of the table: give ETTh1.csv and ETTh2.csv")
    ahead = AHEAD[data.name]
    oil = data.series[-1]
    moved = np.full(len(oil), np.nan)
    moved[:-ahead] = oil[ahead:] - oil[:-ahead]
    end, validation, test = data.train.stop - ahead, data.train.stop + GAP, data.validation.stop + GAP
    parts = slice(end - TRAIN, end), slice(validation, validation + VALIDATION), slice(test, test + TEST)
    return _problem(data.name, data.series, moved, parts)


def bitcoin(history: Panel, name: str) -> Problem:
    """`btc-return`: the return of the next six hours; `btc-range`: by how much the range volatility of the next day exceeds the EWMA."""
    first = int(np.searchsorted(history.close_times, START))
    parts = stretches(first)
    if first < 30 * 24 or len(history) < parts[2].stop + AHEAD[name]:
        raise InputError(
            f"{history.assets[0]} has {len(history)} bars from {history.close_times[0]}; the task needs hourly ones from a month before "
            f"{START} to {parts[2].stop + AHEAD[name] - first} bars after it"
        )
    samples = Samples.of(history.cut(0, parts[2].stop + AHEAD[name]), (AHEAD["btc-return"],), FEATURES)
    y = samples.labels[0, 0]
    if name == "btc-range":
        target = get_target("range")
        y = target.label(samples.panel, AHEAD[name])[0] - target.naive(samples.panel, AHEAD[name])[0]
    return _problem(name, samples.bank.values[0].astype(np.float64), y, parts)


def problems(csv: Sequence[Path], histories: Sequence[Panel]) -> dict[str, Problem]:
    """The tasks that these files allow, and the planted one, in the order of `TASKS`."""
    found = {"planted": planted()} | {problem.name: problem for problem in map(transformer, csv)}
    for history in histories:
        found |= {name: bitcoin(history, name) for name in ("btc-return", "btc-range")}
    return {name: found[name] for name in TASKS if name in found}


def units(tasks: Mapping[str, Problem]) -> list[Unit]:
    """Chunks of networks; within a chunk every task and seed, so that a run that is cut leaves whole networks."""
    names = networks()
    chunks = [names[k : k + CHUNK] for k in range(0, len(names), CHUNK)]
    return [
        Unit(
            f"{k:02d}-{name}-{seed}",
            {
                "task": name, "data": problem.digest, "seed": seed, "first": chunk[0], "last": chunk[-1], "networks": len(chunk),
                "chunk": k, "training": asdict(TRAINING), "ops": list(OPS), "channels": CHANNELS,
            },
        )
        for k, chunk in enumerate(chunks)
        for name, problem in tasks.items()
        for seed in SEEDS
    ]  # fmt: skip


def compute(unit: Unit, tasks: Mapping[str, Problem]) -> Result:
    """losses: per network validation after each of `RUNGS` (best so far) and test; seconds: processor time of each."""
    torch.set_num_threads(1)
    settings = unit.settings
    trainer = Trainer(tasks[settings["task"]], settings["seed"])
    losses, seconds = [], []
    first = settings["chunk"] * CHUNK
    for word in networks()[first : first + settings["networks"]]:
        began = time.process_time()
        losses.append([float(value) for value in trainer.train(word)])
        seconds.append(round(time.process_time() - began, 5))
    return {"losses": losses, "seconds": seconds}


class Trainer:
    """Trains cells on one problem from one seed: starting weights and stretches are those of `network_of` and `train`."""

    def __init__(self, problem: Problem, seed: int, settings: TrainingSettings = TRAINING) -> None:
        self.problem, self.seed, self.settings = problem, seed, settings
        bars = torch.arange(len(problem.y), dtype=torch.float64)[None, None]
        numbers = Tensors(bars, bars, bars)  # a stretch of bar numbers says where it begins
        generator = torch.Generator().manual_seed(seed)
        length, batch = settings.length, settings.batch
        self.starts = np.array(
            [
                [
                    x[:, 0, 0].long().tolist()
                    for x, _, _ in batches_over(
                        numbers, (problem.train,), length=length, batch=batch, context=0, generator=generator
                    )
                ]
                for _ in range(settings.epochs)
            ]
        )
        heard = spread(numbers, (problem.train,), STRETCH_BARS, 0, SAMPLE_BARS // STRETCH_BARS)[0]
        self.heard = heard[:, 0, 0].long().numpy()
        rate, least = settings.learning_rate, settings.learning_rate * 0.05
        turns = np.cos(np.pi * np.arange(settings.epochs) / settings.epochs)
        self.rates = least + (rate - least) * (1.0 + turns) / 2.0
        self._initial: dict[tuple[tuple[int, ...], tuple[bool, ...]], Floats] = {}

    def train(self, word: str) -> Floats:
        """Validation loss after each of `RUNGS`, the best so far, then test: [rung + 1]."""
        losses = self.run(word)[1]
        best = np.minimum.accumulate(losses[:-1])
        found: Floats = np.append(best[[rung - 1 for rung in RUNGS]], losses[-1]).astype(np.float32)
        return found

    def run(self, word: str) -> tuple[Floats, FloatArray]:
        """(weights kept, validation loss by epoch and then test) of the network that the word names."""
        problem, settings, word = self.problem, self.settings, canonical(word)
        ops = np.array([int(digit) for digit in word], dtype=np.int64)
        losses = np.zeros(settings.epochs + 1)
        validation, test = (np.array([part.start, part.stop]) for part in (problem.validation, problem.test))
        kept: Floats = train_cell(
            problem.x, problem.y, problem.weight, ops, self.initial(word), self.starts, self.heard, settings.length, STRETCH_BARS,
            validation, test, self.rates, settings.weight_decay, settings.gradient_clip, losses,
        )  # fmt: skip
        return kept, losses

    def initial(self, word: str) -> Floats:
        """The weights that `network_of` draws, as the kernel's vector. They depend on where convolutions stand and on which nodes live."""
        conv = [k for k, digit in enumerate(word) if OPS[int(digit)] == "conv3"]
        live = tuple(any(d != "0" for d, (_, n) in zip(word, EDGES, strict=True) if n == node) for node in range(NODES))
        if (tuple(conv), live) not in self._initial:
            self._initial[tuple(conv), live] = self._drawn(word, conv, live)
        return self._initial[tuple(conv), live]

    def _drawn(self, word: str, conv: list[int], live: tuple[bool, ...]) -> Floats:
        inputs = self.problem.x.shape[1]
        network = network_of(genotype_of(word, self.problem.features), self.seed)
        weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
        out = np.zeros(size(inputs), dtype=np.float32)
        first = inputs * CHANNELS
        out[:first] = weights["stem"].ravel()
        kernels = out[first + CHANNELS : first + CHANNELS + CONVS].reshape(len(EDGES), TAPS, CHANNELS, CHANNELS)
        for source in range(NODES):
            mine = [edge for edge in conv if EDGES[edge][0] == source]
            if mine:
                kernels[mine] = weights[f"cells.0.weights.matrix{source}"].reshape(len(mine), TAPS, CHANNELS, CHANNELS)
        head = out[first + CHANNELS + CONVS : -1].reshape(NODES, CHANNELS)
        head[np.array(live)] = weights["head"].reshape(-1, CHANNELS)
        return out


def parameters(word: str, inputs: int) -> int:
    """Learned numbers of the network."""
    conv = sum(OPS[int(digit)] == "conv3" for digit in word) * TAPS * CHANNELS * CHANNELS
    live = sum(any(d != "0" for d, (_, n) in zip(word, EDGES, strict=True) if n == node) for node in range(NODES))
    return (inputs + 1) * CHANNELS + conv + live * CHANNELS + 1


def whole(found: Sequence[Record], tasks: Mapping[str, Problem]) -> list[int]:
    """Chunks of networks that are finished on every task with every seed."""
    done = {tuple(record.settings[key] for key in ("chunk", "task", "seed")) for record in found}
    chunks = range(math.ceil(len(networks()) / CHUNK))
    return [k for k in chunks if all((k, task, seed) in done for task in tasks for seed in SEEDS)]


def pack(found: Sequence[Record], tasks: Mapping[str, Problem], path: Path) -> Tabular:
    """Write the networks that are finished on every task with every seed as one Parquet, and read it. InputError where none is."""
    chunks, names = whole(found, tasks), networks()
    parts = {(r.settings["chunk"], r.settings["task"], r.settings["seed"]): r.result for r in found}
    if not chunks:
        raise InputError("no network is finished on every task yet; the same command goes on")
    rows = [name for k in chunks for name in names[k * CHUNK : (k + 1) * CHUNK]]
    columns: dict[str, npt.NDArray[Any] | list[str]] = {"cell": rows}
    for task, problem in tasks.items():
        for seed in SEEDS:
            losses = np.concatenate([np.array(parts[k, task, seed]["losses"], dtype=np.float32) for k in chunks])
            for place, what in enumerate([*(f"validation{rung}" for rung in RUNGS), "test"]):
                columns[f"{task}_{seed}_{what}"] = losses[:, place]
        columns[f"{task}_parameters"] = np.array([parameters(row, problem.x.shape[1]) for row in rows], dtype=np.int16)
        spent = np.mean([np.concatenate([parts[k, task, seed]["seconds"] for k in chunks]) for seed in SEEDS], 0)
        columns[f"{task}_seconds"] = spent.round(4).astype(np.float32)
    table = pa.table(columns)
    floats = [name for name in table.column_names if name.rsplit("_", 1)[-1].startswith(("validation", "test"))]
    out = io.BytesIO()
    pq.write_table(
        table, out, compression="zstd", compression_level=19, use_byte_stream_split=floats,
        use_dictionary=[name for name in table.column_names if name not in (*floats, "cell")],
    )  # fmt: skip
    write_bytes(path, out.getvalue())
    return Tabular.load(path)


def differing(table: Tabular, tasks: Mapping[str, Problem], count: int) -> int:
    """How many of `count` entries, drawn from the table, are not the same bits when they are trained once more."""
    rng, wrong = np.random.default_rng(0), 0
    names, trainers = list(tasks), {(name, seed): Trainer(tasks[name], seed) for name in tasks for seed in SEEDS}
    for _ in range(count):
        row, task, seed = (int(rng.integers(n)) for n in (len(table.names), len(names), len(SEEDS)))
        kept = np.append(table.validation[row, task, seed], table.test[row, task, seed])
        wrong += trainers[names[task], SEEDS[seed]].train(table.names[row]).tobytes() != kept.tobytes()
    return wrong
