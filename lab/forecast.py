"""The search as a forecaster of long horizons, under the protocol of the published tables.

Chronological split, standardised by the training part, lookback 336, mean squared and absolute error over every window of the test
part; and once more over whole batches of 32 only, as the published tables were made (Qiu et al. 2024, TFB, section 3, tell of it).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.panel import FloatArray, InputError
from lab.units import Result, Unit
from nas.network.lookback import LEVELS, LookbackNetwork, LookbackSpace, lookback_network, lookback_tensors
from nas.network.losses import squared
from nas.network.stretches import Tensors
from nas.network.training import TrainingSettings, evaluate, train
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.genotype import Connection, Genotype

HORIZONS = (96, 192, 336, 720)
LOOKBACK, BATCH = 336, 32
MONTH = 30 * 24
#: test MSE by horizon as printed: DLinear in Zeng et al. 2023, table 2; PatchTST/64 in Nie et al. 2023, table 3
PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "ETTh1": {"DLinear": (0.375, 0.405, 0.439, 0.472), "PatchTST/64": (0.370, 0.413, 0.422, 0.447)},
    "ETTh2": {"DLinear": (0.289, 0.383, 0.448, 0.605), "PatchTST/64": (0.274, 0.341, 0.329, 0.379)},
    "exchange_rate": {"DLinear": (0.081, 0.157, 0.305, 0.643), "repeat-last": (0.081, 0.167, 0.305, 0.823)},
}
SEARCH = {"epochs": 6, "fraction": 0.5, "learning_rate": 5e-3, "weight_decay": 1e-4, "alpha_warmup_epochs": 2, "loss": "squared",
          "diagnostics_every": 0, "feature_cost": 0.0}  # fmt: skip
TRAINING = {
    "epochs": 20,
    "learning_rate": 5e-3,
    "weight_decay": 1e-4,
    "length": 256,
    "batch": 4,
    "patience": 6,
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


@torch.no_grad()
def score(forward: Any, tensors: Tensors, bars: slice) -> Result:
    """MSE and MAE over the windows with origins in `bars`: all of them, and the first whole batches of 32."""
    begin, rest = bars.start, (bars.stop - bars.start) // BATCH * BATCH
    sums = np.zeros((2, 2))
    step = 256
    for start in range(begin, bars.stop, step):
        stop = min(start + step, bars.stop)
        out = forward(tensors.x[:, :, start - LOOKBACK : stop])[:, :, LOOKBACK:]
        error = (out - tensors.y[:, :, start:stop]).double()
        for row, end in ((0, stop), (1, min(stop, begin + rest))):
            kept = error[:, :, : max(0, end - start)]
            sums[row] += float(kept.square().sum()), float(kept.abs().sum())
    each = tensors.y.shape[0] * tensors.y.shape[1]
    windows = bars.stop - bars.start
    return {
        "mse": sums[0, 0] / windows / each, "mae": sums[0, 1] / windows / each,
        "mse_batches": sums[1, 0] / rest / each, "mae_batches": sums[1, 1] / rest / each, "windows": windows,
    }  # fmt: skip


def units(
    data: Dataset, horizons: tuple[int, ...], seeds: int, variant: str, period: int, free: bool = False
) -> list[Unit]:
    """Seed by seed. free: the search may also leave the level on (no normalisation)."""
    return [
        Unit(
            f"{data.name}-{horizon}-{variant}{'-free' if free else ''}-{seed}",
            {
                "data": data.name, "digest": data.digest, "horizon": horizon, "seed": seed, "variant": variant, "period": period,
                "free": free, "search": SEARCH, "training": TRAINING,
            },
        )
        for seed in range(seeds)
        for horizon in horizons
    ]  # fmt: skip


def compute(unit: Unit, data: Dataset) -> Result:
    """Search on train (weights) and validation (architecture) with each variant, train what they found from scratch, keep the network
    that is best on validation, and judge that one on test."""
    torch.set_num_threads(1)
    settings = unit.settings
    horizon, seed = settings["horizon"], settings["seed"]
    levels = {**LEVELS, **({"raw": 0} if settings["free"] else {})}
    space = LookbackSpace(
        lookback=LOOKBACK,
        period=settings["period"],
        horizons=tuple(range(1, horizon + 1)),
        features=(("level", tuple(levels)),),
    )
    tensors = lookback_tensors(data.series, horizon, list(levels.values()))
    fit, stop = origins(data.train, horizon, LOOKBACK - 1), origins(data.validation, horizon)
    until = stop.stop  # nothing of the test part is handed on
    seen = Tensors(tensors.x[:, :, :until], tensors.y[:, :, :until], tensors.weight[:, :, :until])
    tried: list[dict[str, Any]] = []
    networks: dict[str, tuple[float, LookbackNetwork, Genotype]] = {}
    for variant in settings["variant"].split(","):
        found = search(space, seen, fit, stop, SearchSettings(**settings["search"]), seed, variant=variant)
        genotype = found.genotype
        if genotype.key() not in networks:
            network = lookback_network(space, genotype, seed)
            networks[genotype.key()] = trained(network, seen, fit, stop, settings["training"], seed), network, genotype
        tried.append({"variant": variant, **_named(genotype), "validation": networks[genotype.key()][0]})
    validation, network, genotype = min(networks.values(), key=lambda item: item[0])
    last = lookback_network(
        space, Genotype(((Connection("level", 0),),), 1, 1, space.horizons, (("level", "last"),)), seed
    )
    test = origins(data.test, horizon)
    return {
        **_named(genotype),
        "tried": tried,
        "parameters": sum(p.numel() for p in network.parameters()),
        "validation": validation,
        "test": score(network, tensors, test),
        "repeat_last": score(last, tensors, test),
    }


def _named(genotype: Genotype) -> dict[str, str]:
    return {"op": genotype.nodes[0][0].op, "level": dict(genotype.features)["level"]}


def trained(
    network: torch.nn.Module, seen: Tensors, fit: slice, stop: slice, settings: dict[str, Any], seed: int
) -> float:
    """Validation loss of the kept weights; a network without any is judged as it is."""
    if not list(network.parameters()):
        return evaluate(network, seen, stop, LOOKBACK, squared)[0]
    outcome = train(network, seen, fit, stop, TrainingSettings(**settings), seed)
    return outcome.validation_losses[outcome.best_epoch]
