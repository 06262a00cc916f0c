"""The gradient of the validation loss by the architecture, through one step of the weight optimiser (Liu et al. 2019, equation 6).

    w' = step(w, dL_train(w, a) / dw)                  the step the optimiser is about to take: clip, decay, momentum, Adam
    dL_val(w', a) / da = d_a L_val + (dw'/da)^T d_w' L_val

`exact` differentiates through the step; `finite` replaces the second term by central differences of d_a L_train along
u = (dw'/dg)^T d_w' L_val, which costs no second derivatives. First order takes w' = w. The weights themselves never change:
every evaluation runs on stand-ins through `torch.func.functional_call`, running statistics included, so nothing has to be restored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas.network.lean_torch import clip_factor

Loss = Callable[[Mapping[str, Tensor]], Tensor]
Mode = Literal["finite", "exact"]
# eps = 0.01 / |u|: footnote 2 of the paper, right for float32. Its truncation error (5e-6 of the gradient on the test nets) would
# hide the digits that float64 has, so there the step is shorter.
STEP_LENGTH = {torch.float32: 1e-2, torch.float64: 1e-4}


class StandIn:
    """Calls `network` with other weights; its own weights, buffers and running statistics stay as they are."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        # only statistics that move are copied; what is not saved with the network are constants, and shared
        kept = network.state_dict()
        self.statistics = {k: b for k, b in network.named_buffers() if k in kept}

    def weights(self) -> dict[str, Tensor]:
        """Learned weights by name, as `predicted_step` and the gradients take them."""
        return dict(self.network.named_parameters())

    def __call__(self, weights: Mapping[str, Tensor], *arguments: Any) -> Any:
        moving = {k: b.clone() for k, b in self.statistics.items()}
        return torch.func.functional_call(self.network, {**weights, **moving}, arguments)


def predicted_step(
    optimiser: torch.optim.Optimizer,
    weights: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    clip: float | None = None,
) -> dict[str, Tensor]:
    """Where `optimiser.step()` would put the weights, as a differentiable function of weights and gradients.

    weights: name -> the optimiser's own parameters. SGD (momentum, dampening, Nesterov, weight decay), Adam and AdamW; the
    optimiser's state (momentum buffers, moments, step count) is read and not changed. clip: gradient norm limit applied first.
    """
    if not isinstance(optimiser, (torch.optim.SGD, torch.optim.Adam)):  # AdamW is an Adam
        raise ValueError(f"second order models SGD, Adam and AdamW, not {type(optimiser).__name__}; use first order")
    if clip is not None:
        factor = clip_factor(list(gradients.values()), clip)
        gradients = {name: g * factor for name, g in gradients.items()}
    settings = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    moved = {}
    for name, weight in weights.items():
        group, state = settings[id(weight)], optimiser.state.get(weight, {})
        moved[name] = (_sgd if isinstance(optimiser, torch.optim.SGD) else _adam)(
            weight, gradients[name], group, state, isinstance(optimiser, torch.optim.AdamW)
        )
    return moved


def _sgd(weight: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any], _: bool) -> Tensor:
    gradient = -gradient if group["maximize"] else gradient
    gradient = gradient + group["weight_decay"] * weight
    if group["momentum"]:
        buffer = state.get("momentum_buffer")
        velocity = gradient if buffer is None else group["momentum"] * buffer + (1.0 - group["dampening"]) * gradient
        gradient = gradient + group["momentum"] * velocity if group["nesterov"] else velocity
    moved: Tensor = weight - group["lr"] * gradient
    return moved


def _adam(weight: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any], decoupled: bool) -> Tensor:
    if group["amsgrad"]:
        raise ValueError("second order does not model amsgrad; use first order or plain Adam")
    gradient = -gradient if group["maximize"] else gradient
    if decoupled:
        weight = weight * (1.0 - group["lr"] * group["weight_decay"])
    else:
        gradient = gradient + group["weight_decay"] * weight
    first, second = group["betas"]
    steps = float(state.get("step", 0)) + 1.0
    mean = first * state.get("exp_avg", 0.0) + (1.0 - first) * gradient
    square = second * state.get("exp_avg_sq", 0.0) + (1.0 - second) * gradient.square()
    # the slope of the root is infinite at 0, where a weight that nothing uses sits: it has no slope at all
    seen = square > 0
    # not sqrt: see `unit_gain` in nas.network.cell
    root = torch.where(
        seen, torch.where(seen, square, torch.ones_like(square)).rsqrt().reciprocal(), torch.zeros_like(square)
    )
    size = group["lr"] / (1.0 - first**steps)
    moved: Tensor = weight - size * mean / (root / (1.0 - second**steps) ** 0.5 + group["eps"])
    return moved


def first_order_gradient(validation_loss: Tensor, alphas: Sequence[Tensor]) -> list[Tensor]:
    """d_a L_val at the present weights; zero for an alpha that the loss does not use."""
    return _filled(torch.autograd.grad(validation_loss, list(alphas), allow_unused=True), alphas)


def second_order_gradient(
    train_loss: Loss,
    validation_loss: Loss,
    weights: Mapping[str, Tensor],
    alphas: Sequence[Tensor],
    optimiser: torch.optim.Optimizer,
    *,
    mode: Mode = "finite",
    clip: float | None = None,
) -> list[Tensor]:
    """d_a L_val(step(w, d_w L_train(w, a)), a), one tensor per alpha (zero where it is not used).

    train_loss, validation_loss: weights by name -> scalar, reading `alphas` by themselves. weights: the optimiser's parameters.
    """
    alphas, names, exact = list(alphas), list(weights), mode == "exact"
    gradients = _filled(
        torch.autograd.grad(train_loss(weights), list(weights.values()), create_graph=exact, allow_unused=True),
        list(weights.values()),
    )
    if exact:
        ahead = predicted_step(optimiser, weights, dict(zip(names, gradients, strict=True)), clip)
        return _filled(torch.autograd.grad(validation_loss(ahead), alphas, allow_unused=True), alphas)

    leaves = [g.detach().requires_grad_() for g in gradients]
    fixed = {name: weight.detach() for name, weight in weights.items()}
    ahead = predicted_step(optimiser, weights, dict(zip(names, leaves, strict=True)), clip)
    outcome = torch.autograd.grad(validation_loss(ahead), [*alphas, *leaves], allow_unused=True)
    direct = _filled(outcome[: len(alphas)], alphas)
    direction = _filled(outcome[len(alphas) :], leaves)
    length = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(d) for d in direction])))
    if length == 0.0:  # the validation loss does not feel this step
        return direct
    eps = STEP_LENGTH.get(direction[0].dtype, 1e-2) / length

    def alpha_gradient(sign: float) -> list[Tensor]:
        shifted = {
            name: (value + sign * eps * d).requires_grad_()
            for (name, value), d in zip(fixed.items(), direction, strict=True)
        }
        return first_order_gradient(train_loss(shifted), alphas)

    plus, minus = alpha_gradient(1.0), alpha_gradient(-1.0)
    return [d + (p - m) / (2.0 * eps) for d, p, m in zip(direct, plus, minus, strict=True)]


def _filled(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]
