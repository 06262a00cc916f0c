"""Base plus networks: what is fitted sees nothing later, a share of 0 is the base alone, refitting uses what it says, models travel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.panel import InputError
from nas.network.model import network_of
from nas.network.residual import (
    Problem,
    from_plain,
    mean_of,
    plain,
    residual_inputs,
    weights_of,
)
from nas.network.residual_fit import ResidualSettings, fit_residual
from nas.network.training import TrainingSettings, train
from nas.space.kinds import KINDS, draw
from tests.nas.targets.test_targets import PANEL, market, replaced

TRAIN, VALIDATION, TEST = slice(1_000, 3_400), slice(3_500, 4_400), slice(4_500, 5_500)
SHORT = ResidualSettings(kinds=("stack", "small"), training=TrainingSettings(epochs=3, learning_rate=1e-2, length=256))


def test_what_was_fitted_and_forecast_ignores_the_future() -> None:
    """Another market after the last bar of the test: the same numbers, to the bit."""
    made = []
    for panel in (PANEL, replaced(PANEL, TEST.stop - 1)):
        problem = Problem.of(panel, "range", 6)
        found = fit_residual(problem, TRAIN, VALIDATION, SHORT, 0)
        made.append((found.validation, found.model.forecast(problem, TEST), plain(found.model)))
    np.testing.assert_array_equal(made[0][0], made[1][0])
    np.testing.assert_array_equal(made[0][1], made[1][1])
    assert made[0][2] == made[1][2]


def test_fitting_reads_no_bar_after_validation() -> None:
    """The label of the last validation bars reaches into the purge, not into the test."""
    before, after = (Problem.of(panel, "range", 6) for panel in (PANEL, replaced(PANEL, VALIDATION.stop + 6)))
    one, other = (fit_residual(problem, TRAIN, VALIDATION, SHORT, 0) for problem in (before, after))
    assert plain(one.model) == plain(other.model)
    for name, value in weights_of(one.model).items():
        np.testing.assert_array_equal(value, weights_of(other.model)[name])


def test_validation_forecasts_come_from_a_fit_that_had_not_seen_them() -> None:
    """Other labels on validation change where networks stop, never the closed form that validation is judged by."""
    problem = Problem.of(PANEL, "range", 6)
    label = problem.label.copy()
    label[:, VALIDATION] += 1.0
    one, other = (fit_residual(p, TRAIN, VALIDATION, SHORT, 0) for p in (problem, replace(problem, label=label)))
    np.testing.assert_array_equal(one.base_validation, other.base_validation)
    assert plain(one.model)["base"] != plain(other.model)["base"]  # refitted on both


def test_no_share_is_the_base_alone() -> None:
    problem = Problem.of(PANEL, "volume", 6)
    model = fit_residual(problem, TRAIN, VALIDATION, replace(SHORT, share=0.0), 0).model
    assert model.members == ()
    np.testing.assert_array_equal(model.forecast(problem, TEST), model.base.forecast(problem.columns)[:, TEST])


def test_the_mean_of_two_models_is_the_mean_of_their_deviations() -> None:
    problem = Problem.of(PANEL, "range", 6)
    one, other = (fit_residual(problem, TRAIN, VALIDATION, SHORT, seed).model for seed in (0, 7))
    both = mean_of([one, other]).forecast(problem, TEST)
    np.testing.assert_allclose(both, (one.forecast(problem, TEST) + other.forecast(problem, TEST)) / 2, atol=1e-12)


def test_a_model_travels_as_numbers() -> None:
    problem = Problem.of(PANEL, "range", 6)
    model = fit_residual(problem, TRAIN, VALIDATION, SHORT, 0).model
    again = from_plain(plain(model), weights_of(model))
    np.testing.assert_array_equal(again.forecast(problem, TEST), model.forecast(problem, TEST))
    assert plain(again) == plain(model)


def test_networks_find_what_a_closed_form_cannot_say() -> None:
    """Turnover of the next bar that depends on the product of two things: the networks lower the error of the base."""
    panel = market(6_000, seed=3)
    problem = Problem.of(panel, "range", 6, "har")
    left = np.abs(problem.bank.values[:, list(problem.bank.names).index(("return", "raw"))])
    label = problem.label + 0.8 * np.clip(left, 0.0, 2.0)
    problem = replace(problem, label=label)
    settings = ResidualSettings(
        kinds=("stack",), share=1.0, training=TrainingSettings(epochs=12, learning_rate=1e-2, length=256)
    )
    model = fit_residual(problem, TRAIN, VALIDATION, settings, 0).model

    def error(share: float) -> float:
        return float(np.nanmean((problem.label[:, TEST] - replace(model, share=share).forecast(problem, TEST)) ** 2))

    assert error(1.0) < 0.8 * error(0.0)


def test_training_for_so_many_epochs_is_the_schedule_cut_short() -> None:
    """Stopping at epoch 2 by name gives the weights that early stopping kept at its second epoch."""
    problem = Problem.of(PANEL, "range", 6)
    found = fit_residual(problem, TRAIN, VALIDATION, replace(SHORT, kinds=("small",)), 0, refit=False)
    member = found.model.members[0]
    base = found.model.base
    tensors = problem.tensors(base, found.model.scaler, problem.features)
    assert member.genotype is not None
    network = network_of(member.genotype, 0)
    train(network, tensors, TRAIN, (), SHORT.training, 0, stop_after=member.epochs)
    for name, value in member.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_draws_the_same_architecture_for_a_seed(kind: str) -> None:
    own = tuple(sorted((name, pipelines[0]) for name, pipelines in residual_inputs(PANEL).items()))
    features = tuple(sorted((*own, ("base day", "raw"), ("base week", "raw"))))
    genotype = draw(kind, features, (6,), 3)
    assert genotype == draw(kind, features, (6,), 3)
    if kind in ("half", "sparse"):
        assert set(genotype.features) < set(own)
    else:
        assert genotype.features == (features if kind == "columns" else own)
    assert network_of(genotype, 0).receptive_field <= 222


def test_an_unknown_kind_is_answered_with_what_there_is() -> None:
    with pytest.raises(InputError, match="there are stack, ladder"):
        draw("tower", (), (6,), 0)


def test_kinds_read_what_they_say_and_travel() -> None:
    """Networks on half of the inputs, on all, and on the base's columns in one mean: the model read back forecasts the same."""
    settings = replace(SHORT, kinds=("half", "columns", "small"))
    problem = Problem.of(PANEL, "range", 6, columns=True)
    model = fit_residual(problem, TRAIN, VALIDATION, settings, 0).model
    assert [len(m.genotype.features) for m in model.members if m.genotype is not None] == [
        len(problem.features) // 2, len(problem.readable), len(problem.features),
    ]  # fmt: skip
    back = from_plain(plain(model), weights_of(model))
    again = Problem.of(PANEL, "range", 6, problem.base, back.features)
    np.testing.assert_allclose(back.forecast(again, TEST), model.forecast(problem, TEST), rtol=1e-6)
    moved = replace(problem, bank=replace(problem.bank, values=problem.bank.values.copy()))
    moved.bank.values[:, moved.places(problem.readable[-1:])] *= 2.0
    by = {k: replace(model, members=(m,)) for k, m in zip(settings.kinds, model.members, strict=True)}
    assert (by["columns"].forecast(moved, TEST) != by["columns"].forecast(problem, TEST)).any()
    np.testing.assert_array_equal(by["small"].forecast(moved, TEST), by["small"].forecast(problem, TEST))


def test_networks_on_the_columns_of_the_base_ignore_the_future() -> None:
    settings = replace(SHORT, kinds=("columns", "half"))
    made = []
    for panel in (PANEL, replaced(PANEL, TEST.stop - 1)):
        problem = Problem.of(panel, "range", 6, columns=True)
        made.append(fit_residual(problem, TRAIN, VALIDATION, settings, 0).model.forecast(problem, TEST))
    np.testing.assert_array_equal(made[0], made[1])


def test_the_columns_of_the_base_must_be_given() -> None:
    with pytest.raises(InputError, match="columns=True"):
        draw("columns", (("return", "raw"),), (6,), 0)
