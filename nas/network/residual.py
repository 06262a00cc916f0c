"""Forecast = base + networks on what it leaves: a strong closed form, and a share of the networks' mean. `residual_fit` fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from nas.space.genotype import Genotype
from nas.space.kinds import BASE_INPUT, Features, own
from nas.targets.bases import FittedBase, base_columns
from nas.targets.columns import Columns
from nas.targets.target import Target, get_target

CLIP_DEVIATIONS = 5.0
CLOCK = ("day_sin", "day_cos", "week_sin", "week_cos", "close_place")


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
        seen = [x[:, read_by(m.genotype, self.features)] for m in self.members]
        moved = np.mean(
            [
                forecast_sequence(m.network, x, bars.start, bars.stop)[:, 0]
                for m, x in zip(self.members, seen, strict=True)
            ],
            0,
        )
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
    def of(
        panel: Panel, target: str, horizon: int, base: str = "", features: Features | None = None, columns: bool = False
    ) -> Problem:
        """base: "" for the target's own. features: None for `residual_inputs`. columns: networks may read those of the base, too (so they
        may where `features` names them). InputError where the panel lacks fields."""
        found = get_target(target)
        base = base or found.bases[0]
        inputs = residual_inputs(panel) if features is None else {name: (pipeline,) for name, pipeline in own(features)}
        bank, read = build_bank(panel, inputs), base_columns(base, panel, found, horizon)
        if columns or (features is not None and own(features) != tuple(features)):
            bank = replace(
                bank, inputs=(*bank.inputs, *(BASE_INPUT + name for name in read.names)),
                pipelines=(*bank.pipelines, *(("raw",) for _ in read.names)),
                values=np.concatenate([bank.values, read.values.astype(np.float32)], 1),
                warmup_bars=max(bank.warmup_bars, read.memory),
            )  # fmt: skip
        return Problem(panel, found, horizon, base, bank, read, found.label(panel, horizon))

    @property
    def reach(self) -> int:
        return self.target.reach(self.horizon)

    @property
    def features(self) -> Features:
        """What networks read: the first pipeline of every input."""
        return tuple(sorted(own(self._first)))

    @property
    def readable(self) -> Features:
        """`features`, and the base's columns where networks may read them."""
        return (*self.features, *(item for item in self._first if item[0].startswith(BASE_INPUT)))

    @property
    def _first(self) -> Features:
        return tuple((name, group[0]) for name, group in zip(self.bank.inputs, self.bank.pipelines, strict=True))

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


def read_by(genotype: Genotype | None, features: Features) -> list[int]:
    """Places among `features` of what a network reads; a hand-made one reads all."""
    return list(range(len(features))) if genotype is None else [features.index(item) for item in genotype.features]


def residual_inputs(panel: Panel) -> dict[str, tuple[str, ...]]:
    """The default inputs that the panel has, by their first pipeline, the clock, and where a bar closed in its range."""
    known = inputs_of(panel)
    names = [name for name, raw in known.items() if (raw.candidates or name in CLOCK) and has(panel, raw)]
    usable = [n for n in names if all(np.isfinite(panel.field(f)).mean() >= 0.5 for f in known[n].needs)]
    return {name: (known[name].candidates or ("raw",))[:1] for name in usable}


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
