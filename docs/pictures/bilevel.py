"""First and second order on the problem with a known answer of the DARTS paper (Liu et al. 2019, figure 2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from docs.pictures.style import BLUE, GREEN, ORANGE, RED, figure
from nas.search.architect import first_order_gradient, second_order_gradient

STEPS, RATE, START = 400, 0.05, (2.0, -2.0)


def path(step: float) -> np.ndarray:
    """[STEPS + 1, 2]: (alpha, w) from START, alternating as in the paper; step: of the look-ahead, 0 for first order."""
    alpha, w = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in START)
    optimiser = torch.optim.SGD([w], lr=step or 1.0)

    def validation(weights: Mapping[str, Tensor]) -> Tensor:
        return alpha * weights["w"] - 2.0 * alpha + 1.0

    def training(weights: Mapping[str, Tensor]) -> Tensor:
        return weights["w"] ** 2 - 2.0 * alpha * weights["w"] + alpha**2

    points = [START]
    for _ in range(STEPS):
        if step:
            (slope,) = second_order_gradient(training, validation, {"w": w}, [alpha], optimiser, mode="exact")
        else:
            (slope,) = first_order_gradient(validation({"w": w}), [alpha])
        with torch.no_grad():
            alpha -= RATE * slope
        (descent,) = torch.autograd.grad(training({"w": w}), [w])
        with torch.no_grad():
            w -= RATE * descent
        points.append((alpha.item(), w.item()))
    return np.array(points)


def draw() -> Figure:
    out = figure(6.4, 3.6)
    axes = out.subplots()
    for step, colour in ((0.0, RED), (0.1, ORANGE), (0.3, BLUE), (0.5, GREEN)):
        points = path(step)
        label = "first order (ξ = 0)" if step == 0 else f"second order, ξ = {step:g}"
        axes.plot(*points.T, color=colour, label=label, lw=1.4)
        axes.plot(*points[-1], "o", color=colour, ms=5)
    axes.plot(*START, "s", color="black", ms=5)
    axes.annotate("start", START, xytext=(6, 4), textcoords="offset points")
    axes.plot(1, 1, "*", color="black", ms=11)
    axes.annotate("solution (1, 1)", (1, 1), xytext=(-82, 4), textcoords="offset points")
    axes.set(xlabel="architecture α", ylabel="weight w", title="min L_val(w*(α), α) with w*(α) = argmin L_train(w, α)")
    axes.legend(frameon=False, loc="lower left")
    return out
