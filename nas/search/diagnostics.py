"""What is watched while a search runs: entropy, what leads where, curvature in alpha, and what discretising would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


class PowerIteration:
    """Dominant eigenvalue (largest in size) of the Hessian of a loss by alpha, from Hessian-vector products only.

    The eigenvector of the last call is the start of the next: over a search the Hessian moves slowly and few products do.
    """

    def __init__(self, iterations: int, tolerance: float = 1e-3) -> None:
        self.iterations = iterations
        self.tolerance = tolerance
        self.vector: Tensor | None = None

    def __call__(self, loss: Callable[[], Tensor], alphas: Sequence[Tensor]) -> float:
        """Signed eigenvalue; 0 where the loss is flat in alpha (one op, say). Stops when two estimates differ by `tolerance`."""
        alphas = list(alphas)
        gradients = torch.autograd.grad(loss(), alphas, create_graph=True, allow_unused=True)
        used = [(g, a) for g, a in zip(gradients, alphas, strict=True) if g is not None and g.requires_grad]
        if not used:
            return 0.0
        slope = torch.cat([g.reshape(-1) for g, _ in used])
        targets = [a for _, a in used]
        if self.vector is None or self.vector.shape != slope.shape:
            # no draw: a fixed, uneven start that no symmetry of the softmax annihilates
            self.vector = torch.cos(torch.arange(1, len(slope) + 1, dtype=torch.float64) ** 2).to(slope.dtype)
        vector = self.vector / torch.linalg.vector_norm(self.vector)
        value = 0.0
        for _ in range(self.iterations):
            outcome = torch.autograd.grad(slope, targets, grad_outputs=vector, retain_graph=True, allow_unused=True)
            product = torch.cat(
                [(torch.zeros_like(a) if g is None else g).reshape(-1) for g, a in zip(outcome, targets, strict=True)]
            )
            estimate = float(vector @ product)
            size = float(torch.linalg.vector_norm(product))
            if size < 1e-12:
                return 0.0
            vector = product / size
            if abs(estimate - value) <= self.tolerance * abs(estimate):
                value = estimate
                break
            value = estimate
        self.vector = vector.detach()
        return value


@dataclass(frozen=True)
class EigenvalueStop:
    """Stop when the dominant eigenvalue has grown too fast and go back to before it did (RobustDARTS, Zela et al. 2020, section 4.3).

    The series is smoothed by a centred moving average over `window` values, so the newest average that is whole lies window // 2
    values back. The search stops when it exceeds `ratio` times the average `delta` values before it, and returns to that epoch. No
    return to an epoch before `first_epoch`, where alpha is still settling.
    """

    window: int = 5
    ratio: float = 1.3
    delta: int = 4
    first_epoch: int = 10

    def smoothed(self, eigenvalues: Sequence[float]) -> list[float]:
        """The averages, one per value; shorter windows at both ends."""
        half, values = self.window // 2, list(eigenvalues)
        return [float(np.mean(values[max(0, e - half) : e + half + 1])) for e in range(len(values))]

    def roll_back_to(self, epochs: Sequence[int], eigenvalues: Sequence[float]) -> int | None:
        """Epoch to return to when the series so far says stop, else None. epochs: when each eigenvalue was measured."""
        now = len(eigenvalues) - 1 - self.window // 2
        back = now - self.delta
        if back < 0 or epochs[back] < self.first_epoch:
            return None
        average = self.smoothed(eigenvalues)
        return epochs[back] if average[back] > 0 and average[now] / average[back] > self.ratio else None
