"""The units of work of a walk-forward run: pure functions of (samples, window, settings, seed) to a result that can be stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch

from data.atomic import write_bytes
from nas.baselines import build_baseline
from nas.genotype import Genotype
from nas.network import TrainedModel, forecast_sequence, network_of
from nas.search import SearchSettings, search
from nas.space import SearchSpace
from nas.stretches import Samples, Scaler, Tensors
from nas.training import TrainingSettings, train
from nas.windows import Window

BASELINE_PIPELINES = "first"  # hand-designed networks read the first candidate pipeline of every input


@dataclass(frozen=True)
class Task:
    """Search (or build) and train one network on one window. kind `searched` uses `variant`; kind `network` names a baseline."""

    kind: Literal["searched", "network"]
    window: Window
    variant: str
    seed: int
    space: SearchSpace
    search: SearchSettings
    training: TrainingSettings

    def key(self, data_fingerprint: str, code_version: str) -> str:
        """Hash of everything that decides the result."""
        text = json.dumps([asdict(self), data_fingerprint, code_version], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False)
class TaskResult:
    """Forecasts of the stop stretch and the test stretch, the trained weights and what is worth telling about the way there.

    stop_forecasts, test_forecasts: [bar, asset], NaN where a feature is not known.
    """

    stop_forecasts: npt.NDArray[np.float64]
    test_forecasts: npt.NDArray[np.float64]
    weights: dict[str, npt.NDArray[np.float32]]
    report: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        arrays = {f"weights.{k}": np.ascontiguousarray(v) for k, v in self.weights.items()}
        arrays["stop_forecasts"] = np.ascontiguousarray(self.stop_forecasts)
        arrays["test_forecasts"] = np.ascontiguousarray(self.test_forecasts)
        write_bytes(path, safetensors.numpy.save(arrays, metadata={"report": json.dumps(self.report, sort_keys=True)}))

    @staticmethod
    def load(path: Path) -> TaskResult:
        content = path.read_bytes()
        arrays = safetensors.numpy.load(content)
        size = int.from_bytes(content[:8], "little")
        report = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["report"])
        weights = {k.removeprefix("weights."): v for k, v in arrays.items() if k.startswith("weights.")}
        return TaskResult(arrays["stop_forecasts"], arrays["test_forecasts"], weights, report)


def run_task(task: Task, samples: Samples) -> TaskResult:
    """Single-threaded, so that the same task gives the same bytes in any process."""
    torch.set_num_threads(1)
    window = task.window
    report: dict[str, Any] = {"kind": task.kind, "variant": task.variant, "seed": task.seed}
    if task.kind == "searched":
        scaler = Scaler.fit(samples.bank.values, window.train)
        found = search(task.space, Tensors.of(samples, scaler), window.train, window.validation, task.search, task.seed)
        genotype = found.genotype
        features = genotype.features
        report |= {
            "genotype": genotype.to_dict(),
            "architecture": genotype.key(),
            "text": str(genotype),
            "history": list(found.history),
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
        network: torch.nn.Module = network_of(genotype, task.seed)
    else:
        features = tuple((name, choices[0]) for name, choices in task.space.features)
        network = build_baseline(task.variant, len(features), len(task.space.horizons), task.seed)
        report |= {"architecture": task.variant}
    columns = samples.columns(features)
    scaler = Scaler.fit(samples.bank.values[:, columns], window.fit)
    tensors = Tensors.of(samples, scaler, columns)
    outcome = train(network, tensors, window.fit, window.stop, task.training, task.seed)
    x, known = scaler.apply(samples.bank.values[:, columns])
    forecasts = []
    for bars in (window.stop, window.test):
        out = forecast_sequence(network, x, bars.start, bars.stop)[:, 0]
        forecasts.append(np.where(known[:, bars], out, np.nan).T)
    report |= {
        "parameters": sum(p.numel() for p in network.parameters()),
        "receptive_field": int(network.receptive_field),  # type: ignore[arg-type]
        "validation_loss": outcome.validation_losses[outcome.best_epoch],
        "validation_correlation": outcome.correlation,
        "epochs": len(outcome.train_losses),
        "train_losses": list(outcome.train_losses),
        "stop_losses": list(outcome.validation_losses),
        "pipelines": [list(item) for item in features],
        "mean": scaler.mean.tolist(),
        "deviation": scaler.deviation.tolist(),
    }
    return TaskResult(forecasts[0], forecasts[1], {k: v.numpy() for k, v in network.state_dict().items()}, report)


def model_of(result: TaskResult, interval_ns: int, forecast_scale: float, extra: dict[str, Any]) -> TrainedModel:
    """The searched network of a finished task, ready to be saved for paper trading."""
    genotype = Genotype.from_dict(result.report["genotype"])
    network = network_of(genotype, 0)
    network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in result.weights.items()})
    scaler = Scaler(np.array(result.report["mean"]), np.array(result.report["deviation"]))
    return TrainedModel(genotype, network, scaler, interval_ns, forecast_scale, extra)
