"""Relaxations and diagnostics against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.network.losses import direction, huber, sharpe
from nas.search.diagnostics import DominantEigenvalue, entropy
from nas.search.relaxation import Temperature, edge_softmax, perturbed, sampled, sigmoid, softmax, uniform_path

ROW = st.lists(st.floats(-3, 3), min_size=2, max_size=6)


def tensor(row: list[float]) -> torch.Tensor:
    return torch.tensor([row], dtype=torch.float64)


@given(ROW, st.floats(0.2, 4.0))
@settings(max_examples=50, deadline=None)
def test_softmax_jacobian_is_its_formula(row: list[float], temperature: float) -> None:
    x = tensor(row)
    mask = torch.ones_like(x, dtype=torch.bool)
    p = softmax(x, mask, temperature)[0]
    jacobian = torch.autograd.functional.jacobian(lambda v: softmax(v, mask, temperature), x)[0, :, 0]
    assert torch.allclose(jacobian, (torch.diag(p) - torch.outer(p, p)) / temperature, atol=1e-12)


@given(ROW)
@settings(max_examples=50, deadline=None)
def test_temperature_limits_are_argmax_and_uniform(row: list[float]) -> None:
    x = tensor(row)
    mask = torch.ones_like(x, dtype=torch.bool)
    assert torch.allclose(softmax(x, mask, 1e9), torch.full_like(x, 1 / len(row)), atol=1e-6)
    if np.diff(sorted(row))[-1] > 1e-3:
        cold = softmax(x, mask, 1e-5)
        assert cold.argmax() == x.argmax()
        assert float(cold.max()) > 1 - 1e-9


@given(ROW)
@settings(max_examples=50, deadline=None)
def test_sigmoid_choices_do_not_feel_each_other(row: list[float]) -> None:
    x = tensor(row)
    mask = torch.ones_like(x, dtype=torch.bool)
    jacobian = torch.autograd.functional.jacobian(lambda v: sigmoid(v, mask, 1.0), x)[0, :, 0]
    s = torch.sigmoid(x[0])
    assert torch.allclose(jacobian, torch.diag(s * (1 - s)), atol=1e-12)


@pytest.mark.parametrize("relax", [softmax, perturbed(0.3), sampled, uniform_path])
def test_weights_stay_on_the_simplex_and_masked_choices_weigh_nothing(relax) -> None:  # type: ignore[no-untyped-def]
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(50, 4, dtype=torch.bool)
    mask[:, 2] = False
    for draw in (None, torch.Generator().manual_seed(1)):
        weights = relax(logits, mask, 0.7, draw)
        assert torch.allclose(weights.sum(-1), torch.ones(50))
        assert torch.equal(weights[:, 2], torch.zeros(50))
        assert bool((weights >= -1e-6).all())


def test_gumbel_samples_follow_the_softmax_and_carry_its_gradient() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).repeat(20_000, 1).requires_grad_()
    mask = torch.ones_like(logits, dtype=torch.bool)
    weights = sampled(logits, mask, 1.0, torch.Generator().manual_seed(0))
    assert torch.allclose(weights.mean(0), torch.softmax(torch.tensor([0.0, 1.0, 2.0]), -1), atol=0.02)
    assert set(weights.detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    assert float(torch.autograd.grad(weights[:, 0].sum(), logits)[0].abs().max()) > 0


def test_edge_strengths_sum_to_one_per_node() -> None:
    targets = torch.tensor([0, 1, 1, 2, 2, 2])
    strength = edge_softmax(torch.randn(6, dtype=torch.float64), targets, 3)
    assert torch.allclose(
        torch.zeros(3, dtype=torch.float64).index_add(0, targets, strength), torch.ones(3, dtype=torch.float64)
    )


@pytest.mark.parametrize("schedule", ["linear", "exponential", "cosine"])
def test_temperature_goes_from_start_to_end(schedule) -> None:  # type: ignore[no-untyped-def]
    temperature = Temperature(5.0, 0.5, schedule)
    values = [temperature.at(p) for p in np.linspace(0, 1, 11)]
    assert values[0] == pytest.approx(5.0)
    assert values[-1] == pytest.approx(0.5)
    assert values == sorted(values, reverse=True)


def test_power_iteration_finds_the_dominant_eigenvalue_of_the_full_hessian() -> None:
    torch.manual_seed(0)
    for sign in (1.0, -1.0):
        alpha = [
            torch.randn(3, 4, dtype=torch.float64, requires_grad=True),
            torch.randn(2, dtype=torch.float64, requires_grad=True),
        ]
        a, b = torch.randn(20, 14, dtype=torch.float64), torch.randn(20, dtype=torch.float64)

        def loss(sign=sign, alpha=alpha, a=a, b=b) -> torch.Tensor:  # type: ignore[no-untyped-def]
            flat = torch.cat([torch.softmax(alpha[0], -1).reshape(-1), torch.tanh(alpha[1])])
            return sign * (a @ flat - b).square().mean()

        flat = torch.cat([v.detach().reshape(-1) for v in alpha])

        def of_flat(v, sign=sign, a=a, b=b):  # type: ignore[no-untyped-def]
            weights = torch.cat([torch.softmax(v[:12].view(3, 4), -1).reshape(-1), torch.tanh(v[12:])])
            return sign * (a @ weights - b).square().mean()

        full = torch.autograd.functional.hessian(of_flat, flat)
        values = torch.linalg.eigvalsh(full)
        dominant = float(values[values.abs().argmax()])
        power = DominantEigenvalue(tolerance=1e-7)
        assert power(loss, alpha) == pytest.approx(dominant, rel=0.01)
        assert power.products <= len(flat)
        few = DominantEigenvalue()  # to a hundredth, from wherever it starts
        assert few(loss, alpha) == pytest.approx(dominant, rel=0.01)
        assert few(loss, alpha) == pytest.approx(dominant, rel=0.01)


def test_the_eigenvalue_of_a_flat_loss_is_zero() -> None:
    alpha = torch.zeros(1, 1, requires_grad=True)
    assert DominantEigenvalue()(lambda: torch.softmax(alpha, -1).sum(), [alpha]) == 0.0


def test_entropy_of_uniform_and_certain_rows() -> None:
    assert entropy(torch.tensor([[0.25] * 4, [1.0, 0, 0, 0]])) == pytest.approx(np.log(4) / 2, rel=1e-6)


def test_sharpe_loss_is_the_net_sharpe_ratio_of_tanh_positions() -> None:
    rng = np.random.default_rng(0)
    forecast, label = rng.standard_normal((2, 3, 2, 50))
    weight = (rng.random((3, 1, 50)) > 0.2).astype(float)
    ours = float(sharpe(*(torch.tensor(v) for v in (forecast, label, weight)), cost=0.1))
    ratios = []
    for h in range(2):
        pnl = []
        for b in range(3):
            position = np.tanh(forecast[b, h])
            turnover = np.abs(np.diff(position, prepend=position[0]))
            pnl += list((position * label[b, h] - 0.1 * turnover)[weight[b, 0] > 0])
        ratios.append(np.mean(pnl) / np.std(pnl))
    assert ours == pytest.approx(-np.mean(ratios), rel=1e-6)


@pytest.mark.parametrize("loss", [huber, direction, sharpe])
def test_bars_without_weight_do_not_count(loss) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    forecast, label, weight = torch.randn(2, 1, 40), torch.randn(2, 1, 40), torch.ones(2, 1, 40)
    weight[:, :, 30:] = 0
    before = loss(forecast, label, weight)
    label[:, :, 30:] = 100.0
    assert torch.equal(loss(forecast, label, weight), before)


def test_direction_loss_falls_for_forecasts_of_the_right_sign() -> None:
    label = torch.tensor([[[1.0, -2.0, 0.5]]])
    weight = torch.ones(1, 1, 3)
    assert direction(label, label, weight) < np.log(2) < direction(-label, label, weight)
