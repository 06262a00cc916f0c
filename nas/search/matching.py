"""Ops that stop learning by themselves: OLES (Jiang et al. 2023, Operation-Level Early Stopping, NeurIPS).

While an op learns something general, the gradients of its weights on a training and on a validation batch point the same way. An op whose
mean cosine over a window of steps falls below a threshold learns the training bars by heart; its weights stand still from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.network.cell import Cell

Place = tuple[str, int | None]  # parameter, and which row of it is the op's (None: all of it)


@dataclass(frozen=True)
class GradientStop:
    """threshold, window: 0.4 over 20 steps in the authors' code, whose counter lets 21 values into the sum that it divides by 20."""

    threshold: float = 0.4
    window: int = 20


class Running:
    """One op's cosines: adds them up and says when a window's mean is below the threshold, with the counter of the original."""

    def __init__(self, rule: GradientStop) -> None:
        self.rule = rule
        self.sum, self.count = 0.0, 0

    def stops(self, cosine: float) -> bool:
        """Whether the op stops with this value."""
        self.sum += cosine
        if self.count < self.rule.window:
            self.count += 1
            return False
        low = self.sum / self.count < self.rule.threshold
        self.sum, self.count = 0.0, 0
        return low


def agreement(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Mean over an op's tensors of the cosine along their outputs, the last dimension. pairs: (training, validation) gradients."""
    return float(torch.stack([torch.cosine_similarity(a, b, dim=-1).mean() for a, b in pairs]).mean())


class Matching:
    """Watches the ops of a supernet. Per step: `compare` with the validation gradients, then `remember` those of the training step."""

    def __init__(self, network: nn.Module, rule: GradientStop) -> None:
        self.ops: dict[str, list[Place]] = {}
        for name, cell in network.named_modules():
            if isinstance(cell, Cell):
                self.ops |= {f"{name}.{entry}": places for entry, places in _places(cell, name).items()}
        self.parameters = dict(network.named_parameters())
        self.running = {op: Running(rule) for op in self.ops}
        self.frozen: set[str] = set()
        self._last: dict[str, Tensor] = {}

    def remember(self, gradients: Mapping[str, Tensor]) -> None:
        """Of the weights on a training batch, by name."""
        self._last = {name: gradient.detach() for name, gradient in gradients.items()}

    def compare(self, gradients: Mapping[str, Tensor]) -> None:
        """With those of a validation batch. An op that no gradient reached, because it was not drawn, is not judged."""
        if not self._last:
            return
        for op, places in self.ops.items():
            if op in self.frozen:
                continue
            pairs = [(_part(self._last, place), _part(gradients, place)) for place in places]
            if all(bool(a.any()) and bool(b.any()) for a, b in pairs) and self.running[op].stops(agreement(pairs)):
                self.frozen.add(op)

    def values(self) -> dict[str, Tensor]:
        """Copies of the tensors that hold frozen ops; `restore` puts the frozen parts back after a step."""
        names = {name for op in self.frozen for name, _ in self.ops[op]}
        return {name: self.parameters[name].detach().clone() for name in sorted(names)}

    @torch.no_grad()
    def restore(self, values: Mapping[str, Tensor]) -> None:
        for op in self.frozen:
            for name, row in self.ops[op]:
                if row is None:
                    self.parameters[name].copy_(values[name])
                else:
                    self.parameters[name][row].copy_(values[name][row])

    def state(self) -> dict[str, Any]:
        """What it remembers, for `nas.search.checkpoint`."""
        running = {op: (one.sum, one.count) for op, one in self.running.items()}
        return {"frozen": sorted(self.frozen), "running": running, "last": self._last}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """From `state`."""
        self.frozen, self._last = set(state["frozen"]), dict(state["last"])
        for op, (total, count) in state["running"].items():
            self.running[op].sum, self.running[op].count = total, count

    @property
    def told(self) -> str:
        """For the note of a search."""
        return f"{len(self.frozen)} of {len(self.ops)} ops with weights stopped learning"


def _part(gradients: Mapping[str, Tensor], place: Place) -> Tensor:
    name, row = place
    return gradients[name] if row is None else gradients[name][row]


def _places(cell: Cell, prefix: str) -> dict[int, list[Place]]:
    """Entry of the cell -> where its own weights lie."""
    return {entry: [(f"{prefix}.{name}", row) for name, row in places] for entry, places in cell.own_weights().items()}
