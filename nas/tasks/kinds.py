"""One window's cheap evidence on kinds of architectures as a unit of work: what a few networks of each add to the base."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch

from data.panel import FloatArray
from nas.network.model import Network, network_of
from nas.network.residual import Problem, read_by
from nas.network.residual_fit import TRAINING, ResidualSettings
from nas.network.stretches import Samples, Scaler, Tensors
from nas.network.training import TrainingSettings, train
from nas.search.pooling import Score
from nas.space.kinds import COLUMNS_KIND, draw
from nas.targets.bases import fit_base
from nas.tasks.result import TaskResult
from nas.tasks.risk import problem_of
from nas.tasks.windows import Window

CHEAP = replace(TRAINING, epochs=30)
PER_KIND = 2
SHARE = 0.5  # of one network's deviation: alone it is noisier than the mean of several


@dataclass(frozen=True)
class KindsTask:
    """Train `per_kind` networks of each kind on the window's training stretch, score them on its validation stretch.

    validated: first bar that no earlier window validated on; what lies before counts less.
    """

    window: Window
    target: str
    horizon: int
    seed: int
    base: str = ""
    kinds: tuple[str, ...] = field(default_factory=lambda: tuple(dict.fromkeys(ResidualSettings().kinds)))
    per_kind: int = PER_KIND
    training: TrainingSettings = field(default_factory=lambda: CHEAP)
    validated: int = 0

    def compute(self, samples: Samples) -> TaskResult:
        """The report has `scores`, fields of `Score` each."""
        problem = problem_of(samples, self.target, self.horizon, self.base, COLUMNS_KIND in self.kinds)
        return TaskResult({}, {"scores": [asdict(score) for score in scores_of(problem, self)]})


def folds_of(validation: slice, reach: int) -> tuple[slice, slice]:
    """Two halves of a validation stretch; labels of the first do not reach into the second."""
    middle = (validation.start + validation.stop) // 2
    return slice(validation.start, max(validation.start + 1, middle - reach)), slice(middle, validation.stop)


def scores_of(problem: Problem, task: KindsTask) -> list[Score]:
    """Each network is trained once; per fold, the epoch that was best on the other fold is scored.

    The whole stretch ends the training (patience), so what it cuts off is not crossed; nothing after the stretch is read.
    """
    window, features = task.window, problem.readable
    base = fit_base(problem.base, problem.columns, problem.label, window.train)
    scaler = Scaler.fit(problem.bank.values[:, problem.places(features)], window.train)
    tensors = problem.tensors(base, scaler, features)
    folds = folds_of(window.validation, problem.reach)
    fresh = [max(0, bars.stop - max(bars.start, task.validated)) / (bars.stop - bars.start) for bars in folds]
    found = []
    for k, (kind, member) in enumerate(itertools.product(task.kinds, range(task.per_kind))):
        genotype = draw(kind, features, (task.horizon,), task.seed + k)
        network = network_of(genotype, task.seed + k)
        mine = tensors.only(read_by(genotype, features))
        gains = _gains(network, mine, window, folds, task.training, task.seed + k)
        for fold in range(len(folds)):
            # an asset that is not known on a fold has no score there
            stopped = gains[int(np.argmax(np.nan_to_num(gains[:, 1 - fold]).sum(-1)))]
            for a, asset in enumerate(problem.panel.assets):
                gain, seen = float(stopped[fold, a]), float(stopped[1 - fold, a])
                found.append(Score(window.number, fold, asset, kind, member, gain, seen, fresh[fold]))
    return found


def _gains(
    network: Network, tensors: Tensors, window: Window, folds: Sequence[slice], settings: TrainingSettings, seed: int
) -> FloatArray:
    """[epoch, fold, asset]: share of the base's squared error that half of the network's deviation saves, while it is trained."""
    validation = window.validation
    begin = max(0, validation.start - int(network.receptive_field))  # type: ignore[arg-type]
    epochs = []

    @torch.no_grad()
    def look(_: int) -> None:
        moved = network(tensors.x[..., begin : validation.stop])[:, 0, validation.start - begin :].double()
        row = []
        for bars in folds:
            left, weight = tensors.y[:, 0, bars].double(), tensors.weight[:, 0, bars].double()
            told = SHARE * moved[:, bars.start - validation.start : bars.stop - validation.start]
            row.append(1.0 - (weight * (left - told) ** 2).sum(-1) / (weight * left**2).sum(-1))
        epochs.append(torch.stack(row).numpy())

    train(network, tensors, window.train, validation, settings, seed, on_epoch=look)
    return np.stack(epochs)
