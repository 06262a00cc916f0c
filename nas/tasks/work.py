"""The units of work of a walk-forward run: pure functions of (samples, window, settings, seed) to a result that can be stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from nas.baselines import Fit, build_baseline
from nas.baselines.own import baseline_of
from nas.network.model import Network, TrainedModel, forecasts_of, network_of
from nas.network.stretches import Samples, Scaler, Tensors
from nas.network.training import Trained, TrainingSettings, first_horizon_score, train
from nas.search.loop import Weights, best_of_repeats, parts_of, repeats_of, search
from nas.search.result import SearchResult
from nas.search.settings import SearchSettings
from nas.search.variants import get_variant
from nas.search.watch import recorder
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace
from nas.tasks.kinds import KindsTask
from nas.tasks.result import TaskResult as TaskResult
from nas.tasks.risk import RiskTask
from nas.tasks.splits import Split
from nas.tasks.windows import Window


@dataclass(frozen=True)
class SearchTask:
    """Search one architecture on one window: reads its train and validation stretches, nothing later.

    initial: relaxed weights (ops, features) of an earlier window's search to start from; None starts from indifference.
    """

    window: Window | Split
    variant: str
    seed: int
    space: SearchSpace
    settings: SearchSettings
    initial: tuple[Weights, Weights] | None = None


@dataclass(frozen=True)
class TrainTask:
    """Train one network from scratch on one window and forecast its stop and test stretches.

    genotype: the searched architecture, or None where `name` is a hand-designed network of `nas.baselines`.
    """

    window: Window | Split
    name: str
    seed: int
    space: SearchSpace
    settings: TrainingSettings
    genotype: Genotype | None = None


Task = SearchTask | TrainTask | RiskTask | KindsTask


def stage_of(task: Task) -> str:
    """What a run's profile counts this task under."""
    if isinstance(task, SearchTask):
        return "search"
    if isinstance(task, RiskTask | KindsTask):
        return "risk"
    return "rivals" if task.genotype is None else "training"


def task_key(task: Task, data_fingerprint: str, code_version: str) -> str:
    """Hash of everything that decides the result."""
    text = json.dumps([type(task).__name__, asdict(task), data_fingerprint, code_version], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def run_task(task: Task, samples: Samples, watch: Path | None = None) -> TaskResult:
    """Single-threaded, so that the same task gives the same bytes in any process. watch: folder for `nas.search.watch`."""
    torch.set_num_threads(1)
    if isinstance(task, RiskTask | KindsTask):
        return task.compute(samples)
    return joined_task(task, [_found(task, samples, watch)]) if isinstance(task, SearchTask) else _train(task, samples)


def continued(task: SearchTask, earlier: TaskResult) -> SearchTask:
    """`task` with a warm start from what an earlier window's search of the same space found."""
    ops = tuple(tuple(row) for row in earlier.report["weights"]["values"])
    rows = [tuple(entry["weights"]) for entry in earlier.report["features"]]
    width = max(len(row) for row in rows)  # rows are told without their padding
    return replace(task, initial=(ops, tuple((*row, *[0.0] * (width - len(row))) for row in rows)))


def tensors_of(task: SearchTask, samples: Samples) -> Tensors:
    """What a search reads."""
    samples = readable(samples, task.window)
    scaler = Scaler.fit(samples.bank.values, task.window.train)
    parts = parts_of(task.window.train)
    spared = slice(parts[0].start, parts[-1].stop)
    return Tensors.of(samples, scaler, together=task.space.together, spared=spared)


def watched(task: SearchTask, watch: Path | None) -> Callable[[dict[str, Any]], None]:
    """Where the rows of its history go while it runs (`nas.search.watch`)."""
    window = task.window
    return recorder(
        watch if isinstance(window, Window) else None,
        f"window{window.number}-{task.variant}-seed{task.seed}",
        {"edges": [list(edge) for edge in task.space.edges], "ops": list(task.space.ops)},
    )


def pieces_of(task: Task) -> list[Task]:
    """What can run side by side and is one task all the same: the repeats of a search. `joined_task` makes its result of theirs."""
    if not isinstance(task, SearchTask):
        return [task]
    return [
        replace(task, settings=once, seed=seed) for once, seed in repeats_of(task.settings, task.seed, task.variant)
    ]


def run_piece(task: Task, samples: Samples, watch: Path | None = None) -> SearchResult | TaskResult:
    """`run_task`, but for a search what it found, for `joined_task`."""
    torch.set_num_threads(1)
    return _found(task, samples, watch) if isinstance(task, SearchTask) else run_task(task, samples)


def joined_task(task: Task, pieces: Sequence[SearchResult | TaskResult]) -> TaskResult:
    """The result that `run_task` gives, of what its pieces found, in their order."""
    if not isinstance(task, SearchTask):
        (whole,) = pieces
        return cast(TaskResult, whole)
    found = cast(Sequence[SearchResult], pieces)
    return reported(
        task, best_of_repeats(found, task.settings, get_variant(task.variant)) if len(found) > 1 else found[0]
    )


def _found(task: SearchTask, samples: Samples, watch: Path | None) -> SearchResult:
    return search(
        task.space,
        tensors_of(task, samples),
        task.window.train,
        task.window.validation,
        task.settings,
        task.seed,
        variant=task.variant,
        initial=task.initial,
        on_record=watched(task, watch),
    )


def reported(task: SearchTask, found: SearchResult) -> TaskResult:
    """What a search found, as a result that can be stored."""
    report = {
        "variant": task.variant,
        "seed": task.seed,
        "genotype": found.genotype.to_dict(),
        "architecture": found.genotype.key(),
        "text": str(found.genotype),
        "likeliest": [genotype.to_dict() for genotype, _ in found.finalists],  # empty without a last round
        "history": list(found.history),
        "note": found.note,
        "decisions": None if found.decisions is None else found.decisions.to_dict(),
        "weights": {
            "edges": [list(edge) for edge in task.space.edges],
            "ops": list(task.space.ops),
            "values": [list(row) for row in found.op_weights],
        },
        "features": [
            {
                "input": name,
                "choices": [*choices, "none"],
                "weights": list(found.feature_weights[k][: len(choices) + 1]),
            }
            for k, (name, choices) in enumerate(task.space.features)
        ],
    }
    return TaskResult({}, report)


def readable(samples: Samples, window: Window | Split) -> Samples:
    """What a search or training of a window may read of the samples: of a split nothing that is held out."""
    return samples.without(window.held, window.reach) if isinstance(window, Split) else samples


def _train(task: TrainTask, whole: Samples) -> TaskResult:
    window, samples = task.window, readable(whole, task.window)
    report: dict[str, Any] = {"name": task.name, "seed": task.seed}
    network: torch.nn.Module | None = None
    if task.genotype is not None:
        features = task.genotype.features
    else:
        # hand-designed rivals read the first candidate pipeline of every input
        features = tuple((name, choices[0]) for name, choices in task.space.features)
        if baseline_of(task.name).fit is None:
            network = build_baseline(task.name, len(features), len(task.space.horizons), task.seed)
        report |= {"architecture": task.name}
    columns = samples.columns(features)
    scaler = Scaler.fit(samples.bank.values[:, columns], window.fit)
    together = task.genotype is not None and bool(task.genotype.assets)
    tensors = Tensors.of(samples, scaler, columns, together)
    x, known = scaler.apply(samples.bank.values[:, columns])
    if task.genotype is None and network is None:
        found = _fit(task, samples, tensors, known)
    else:
        if task.genotype is not None:
            genotype, network, outcome, tried = sized(task, task.genotype, tensors)
            report |= {"genotype": genotype.to_dict(), "architecture": genotype.key(), "sizes": tried}
        else:
            assert network is not None
            outcome = train(network, tensors, window.fit, window.stop, task.settings, task.seed)
        arrays = {}
        shown = (x, known) if whole is samples else scaler.apply(whole.bank.values[:, columns])
        arrays["stop_forecasts"] = forecasts_of(network, x, known, window.stop, together)
        arrays["test_forecasts"] = forecasts_of(network, *shown, window.test, together)
        arrays |= {f"weights.{k}": v.numpy() for k, v in network.state_dict().items()}
        found = TaskResult(
            arrays,
            {
                "parameters": sum(p.numel() for p in network.parameters()),
                "receptive_field": int(network.receptive_field),  # type: ignore[arg-type]
                "validation_loss": outcome.validation_losses[outcome.best_epoch],
                "validation_correlation": outcome.correlation,
                "epochs": len(outcome.train_losses),
                "train_losses": list(outcome.train_losses),
                "stop_losses": list(outcome.validation_losses),
            },
        )
    report |= {
        **found.report,
        "pipelines": [list(item) for item in features],
        "mean": scaler.mean.tolist(),
        "deviation": scaler.deviation.tolist(),
    }
    return TaskResult(found.arrays, report)


def sized(
    task: TrainTask, genotype: Genotype, tensors: Tensors
) -> tuple[Genotype, Network, Trained, list[dict[str, Any]]]:
    """The genotype in the best of the space's sizes: (genotype, trained network, how it went, every size with its validation loss).

    Each size is trained from scratch and judged on the stop stretch; sizes that look back further than the space, which is what the
    stretches are purged by, are left out. Without sizes the genotype is trained as it is.
    """
    reach, tried = task.space.receptive_field, []
    every = dict.fromkeys(genotype.sized(*size) for size in task.space.sizes)
    found = [each for each in every if each.receptive_field <= reach] or [genotype]
    best: tuple[Genotype, Network, Trained] | None = None
    for each in found:
        network = network_of(each, task.seed)
        outcome = train(network, tensors, task.window.fit, task.window.stop, task.settings, task.seed)
        loss = outcome.validation_losses[outcome.best_epoch]
        if best is None or loss < best[2].validation_losses[best[2].best_epoch]:
            best = each, network, outcome
        count = sum(p.numel() for p in network.parameters())
        tried.append({"cells": each.cells, "channels": each.channels, "parameters": count, "validation_loss": loss})
    assert best is not None
    return *best, tried


def _fit(task: TrainTask, samples: Samples, tensors: Tensors, known: npt.NDArray[np.bool_]) -> TaskResult:
    """A rival that is no torch module: it fits itself and is judged on the stop stretch like the others."""
    fit, window = baseline_of(task.name).fit, task.window
    assert fit is not None
    assert isinstance(window, Window)
    job = Fit(samples, tensors, window.fit, window.stop, task.space.horizons, task.settings, task.seed)
    fitted = fit(job)
    arrays = {
        name: np.where(known[:, bars], fitted.forecast(bars), np.nan).T
        for name, bars in (("stop_forecasts", window.stop), ("test_forecasts", window.test))
    }
    loss, correlation = first_horizon_score(arrays["stop_forecasts"].T, tensors, window.stop)
    report = {
        "parameters": fitted.parameters,
        "receptive_field": fitted.receptive_field,
        "validation_loss": loss,
        "validation_correlation": correlation,
        "epochs": fitted.rounds,
        "train_losses": [],
        "stop_losses": [loss],
    }
    return TaskResult(arrays, report)


def model_of(result: TaskResult, interval_ns: int, forecast_scale: float, extra: dict[str, Any]) -> TrainedModel:
    """The searched network of a finished task, ready to be saved for paper trading."""
    genotype = Genotype.from_dict(result.report["genotype"])
    network = network_of(genotype, 0)
    network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in result.weights.items()})
    scaler = Scaler(np.array(result.report["mean"]), np.array(result.report["deviation"]))
    return TrainedModel(genotype, network, scaler, interval_ns, forecast_scale, extra)
