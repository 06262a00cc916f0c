"""Base and networks fitted on a window: refitted networks on what a strong closed form leaves.

Both are fitted twice. First on the training stretch: the validation stretch stops the networks and says how far off forecasts are
(bias, bands). Then on both stretches, for the epochs that were found; that is what forecasts. Refitting is worth as much as the
choice of architecture (docs/evidence.md), and HARX always had it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from data.panel import FloatArray
from nas.network.model import forecast_sequence, network_of
from nas.network.residual import Member, Problem, ResidualModel, read_by
from nas.network.stretches import Scaler
from nas.network.training import TrainingSettings, train
from nas.space.genotype import Genotype
from nas.space.kinds import draw
from nas.targets.bases import bias, fit_base
from nas.targets.columns import Columns
from nas.targets.scores import conformal_quantiles

BANDS = (0.5, 0.8, 0.95)
TRAINING = TrainingSettings(epochs=60, learning_rate=1e-2)
Builder = Callable[[], nn.Module]


@dataclass(frozen=True)
class ResidualSettings:
    """base: of `nas.targets.BASES`, "" for the target's own. share: of the networks' mean that is added; 0 is the base alone.

    kinds: of `nas.space.kinds`, one network each, in turn.
    """

    base: str = ""
    share: float = 0.75
    kinds: tuple[str, ...] = 2 * ("stack", "ladder", "convolutions", "small")
    training: TrainingSettings = field(default_factory=lambda: TRAINING)


@dataclass(frozen=True, eq=False)
class Found:
    """What fitting leaves: the model, and its forecasts of the validation stretch from the first fit, [A, bars], which had not seen it.

    members: per network, its own deviation from the base on validation and its epochs. base_validation: the base alone.
    """

    model: ResidualModel
    validation: FloatArray
    base_validation: FloatArray
    deviations: tuple[FloatArray, ...]


def fit_residual(
    problem: Problem,
    train_bars: slice,
    validation: slice,
    settings: ResidualSettings,
    seed: int,
    genotypes: Sequence[Genotype] | None = None,
    builders: Sequence[Builder] | None = None,
    refit: bool = True,
) -> Found:
    """Fit base and networks on a window's training and validation stretches; the caller purges between them and before what is forecast.

    genotypes: instead of `settings.kinds`. builders: hand-made networks instead, each called anew for every fit. refit: False keeps the
    first fit (for comparisons).
    """
    features = problem.features
    both = (train_bars, validation)
    first = fit_base(problem.base, problem.columns, problem.label, train_bars)
    last = fit_base(problem.base, problem.columns, problem.label, both if refit else train_bars)
    made: list[tuple[Genotype | None, Builder]]
    if builders is not None:
        made = [(None, builder) for builder in builders]
    else:
        chosen = genotypes
        if chosen is None:
            every = problem.readable
            chosen = [draw(name, every, (problem.horizon,), seed + k) for k, name in enumerate(settings.kinds)]
        read = {item for genotype in chosen for item in genotype.features}
        features = tuple(item for item in problem.readable if item in read) or features
        made = [(g, lambda g=g, k=k: network_of(g, seed + k)) for k, g in enumerate(chosen)]  # type: ignore[misc]
    if settings.share == 0.0:
        made = []
    columns = problem.places(features)
    values = problem.bank.values[:, columns]
    scalers = [Scaler.fit(values, train_bars), Scaler.fit(values, slice(train_bars.start, validation.stop))]
    if not refit:
        scalers[1] = scalers[0]
    early = problem.tensors(first, scalers[0], features)
    late = problem.tensors(last, scalers[1], features)
    x, known = scalers[0].apply(values)
    part = Columns(problem.columns.names, problem.columns.values[:, :, validation], problem.columns.memory)
    base_validation = first.forecast(part)
    members, deviations = [], []
    for k, (genotype, build) in enumerate(made):
        network, places = build(), read_by(genotype, features)
        outcome = train(network, early.only(places), train_bars, validation, settings.training, seed + k)
        epochs = outcome.best_epoch + 1
        moved = forecast_sequence(network, x[:, places], validation.start, validation.stop)[:, 0]
        deviations.append(np.where(known[:, validation], moved, np.nan) * first.residual[:, None])
        if refit:
            network = build()
            train(network, late.only(places), both, (), settings.training, seed + k, stop_after=epochs)
        members.append(Member(genotype, network, epochs))
    forecast = base_validation if not deviations else base_validation + settings.share * np.mean(deviations, 0)
    label = problem.label[:, validation]
    factor = np.array([bias(a, b, problem.target.power) for a, b in zip(label, forecast, strict=True)])
    bands = {level: conformal_quantiles(label, forecast, level) for level in BANDS}
    model = ResidualModel(
        problem.target, problem.horizon, last, settings.share, features, scalers[1], tuple(members), factor, bands
    )
    return Found(model, forecast, base_validation, tuple(deviations))
