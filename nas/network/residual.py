"""Forecast = base + networks on what it leaves: a strong closed form first, refitted networks, their mean, and a share of it.

Both are fitted twice. First on the training stretch: the validation stretch stops the networks and says how far off forecasts are
(bias, bands). Then on both stretches, for the epochs that were found; that is what forecasts. Refitting is worth as much as the
choice of architecture (docs/evidence.md), and HARX always had it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data.panel import FloatArray, Panel
from nas.features.bank import FeatureBank, build_bank
from nas.features.inputs import has, inputs_of
from nas.network.model import forecast_sequence, network_of
from nas.network.stretches import Samples, Scaler, Tensors
from nas.network.training import TrainingSettings, train
from nas.space.genotype import Genotype
from nas.space.kinds import Features, draw
from nas.targets.bases import FittedBase, base_columns, bias, fit_base
from nas.targets.columns import Columns
from nas.targets.scores import conformal_quantiles
from nas.targets.target import Target, get_target

CLIP_DEVIATIONS = 5.0
CLOCK = ("day_sin", "day_cos", "week_sin", "week_cos", "close_place")
BANDS = (0.5, 0.8, 0.95)
TRAINING = TrainingSettings(epochs=60, learning_rate=1e-2)
Builder = Callable[[], nn.Module]


@dataclass(frozen=True)
class ResidualSettings:
    """base: of `nas.targets.BASES`, "" for the target's own. share: of the networks' mean that is added; 0 is the base alone.

    kinds: of `nas.space.kinds`, one network each, in turn.
    """

    base: str = ""
    share: float = 0.5
    kinds: tuple[str, ...] = ("stack", "stack", "stack", "stack")
    training: TrainingSettings = field(default_factory=lambda: TRAINING)


@dataclass(frozen=True, eq=False)
class Member:
    """One fitted network. genotype: None for a hand-made one, which cannot be saved."""

    genotype: Genotype | None
    network: nn.Module
    epochs: int


@dataclass(frozen=True, eq=False)
class ResidualModel:
    """A fitted forecast of one target. factor: [A], on the natural scale. bands: level -> (low, high) in the label's unit, to be added."""

    target: Target
    horizon: int
    base: FittedBase
    share: float
    features: Features
    scaler: Scaler
    members: tuple[Member, ...]
    factor: FloatArray
    bands: Mapping[float, tuple[float, float]]

    def forecast(self, problem: Problem, bars: slice) -> FloatArray:
        """[A, bars]: the label's unit, NaN where an input is not known. Bias is not corrected: `factor` is beside it."""
        part = Columns(problem.columns.names, problem.columns.values[:, :, bars], problem.columns.memory)
        base = self.base.forecast(part)
        if not self.members or self.share == 0.0:
            return base
        columns = problem.places(self.features)
        x, known = self.scaler.apply(problem.bank.values[:, columns])
        moved = np.mean([forecast_sequence(m.network, x, bars.start, bars.stop)[:, 0] for m in self.members], 0)
        out: FloatArray = base + self.share * np.where(known[:, bars], moved, np.nan) * self.base.residual[:, None]
        return out


@dataclass(frozen=True, eq=False)
class Problem:
    """One target on one panel: inputs, the base's columns and labels, each computed once for all windows.

    label: [A, T] in the target's unit. reach: bars after t that the label of t reads.
    """

    panel: Panel
    target: Target
    horizon: int
    base: str
    bank: FeatureBank
    columns: Columns
    label: FloatArray

    @staticmethod
    def of(panel: Panel, target: str, horizon: int, base: str = "") -> Problem:
        """base: "" for the target's own. InputError where the panel lacks fields."""
        found = get_target(target)
        base = base or found.bases[0]
        return Problem(
            panel, found, horizon, base, build_bank(panel, residual_inputs(panel)),
            base_columns(base, panel, found, horizon), found.label(panel, horizon),
        )  # fmt: skip

    @property
    def reach(self) -> int:
        return self.target.reach(self.horizon)

    @property
    def first(self) -> int:
        """First bar at which everything is known in every asset that is ever known."""
        known = np.isfinite(self.columns.values).all(1) & np.isfinite(self.bank.values).all(1)
        return int(known.argmax(1).max())

    @property
    def features(self) -> Features:
        """What networks read: the first pipeline of every input."""
        return tuple(
            sorted((name, pipelines[0]) for name, pipelines in zip(self.bank.inputs, self.bank.pipelines, strict=True))
        )

    def places(self, features: Features) -> npt.NDArray[np.int64]:
        """Columns of the bank."""
        names = list(self.bank.names)
        return np.array([names.index(item) for item in features], dtype=np.int64)

    def residual(self, base: FittedBase) -> FloatArray:
        """[A, 1, T]: what the base leaves, in deviations of what it left where it was fitted; NaN where not known."""
        left = (self.label - base.forecast(self.columns)) / base.residual[:, None]
        return np.clip(left, -CLIP_DEVIATIONS, CLIP_DEVIATIONS)[:, None]

    def tensors(self, base: FittedBase, scaler: Scaler, features: Features) -> Tensors:
        """Inputs of networks, and what the base left as their label."""
        samples = Samples(self.panel, self.bank, self.residual(base), (self.horizon,))
        return Tensors.of(samples, scaler, self.places(features))


def residual_inputs(panel: Panel) -> dict[str, tuple[str, ...]]:
    """The default inputs that the panel has, by their first pipeline, the clock, and where a bar closed in its range."""
    known = inputs_of(panel)
    names = [name for name, raw in known.items() if (raw.candidates or name in CLOCK) and has(panel, raw)]
    usable = [n for n in names if all(np.isfinite(panel.field(f)).mean() >= 0.5 for f in known[n].needs)]
    return {name: (known[name].candidates or ("raw",))[:1] for name in usable}


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
            chosen = [draw(name, features, (problem.horizon,), seed + k) for k, name in enumerate(settings.kinds)]
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
        network = build()
        outcome = train(network, early, train_bars, validation, settings.training, seed + k)
        epochs = outcome.best_epoch + 1
        moved = forecast_sequence(network, x, validation.start, validation.stop)[:, 0]
        deviations.append(np.where(known[:, validation], moved, np.nan) * first.residual[:, None])
        if refit:
            network = build()
            train(network, late, both, (), settings.training, seed + k, stop_after=epochs)
        members.append(Member(genotype, network, epochs))
    forecast = base_validation if not deviations else base_validation + settings.share * np.mean(deviations, 0)
    label = problem.label[:, validation]
    factor = np.array([bias(a, b, problem.target.power) for a, b in zip(label, forecast, strict=True)])
    bands = {level: conformal_quantiles(label, forecast, level) for level in BANDS}
    model = ResidualModel(
        problem.target, problem.horizon, last, settings.share, features, scalers[1], tuple(members), factor, bands
    )
    return Found(model, forecast, base_validation, tuple(deviations))


def mean_of(models: Sequence[ResidualModel]) -> ResidualModel:
    """One model with the networks of all: they were fitted on the same base and inputs."""
    members = tuple(member for model in models for member in model.members)
    return replace(models[0], members=members)


def plain(model: ResidualModel) -> dict[str, Any]:
    """All but the networks' weights, for JSON."""
    return {
        "target": model.target.name,
        "horizon": model.horizon,
        "base": model.base.to_dict(),
        "share": model.share,
        "features": [list(item) for item in model.features],
        "mean": model.scaler.mean.tolist(),
        "deviation": model.scaler.deviation.tolist(),
        "members": [
            {"genotype": m.genotype.to_dict() if m.genotype is not None else None, "epochs": m.epochs}
            for m in model.members
        ],
        "factor": model.factor.tolist(),
        "bands": [[level, *both] for level, both in sorted(model.bands.items())],
    }


def weights_of(model: ResidualModel) -> dict[str, npt.NDArray[np.float32]]:
    """`<member>.<name>` -> array."""
    return {
        f"{k}.{name}": value.numpy()
        for k, m in enumerate(model.members)
        for name, value in m.network.state_dict().items()
    }


def from_plain(raw: Mapping[str, Any], weights: Mapping[str, npt.NDArray[np.float32]]) -> ResidualModel:
    """What `plain` and `weights_of` made. KeyError or RuntimeError where they do not fit."""
    members = []
    for k, told in enumerate(raw["members"]):
        genotype = Genotype.from_dict(told["genotype"])
        network = network_of(genotype, 0)
        mine = {
            name.partition(".")[2]: torch.from_numpy(np.array(v))
            for name, v in weights.items()
            if name.startswith(f"{k}.")
        }
        network.load_state_dict(mine)
        members.append(Member(genotype, network, int(told["epochs"])))
    scaler = Scaler(np.array(raw["mean"], dtype=np.float64), np.array(raw["deviation"], dtype=np.float64))
    bands = {float(level): (float(low), float(high)) for level, low, high in raw["bands"]}
    return ResidualModel(
        get_target(raw["target"]), int(raw["horizon"]), FittedBase.from_dict(raw["base"]), float(raw["share"]),
        tuple((a, b) for a, b in raw["features"]), scaler, tuple(members), np.array(raw["factor"], dtype=np.float64), bands,
    )  # fmt: skip
