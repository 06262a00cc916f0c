"""Forces on the logits: in scale with the loss at hand, measured, and the zero-one push of FairDARTS strong enough to end in yes or no."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.network.stretches import Tensors
from nas.search.forces import NAMES, Forces
from nas.search.loop import search
from nas.search.penalties import zero_one
from nas.search.run import SearchRun
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture
from nas.search.variants import get_variant
from nas.space.search_space import SearchSpace

BARS, TRAIN, VALIDATION = 1_200, slice(60, 700), slice(760, 1_150)
SPACE = SearchSpace(
    ops=("zero", "identity", "conv3", "ema4", "diff1"),
    nodes=2,
    channels=4,
    features=(("return", ("raw",)), ("volume", ("raw",))),
)
SETTINGS = SearchSettings(epochs=8, length=128, alpha_warmup_epochs=1, alpha_learning_rate=0.1, diagnostics_every=0)


def tensors(scale: float = 1.0) -> Tensors:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((1, 2, BARS)).astype(np.float32))
    label = 0.7 * x[:, :1].roll(1, -1) + 0.7 * torch.from_numpy(rng.standard_normal((1, 1, BARS)).astype(np.float32))
    return Tensors(x, scale * label, torch.ones(1, 1, BARS))


def test_decay_and_regulariser_are_counted_in_sizes_of_the_gradient() -> None:
    logits = {"ops": torch.tensor([[2.0, -1.0]]), "features": torch.tensor([[3.0]])}
    push = {"ops": torch.tensor([[3e-4, 4e-4]]), "features": torch.tensor([[1e-5]])}
    for factor in (1.0, 1_000.0):
        forces = Forces(0.1, {"ops": 2, "features": 1})
        total = forces.total(
            logits,
            {k: factor * v for k, v in push.items()},
            regulariser={"ops": torch.ones(1, 2), "features": torch.zeros(1, 1)},
        )
        size = factor * ((3e-4**2 + 4e-4**2) / 2) ** 0.5
        assert forces.size("ops") == pytest.approx(size)
        wanted = factor * push["ops"] + size * (0.1 * logits["ops"] + 1.0)
        assert torch.allclose(total["ops"], wanted, rtol=1e-5)
        assert torch.allclose(total["features"], factor * push["features"])  # inputs have a price, no decay
        told = forces.told()
        assert told is not None
        assert told["decay"] == pytest.approx(size * 0.1 * 1.5)
        assert told["gradient"] == pytest.approx(factor * 3.5e-4)
        assert forces.told() is None


def test_every_force_of_a_search_is_in_its_history() -> None:
    found = search(SPACE, tensors(), TRAIN, VALIDATION, SETTINGS, 0, variant="beta")
    assert found.history[0]["forces"] is None  # alpha rests
    for row in found.history[2:]:
        assert set(row["forces"]) == set(NAMES)
        assert row["forces"].pop("price") == 0.0  # ops have one in the last round only
        assert all(value > 0.0 for value in row["forces"].values())


def test_a_loss_ten_thousand_times_larger_moves_alpha_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decay is no fixed number beside a gradient of unknown size: whatever the loss is multiplied by, alpha goes the same way."""
    ends = []
    original = SearchRun.loss
    for factor in (1.0, 1e4):

        def scaled(self, *given, factor=factor):  # type: ignore[no-untyped-def]
            return original(self, *given) * factor

        monkeypatch.setattr(SearchRun, "loss", scaled)
        settings = replace(SETTINGS, gradient_clip=1e9, feature_cost=0.0, alpha_weight_decay=0.5)
        ends.append(np.array(search(SPACE, tensors(), TRAIN, VALIDATION, settings, 0).op_weights))
    assert np.abs(ends[0] - ends[1]).max() < 0.01  # Adam's epsilon is all that differs
    assert np.ptp(ends[0], axis=1).max() > 0.1


def test_the_zero_one_push_is_as_large_as_said_and_points_outwards() -> None:
    architecture = Architecture(
        SPACE, generator=torch.Generator().manual_seed(0), relaxation=get_variant("fair").relaxation
    )
    with torch.no_grad():
        architecture.ops.copy_(torch.linspace(-6.0, 6.5, architecture.ops.numel()).view_as(architecture.ops))
    (slope,) = torch.autograd.grad(zero_one(3.0)(architecture, 1.0), [architecture.ops])
    moved = slope[:, 1:]  # not zero's
    assert 2.7 < float(moved.abs().max()) <= 3.0
    assert torch.equal(torch.sign(-moved), torch.sign(architecture.ops[:, 1:].detach()))
    (early,) = torch.autograd.grad(zero_one(3.0)(architecture, 0.0), [architecture.ops])
    assert not early.any()


def test_fair_ends_in_yes_or_no() -> None:
    found = search(SPACE, tensors(), TRAIN, VALIDATION, replace(SETTINGS, epochs=30), 0, variant="fair")
    weights = np.array(found.op_weights)[:, 1:]
    assert ((weights > 0.85) | (weights < 0.15)).mean() >= 0.8


def test_only_weights_of_the_network_are_decayed_more_by_the_robust_variant() -> None:
    run = SearchRun(
        SPACE,
        tensors(),
        ((TRAIN,), (VALIDATION,)),
        SETTINGS,
        0,
        get_variant("plus"),
        get_variant("plus").stages[0],
        None,
    )
    assert run.weights.param_groups[0]["weight_decay"] == pytest.approx(9 * SETTINGS.weight_decay)
    assert run.forces.decay == SETTINGS.alpha_weight_decay
    assert all(group["weight_decay"] == 0.0 for group in run.alpha.param_groups)
