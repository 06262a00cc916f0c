"""The bilevel gradient against an unrolled step written out by hand, the optimisers against torch's own, and the paper's toy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from nas.search.architect import StandIn, first_order_gradient, predicted_step, second_order_gradient

Make = Callable[[list[Tensor]], torch.optim.Optimizer]
OPTIMISERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd with momentum and decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=3e-2),
    "sgd with nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=3e-2),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.5, 0.99), weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=1e-2),
}


class Mixed(nn.Module):
    """Two dense layers whose candidates are mixed by alpha; optionally normalised by batch statistics."""

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5) if normalised else nn.Identity()
        self.out = nn.Linear(5, 1)

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        p = torch.softmax(alpha, -1)
        return self.out(
            torch.tanh(self.norm(p[0] * self.a(x) + p[1] * torch.sin(self.b(x)) + p[2] * x.sum(-1, keepdim=True)))
        )


class Case:
    def __init__(self, normalised: bool, make: Make) -> None:
        torch.manual_seed(1)
        self.network = Mixed(normalised).double()
        self.alpha = torch.randn(3, dtype=torch.float64).requires_grad_()
        self.unused = torch.zeros(2, dtype=torch.float64).requires_grad_()
        self.train, self.validation = ((torch.randn(16, 3).double(), torch.randn(16, 1).double()) for _ in range(2))
        self.call = StandIn(self.network)
        self.optimiser = make(list(self.network.parameters()))
        for _ in range(3):  # fills momentum and moments
            self.optimiser.zero_grad()
            self.loss(self.call.weights(), self.train).backward()
            self.optimiser.step()

    def loss(self, weights: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return (self.call(weights, batch[0], self.alpha) - batch[1]).square().mean()

    def gradient(self, mode: str, clip: float | None = None) -> list[Tensor]:
        return second_order_gradient(
            lambda w: self.loss(w, self.train), lambda w: self.loss(w, self.validation), self.call.weights(),
            [self.alpha, self.unused], self.optimiser, mode=mode, clip=clip,
        )  # fmt: skip

    def after_one_step(self, alpha: Tensor) -> float:
        """Validation loss after a real step of a copied optimiser at this alpha, evaluated at this alpha."""
        import copy

        twin = copy.deepcopy(self)
        with torch.no_grad():
            twin.alpha.copy_(alpha)
        twin.optimiser.zero_grad()
        twin.loss(twin.call.weights(), twin.train).backward()
        twin.optimiser.step()
        return float(twin.loss(twin.call.weights(), twin.validation).detach())


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_predicted_step_is_the_step_the_optimiser_takes(name: str, normalised: bool) -> None:
    case = Case(normalised, OPTIMISERS[name])
    weights = case.call.weights()
    loss = case.loss(weights, case.train)
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    for clip in (None, 0.05):
        predicted = predicted_step(case.optimiser, weights, gradients, clip)
        for parameter, gradient in zip(weights.values(), gradients.values(), strict=True):
            parameter.grad = gradient.clone()
        if clip is not None:
            nn.utils.clip_grad_norm_(list(weights.values()), clip)
        before = {k: v.detach().clone() for k, v in weights.items()}
        state = case.optimiser.state_dict()
        import copy

        state = copy.deepcopy(state)
        case.optimiser.step()
        for key, value in weights.items():
            assert torch.allclose(predicted[key], value, atol=1e-13, rtol=1e-11), key
            value.data.copy_(before[key])
        case.optimiser.load_state_dict(state)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_exact_gradient_is_the_slope_of_the_loss_after_a_real_step(name: str, normalised: bool) -> None:
    """Nothing of ours in the reference: a copy of the optimiser really steps, the slope is a five-point difference."""
    case = Case(normalised, OPTIMISERS[name])
    ours = case.gradient("exact")[0]
    h, slope = 3e-4, torch.zeros(3, dtype=torch.float64)
    for k in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[k] = h
        at = [case.after_one_step(case.alpha.detach() + m * shift) for m in (-2, -1, 1, 2)]
        slope[k] = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    assert relative(ours, slope) < 1e-8


def unrolled_by_hand(case: Case) -> Tensor:
    """SGD with momentum and decay, written out: w - lr (mu v + g + decay w)."""
    weights = case.call.weights()
    gradients = torch.autograd.grad(case.loss(weights, case.train), list(weights.values()), create_graph=True)
    group = case.optimiser.param_groups[0]
    ahead = {}
    for (name, w), g in zip(weights.items(), gradients, strict=True):
        velocity = case.optimiser.state[w].get("momentum_buffer")
        step = g + group["weight_decay"] * w
        ahead[name] = w - group["lr"] * (step if velocity is None else group["momentum"] * velocity + step)
    return torch.autograd.grad(case.loss(ahead, case.validation), case.alpha)[0]


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", ["sgd", "sgd with momentum and decay"])
def test_second_order_equals_the_unrolled_gradient(name: str, normalised: bool) -> None:
    case = Case(normalised, OPTIMISERS[name])
    reference = unrolled_by_hand(case)
    assert relative(case.gradient("exact")[0], reference) < 1e-10
    assert relative(case.gradient("finite")[0], reference) < 1e-6
    first = first_order_gradient(case.loss(case.call.weights(), case.validation), [case.alpha])[0]
    assert relative(first, reference) > 1e-2


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("name", ["sgd with nesterov", "adam", "adamw"])
def test_finite_differences_agree_with_the_exact_mode(name: str, clip: float | None, normalised: bool) -> None:
    case = Case(normalised, OPTIMISERS[name])
    assert relative(case.gradient("finite", clip)[0], case.gradient("exact", clip)[0]) < 1e-6


@pytest.mark.parametrize("mode", ["finite", "exact"])
def test_weights_and_running_statistics_are_untouched_to_the_bit(mode: str) -> None:
    case = Case(True, OPTIMISERS["adamw"])
    before = {k: v.clone() for k, v in case.network.state_dict().items()}
    gradients = case.gradient(mode)
    assert all(torch.equal(v, before[k]) for k, v in case.network.state_dict().items())
    assert all(p.grad is None or p.grad.isfinite().all() for p in case.network.parameters())
    assert torch.equal(gradients[1], torch.zeros(2, dtype=torch.float64))  # an alpha that nothing uses


def test_a_validation_loss_that_ignores_the_weights_needs_no_direction() -> None:
    case = Case(False, OPTIMISERS["sgd"])
    gradient = second_order_gradient(
        lambda w: case.loss(w, case.train),
        lambda w: case.alpha.square().sum(),
        case.call.weights(),
        [case.alpha],
        case.optimiser,
    )[0]
    assert torch.equal(gradient, 2 * case.alpha.detach())


@pytest.mark.parametrize("mode", ["finite", "exact"])
def test_unused_weights_with_empty_moments_give_no_nan(mode: str) -> None:
    case = Case(False, lambda p: torch.optim.Adam(p, lr=0.1))
    case.network.register_parameter("idle", nn.Parameter(torch.zeros(3, dtype=torch.float64)))
    case.optimiser.add_param_group({"params": [case.network.idle]})
    assert all(g.isfinite().all() for g in case.gradient(mode))


@pytest.mark.parametrize(("inner", "limit"), [(0.0, 2.0), (0.1, 5 / 3), (0.3, 1.25), (0.5, 1.0)])
@pytest.mark.parametrize("mode", ["finite", "exact"])
def test_toy_of_the_darts_paper_converges_where_the_closed_form_says(mode: str, inner: float, limit: float) -> None:
    """Figure 2: L_val = a w - 2 a + 1, L_train = w^2 - 2 a w + a^2, from (a, w) = (2, -2)."""
    alpha = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    weight = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))
    model = torch.optim.SGD([weight], lr=inner)  # the step that is looked through
    mover = torch.optim.SGD([weight], lr=0.1)

    def train_loss(w: Mapping[str, Tensor]) -> Tensor:
        return w["w"] ** 2 - 2 * alpha * w["w"] + alpha**2

    def validation_loss(w: Mapping[str, Tensor]) -> Tensor:
        return alpha * w["w"] - 2 * alpha + 1

    for _ in range(1_500):
        gradient = second_order_gradient(train_loss, validation_loss, {"w": weight}, [alpha], model, mode=mode)[0]
        with torch.no_grad():
            alpha -= 0.02 * gradient
        for _ in range(5):
            mover.zero_grad()
            train_loss({"w": weight}).backward()
            mover.step()
    assert abs(alpha.item() - limit) < 1e-3


def test_an_optimiser_that_is_not_modelled_is_refused() -> None:
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="not RMSprop; use first order"):
        predicted_step(torch.optim.RMSprop([weight]), {"w": weight}, {"w": torch.ones(1)})
