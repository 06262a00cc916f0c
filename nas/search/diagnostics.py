"""What is watched while a search runs: entropy, what leads where, curvature in alpha, and what discretising would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


def entropy(weights: Tensor) -> float:
    """Mean entropy of the rows in nats, each row scaled to sum to 1. weights: [rows, choices], zero where there is no choice."""
    share = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
    return float(-(share * share.clamp_min(1e-12).log()).sum(-1).mean()) if len(weights) else 0.0


def leading_ops(weights: Tensor, ops: Sequence[str]) -> dict[str, int]:
    """Op -> number of edges on which it weighs most. weights: [edges, ops]."""
    return dict(sorted(Counter(ops[k] for k in weights.argmax(-1).tolist()).items()))


def norm(gradients: Sequence[Tensor]) -> float:
    """Euclidean norm over all tensors."""
    return float(torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in gradients]))) if gradients else 0.0


class DominantEigenvalue:
    """Largest eigenvalue in size of the Hessian of a loss by alpha, from Hessian-vector products only (Lanczos 1950).

    Products go on until the residual of the estimate is `tolerance` of it (the estimate then errs by less), or until there are as many as
    alphas, when it is exact. The eigenvector of the last call is where the next one starts: over a search the Hessian moves slowly and
    few products do. Power iteration of four or eight products, which this replaces, read up to a half too little.
    """

    def __init__(self, tolerance: float = 1e-2, fewest: int = 5) -> None:
        self.tolerance = tolerance
        self.fewest = (
            fewest  # products at least: the last vector may still be an eigenvector, but no longer of the largest value
        )
        self.vector: Tensor | None = None
        self.products = 0

    def __call__(self, loss: Callable[[], Tensor], alphas: Sequence[Tensor]) -> float:
        """Signed eigenvalue; 0 where the loss is flat in alpha (one op, say)."""
        alphas = list(alphas)
        gradients = torch.autograd.grad(loss(), alphas, create_graph=True, allow_unused=True)
        used = [(g, a) for g, a in zip(gradients, alphas, strict=True) if g is not None and g.requires_grad]
        if not used:
            return 0.0
        slope = torch.cat([g.reshape(-1) for g, _ in used])
        targets = [a for _, a in used]
        course = self.course(len(slope))
        direction = next(course)
        while True:
            # the gradient of a product, not `grad_outputs`: that loads sympy
            outcome = torch.autograd.grad(slope @ direction.to(slope), targets, retain_graph=True, allow_unused=True)
            product = torch.cat(
                [(torch.zeros_like(a) if g is None else g).reshape(-1) for g, a in zip(outcome, targets, strict=True)]
            )
            try:
                direction = course.send(product)
            except StopIteration as end:
                return float(end.value)

    def course(self, count: int) -> Generator[Tensor, Tensor, float]:
        """The products it asks for: yields a direction [count], is sent the Hessian times it, returns the eigenvalue."""
        # no draw: a fixed, uneven direction that no symmetry of the softmax annihilates
        start = torch.cos(torch.arange(1, count + 1, dtype=torch.float64) ** 2)
        start = start / torch.linalg.vector_norm(start)
        if self.vector is not None and self.vector.shape == start.shape:
            start = self.vector + 0.1 * start
        basis = [start / torch.linalg.vector_norm(start)]
        diagonal: list[float] = []
        beside: list[float] = []
        value, self.products = 0.0, 0
        while True:
            product = (yield basis[-1]).to(start)
            self.products += 1
            diagonal.append(float(basis[-1] @ product))
            known = torch.stack(basis)
            for _ in range(2):  # twice is enough (Parlett 1980)
                product = product - known.t() @ (known @ product)
            left = float(torch.linalg.vector_norm(product))
            small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
            for k, between in enumerate(beside):
                small[k, k + 1] = small[k + 1, k] = between
            values, vectors = torch.linalg.eigh(small)
            best = int(values.abs().argmax())
            value = float(values[best])
            self.vector = vectors[:, best] @ known
            residual = left * abs(float(vectors[-1, best]))
            settled = self.products >= self.fewest and residual <= self.tolerance * abs(value)
            if settled or self.products == count or left <= 1e-12 * max(1.0, abs(value)):
                return 0.0 if abs(value) < 1e-12 else value
            beside.append(left)
            basis.append(product / left)


@dataclass(frozen=True)
class EigenvalueStop:
    """Stop when the dominant eigenvalue has grown too fast and go back to before it did (RobustDARTS, Zela et al. 2020, section 4.3).

    All lengths are those of the paper's search of 50 epochs, whose logs hold a value every `every` epochs: `scaled` makes them those of
    another length, and a series measured at any other rate is read at the paper's (between two readings on the line that joins them).
    The series is smoothed by a centred moving average over `window` values, so the newest average that is whole lies window // 2
    values back. The search stops when it exceeds `ratio` times the average `delta` values before it, and returns to that epoch. No
    return to an epoch before `first_epoch`, where alpha is still settling.
    """

    window: int = 5
    ratio: float = 1.3
    delta: int = 4
    first_epoch: float = 10
    every: float = 2.0

    def scaled(self, epochs: int) -> EigenvalueStop:
        """The same rule for a search of so many epochs."""
        return replace(self, first_epoch=max(1.0, self.first_epoch * epochs / 50), every=self.every * epochs / 50)

    def smoothed(self, eigenvalues: Sequence[float]) -> list[float]:
        """The averages, one per value; shorter windows at both ends."""
        half, values = self.window // 2, list(eigenvalues)
        return [float(np.mean(values[max(0, e - half) : e + half + 1])) for e in range(len(values))]

    def roll_back_to(self, epochs: Sequence[float], eigenvalues: Sequence[float]) -> int | None:
        """Epoch to return to when the series so far says stop, else None. epochs: when each eigenvalue was measured, in order."""
        # a hair beyond, so that the last epoch belongs to its own grid
        grid = np.arange(epochs[0], epochs[-1] + 1e-6, self.every)
        average = self.smoothed(np.interp(grid, epochs, eigenvalues).tolist())
        for now in range(self.delta, len(grid) - self.window // 2):
            back = now - self.delta
            if (
                grid[back] >= self.first_epoch - 1e-6
                and average[back] > 0
                and average[now] / average[back] > self.ratio
            ):
                return int(grid[back] + 1e-6)
        return None
