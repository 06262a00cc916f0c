"""The search as a forecaster of long horizons, under the protocol of the published tables.

Chronological split, standardised by the training part, lookback 336, mean squared and absolute error over every window of the test
part; and once more over whole batches only, as the published tables were made (Qiu et al. 2024, TFB, section 3, tell of it): of 32
windows for DLinear, of 128 for PatchTST. A strong closed form comes first and the search builds on it (docs/evidence/forecast-plan.md).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_1samp
from torch import Tensor, nn

from data.panel import FloatArray, InputError
from lab.units import Result, Unit
from nas.network.lookback import (
    LEVELS,
    LOOKBACK_OPS,
    LookbackNetwork,
    LookbackSpace,
    lookback_network,
    lookback_tensors,
    trailing_mean,
)
from nas.network.losses import squared
from nas.network.stretches import Tensors
from nas.network.training import TrainingSettings, evaluate, train
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.genotype import Connection, Genotype
from nas.targets.lookback_base import FLOOR, LinearBase, linear_base

HORIZONS = (96, 192, 336, 720)
LOOKBACK = 336
#: windows of a batch in the authors' code, which leaves the last, partial one out of the test: LTSF-Linear's and PatchTST's scripts
BATCHES = {"DLinear": 32, "PatchTST/64": 128}
OPS = ("level", "rank4", "folded", "recurrent", "doubly")
#: share of the parameters of PatchTST/64 that a forecast may have
SHARE = 1 / 20
#: of these, what the closed form may have
BASE_SHARE = 3 / 4
MONTH = 30 * 24
#: test MSE by horizon as printed: DLinear in Zeng et al. 2023, table 2; PatchTST/64 in Nie et al. 2023, table 3
PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "ETTh1": {"DLinear": (0.375, 0.405, 0.439, 0.472), "PatchTST/64": (0.370, 0.413, 0.422, 0.447)},
    "ETTh2": {"DLinear": (0.289, 0.383, 0.448, 0.605), "PatchTST/64": (0.274, 0.341, 0.329, 0.379)},
    "exchange_rate": {"DLinear": (0.081, 0.157, 0.305, 0.643), "repeat-last": (0.081, 0.167, 0.305, 0.823)},
}
SEARCH = {"epochs": 4, "fraction": 0.25, "learning_rate": 2e-3, "weight_decay": 1e-4, "alpha_warmup_epochs": 1, "loss": "squared",
          "diagnostics_every": 0, "feature_cost": 0.0}  # fmt: skip
TRAINING = {
    "epochs": 5,
    "learning_rate": 2e-3,
    "weight_decay": 1e-4,
    "length": 256,
    "batch": 4,
    "patience": 4,
    "loss": "squared",
}


def patchtst_parameters(horizon: int) -> int:
    """PatchTST/64 as its authors run it on ETTh: lookback 512, patches of 16 every 8 (64 with the padded one), width 16, 3 layers,
    feed-forward 128 (Nie et al. 2023, appendix A.1.4); one flat head per horizon.
    """
    width, wide, patches, patch, layers = 16, 128, 64, 16, 3
    attention = 4 * (width * width + width)
    layer = attention + (width * wide + wide) + (wide * width + width) + 2 * 2 * width
    return (patch * width + width) + patches * width + layers * layer + patches * width * horizon + horizon


@dataclass(frozen=True, eq=False)
class Dataset:
    """series: [channel, T], standardised by the training part. train, validation, test: rows of the targets."""

    name: str
    series: FloatArray
    train: slice
    validation: slice
    test: slice
    digest: str


def load(path: Path) -> Dataset:
    """A CSV of one row a time step, a date column or none, plain or gzipped. InputError for what is no such table."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a CSV with one row a time step")
    name = path.name.split(".")[0]
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", errors="replace")
    rows = [row for row in csv.reader(text.splitlines()) if row]
    columns = slice(0, None)
    if rows and not _number(rows[0][-1]):
        rows = rows[1:]
    if rows and not _number(rows[0][0]):
        columns = slice(1, None)
    try:
        table = np.array([[float(v) for v in row[columns]] for row in rows])
    except ValueError as error:
        raise InputError(f"{path} is no table of numbers: {error}") from None
    if table.ndim != 2 or len(table) < 3 * LOOKBACK or not np.isfinite(table).all():
        raise InputError(f"{path} has {len(table)} usable rows; at least {3 * LOOKBACK} of finite numbers are needed")
    if name.startswith("ETTh"):
        ends = (12 * MONTH, 16 * MONTH, 20 * MONTH)
    else:
        n = len(table)
        ends = (int(n * 0.7), n - int(n * 0.2), n)
    part = table[: ends[0]]
    spread = part.std(0)
    series = ((table - part.mean(0)) / np.where(spread > 0, spread, 1.0))[: ends[2]].T
    digest = hashlib.sha256(raw).hexdigest()[:12]
    return Dataset(name, np.ascontiguousarray(series), slice(0, ends[0]), slice(*ends[:2]), slice(*ends[1:]), digest)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def origins(targets: slice, horizon: int, first: int = 0) -> slice:
    """Last bars of the windows whose targets lie in `targets`; the lookback may reach before it, but not before bar 0."""
    return slice(max(targets.start - 1, first), targets.stop - horizon)


def score(forward: Any, tensors: Tensors, bars: slice) -> Result:
    """MSE and MAE over the windows with origins in `bars`: all of them, the first whole batches of 32, and of 128."""
    squares, absolutes = errors(forward, tensors, bars)
    windows = len(squares)
    found: Result = {}
    whole = {f"_{n}": windows // n * n or windows for n in BATCHES.values()}
    for name, kept in {"": windows, **whole}.items():
        found |= {f"mse{name}": float(squares[:kept].mean()), f"mae{name}": float(absolutes[:kept].mean())}
    return {**found, "windows": windows}


@torch.no_grad()
def errors(forward: Any, tensors: Tensors, bars: slice) -> tuple[FloatArray, FloatArray]:
    """Mean squared and mean absolute error of each window with its origin in `bars`: [window]."""
    squares, absolutes, step = [], [], 256
    for start in range(bars.start, bars.stop, step):
        stop = min(start + step, bars.stop)
        out = forward(tensors.x[:, :, start - LOOKBACK : stop])[:, :, LOOKBACK:]
        error = (out - tensors.y[:, :, start:stop]).double()
        squares.append(error.square().mean((0, 1)).numpy())
        absolutes.append(error.abs().mean((0, 1)).numpy())
    return np.concatenate(squares), np.concatenate(absolutes)


def units(
    data: Dataset, horizons: tuple[int, ...], seeds: int, variant: str, period: int, first: int = 0
) -> list[Unit]:
    """Seed by seed, from `first` on."""
    return [
        Unit(
            f"{data.name}-{horizon}-{variant}-{seed}",
            {
                "data": data.name, "digest": data.digest, "horizon": horizon, "seed": seed, "variant": variant, "period": period,
                "ops": list(OPS), "search": SEARCH, "training": TRAINING,
            },
        )
        for seed in range(first, first + seeds)
        for horizon in horizons
    ]  # fmt: skip


@cache
def base_of(data: Dataset, horizon: int) -> LinearBase:
    """The closed form of a table and horizon, which is the same for every seed."""
    fit, stop = origins(data.train, horizon, LOOKBACK - 1), origins(data.validation, horizon)
    return linear_base(data.series, horizon, LOOKBACK, fit, stop, patchtst_parameters(horizon) * SHARE * BASE_SHARE)


def tensors_of(data: Dataset, horizon: int, base: LinearBase) -> tuple[Tensors, Tensors]:
    """(what training and validation see, all): windows to learn from count as they do in the base, the others alike."""
    tensors = lookback_tensors(data.series, horizon, list(LEVELS.values()))
    fit, stop = origins(data.train, horizon, LOOKBACK - 1), origins(data.validation, horizon)
    level = trailing_mean(data.series, base.level)
    squares, mean = trailing_mean(data.series**2, LOOKBACK), trailing_mean(data.series, LOOKBACK)
    counted = (squares - 2 * level * mean + level**2 + FLOOR) ** (-base.weight / 2)
    weight = tensors.weight.clone()
    weight[:, 0, fit] = torch.from_numpy((counted[:, fit] / counted[:, fit].mean()).astype(np.float32))
    until = stop.stop  # nothing of the test part is handed on
    return Tensors(tensors.x[:, :, :until], tensors.y[:, :, :until], weight[:, :, :until]), tensors


class Mean(nn.Module):
    """The mean forecast of networks."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([network(x) for network in self.networks]).mean(0)


def better(ours: FloatArray, theirs: FloatArray, horizon: int) -> bool:
    """Whether the losses of windows are lower than another's by more than their noise.

    Windows closer than the horizon share targets, so means of blocks of that length are compared: a one-sided paired t-test at 5%. Fewer
    than two blocks decide nothing.
    """
    blocks = len(ours) // horizon
    if blocks < 2:
        return False
    gain = (theirs - ours)[-blocks * horizon :].reshape(blocks, horizon).mean(1)
    return bool(ttest_1samp(gain, 0.0, alternative="greater").pvalue < 0.05)


@dataclass(frozen=True)
class Member:
    """A forecast that may join the mean. parameters: of what it adds to the closed form."""

    op: str
    level: str
    validation: float
    network: LookbackNetwork

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())


def compute(unit: Unit, data: Dataset) -> Result:
    """Search what the closed form leaves, on train (weights) and validation (architecture) with each variant; train what they found from
    scratch; take the mean of as many as validation likes, or the last value where validation cannot tell that it is beaten. That one is
    judged on test; closed form, best network and mean are told beside it. Nothing is searched where validation is too short to tell.
    """
    torch.set_num_threads(1)
    settings = unit.settings
    horizon = settings["horizon"]
    base = base_of(data, horizon)
    seen, tensors = tensors_of(data, horizon, base)
    stop, test = origins(data.validation, horizon), origins(data.test, horizon)
    decides = (stop.stop - stop.start) // horizon >= 2  # else `better` takes the last value whatever is found
    members, tried = found_by(settings if decides else {**settings, "variant": ""}, data, base, seen)
    kept, meant = mean_of(members, seen, stop, patchtst_parameters(horizon) * SHARE - base.parameters)
    last = last_value(horizon)
    ours, theirs = (errors(forward, seen, stop)[0] for forward in (kept, last))
    beats = better(ours, theirs, horizon)
    closed = next(m.network for m in members if m.op == "level")
    arms = {"closed form": closed, "best network": members[0].network, "mean": kept, "last value": last}
    scores = {name: score(network, tensors, test) for name, network in arms.items()}
    return {
        "chosen": [f"{m.op} on {m.level}" for m in meant] if beats else ["last value"],
        "tried": tried,
        "base": {k: getattr(base, k) for k in ("level", "weight", "penalty", "rank", "validation")},
        "parameters": base.parameters + sum(p.numel() for p in kept.parameters()) if beats else 0,
        "validation": float((ours if beats else theirs).mean()),
        "validation_last_value": float(theirs.mean()),
        "arms": scores,
        "test": scores["mean" if beats else "last value"],
        "repeat_last": scores["last value"],
    }


def space_of(horizon: int, period: int, ops: Sequence[str], base: LinearBase | None) -> LookbackSpace:
    """One edge on top of the closed form; which level is taken off is chosen too."""
    linear = None if base is None else torch.from_numpy(base.map.astype(np.float32))
    steps = tuple(range(1, horizon + 1))
    return LookbackSpace(
        tuple(ops), lookback=LOOKBACK, period=period, horizons=steps, features=(("level", tuple(LEVELS)),), base=linear
    )


def plain(space: LookbackSpace) -> Genotype:
    """Nothing but the base of the space and the last value, the level that is put back."""
    return Genotype(((Connection("level", 0),),), 1, 1, space.horizons, (("level", "last"),))


def last_value(horizon: int) -> LookbackNetwork:
    space = space_of(horizon, 24, ("level",), None)
    return lookback_network(space, plain(space), 0)


def found_by(
    settings: Mapping[str, Any], data: Dataset, base: LinearBase, seen: Tensors
) -> tuple[list[Member], list[dict[str, Any]]]:
    """(the closed form and what the variants found, best on validation first; what each variant found)."""
    horizon, seed = settings["horizon"], settings["seed"]
    room, lengths = patchtst_parameters(horizon) * SHARE - base.parameters, (LOOKBACK, settings["period"], horizon)
    fitting = [op for op in settings["ops"] if LOOKBACK_OPS[op].parameters(*lengths) < room]
    space = space_of(horizon, settings["period"], fitting, base)
    fit, stop = origins(data.train, horizon, LOOKBACK - 1), origins(data.validation, horizon)
    members: dict[tuple[str, str], Member] = {}

    def join(genotype: Genotype) -> Member:
        op, level = genotype.nodes[0][0].op, dict(genotype.features)["level"]
        if op == "level":
            level = "last"  # the closed form alone, which no level changes
        if (op, level) not in members:
            network = lookback_network(space, genotype, seed)
            members[op, level] = Member(
                op, level, trained(network, seen, fit, stop, settings["training"], seed), network
            )
        return members[op, level]

    join(plain(space))
    tried = []
    for variant in filter(None, settings["variant"].split(",")):
        genotype = search(space, seen, fit, stop, SearchSettings(**settings["search"]), seed, variant=variant).genotype
        member = join(genotype)
        tried.append({"variant": variant, "op": member.op, "level": member.level, "validation": member.validation})
    return sorted(members.values(), key=lambda m: m.validation), tried


def mean_of(members: Sequence[Member], seen: Tensors, stop: slice, allowed: float) -> tuple[Mean, list[Member]]:
    """The mean of the best members on validation, as many as are best together and have less than `allowed` parameters."""
    fitting: list[Member] = []
    for member in members:
        if sum(m.parameters for m in fitting) + member.parameters < allowed:
            fitting.append(member)
    means = [(Mean([m.network for m in fitting[: k + 1]]), fitting[: k + 1]) for k in range(len(fitting))]
    return min(means, key=lambda mean: evaluate(mean[0], seen, stop, LOOKBACK, squared)[0])


def trained(network: nn.Module, seen: Tensors, fit: slice, stop: slice, settings: dict[str, Any], seed: int) -> float:
    """Validation loss of the kept weights; a network without any is judged as it is."""
    if not list(network.parameters()):
        return evaluate(network, seen, stop, LOOKBACK, squared)[0]
    outcome = train(network, seen, fit, stop, TrainingSettings(**settings), seed)
    return outcome.validation_losses[outcome.best_epoch]
