"""The forces on the architecture's logits, and the one place where they are brought to scale with each other.

Only the gradient of the validation loss knows anything. How large it is depends on the loss, on the labels and on how much there is to
find: a cross-entropy of pictures moves a logit a hundred times harder than the Huber loss of standardised returns. What is set as a
plain number is therefore counted in sizes of that gradient, whichever variant sets it:

    force = dL_val/da + price + size * (decay * a + dR/da)      size: running root mean square of dL_val/da per logit

`decay` 0.1 pulls a logit of 1 back by a tenth of what the data push, and settles a logit where the mean push, in its own standard
deviations, is a tenth of it: chance stays small, evidence grows. A price (of parameters, of inputs) is in units of the loss already, since
it is weighed against what the loss gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

FORGETTING = 0.9  # of the running size, per step: about the last ten batches
DECAYED = ("ops", "strength")  # inputs have a price instead
NAMES = ("gradient", "decay", "regulariser", "price")


class Forces:
    """Adds up what pushes the logits, and remembers how hard each part pushed those of the ops.

    decay: of `DECAYED` logits, in sizes of the gradient per unit of logit. movable: logits of a group that can move at all.
    """

    def __init__(self, decay: float, movable: Mapping[str, int]) -> None:
        self.decay = decay
        self.movable = dict(movable)
        self._squares: dict[str, tuple[Any, float]] = {}  # weighted sum of mean squares, sum of weights
        self._totals: dict[str, Any] = dict.fromkeys(NAMES, 0.0)
        self._steps = 0

    def size(self, name: str) -> Any:
        """Running root mean square of the gradient of a group's logits; 0 before the first step."""
        total, weight = self._squares.get(name, (0.0, 0.0))
        return (total / weight) ** 0.5 if weight else 0.0

    def _mean(self, name: str, values: Tensor) -> Any:
        """Over the logits of a group that can move."""
        return float(values.sum()) / max(1, self.movable.get(name, values.numel()))

    def _factor(self, size: Any, like: Tensor) -> Any:
        """A size as what multiplies `like`."""
        return size

    @torch.no_grad()
    def total(
        self,
        logits: Mapping[str, Tensor],
        gradient: Mapping[str, Tensor],
        price: Mapping[str, Tensor] | None = None,
        regulariser: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The sum of all forces, per group. gradient: of the validation loss; price, regulariser: gradients of their own terms."""
        found = {}
        for name, push in gradient.items():
            total, weight = self._squares.get(name, (0.0, 0.0))
            self._squares[name] = (FORGETTING * total + self._mean(name, push.square()), FORGETTING * weight + 1.0)
            zero, size = torch.zeros_like(push), self.size(name)
            parts = {
                "gradient": push,
                "decay": self._factor(size * self.decay, push) * logits[name] if name in DECAYED else zero,
                "regulariser": self._factor(size, push) * regulariser[name] if regulariser is not None else zero,
                "price": price[name] if price is not None else zero,
            }
            found[name] = torch.stack(list(parts.values())).sum(0)
            if name == "ops":
                self._steps += 1
                for part, value in parts.items():
                    self._totals[part] = self._totals[part] + self._mean(name, value.abs())
        return found

    def state(self) -> dict[str, Any]:
        """What it remembers, for `nas.search.checkpoint`."""
        return {"squares": dict(self._squares), "totals": dict(self._totals), "steps": self._steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._squares, self._totals, self._steps = dict(state["squares"]), dict(state["totals"]), state["steps"]

    def told(self) -> dict[str, Any] | None:
        """Mean size of every force per op logit and step since the last call; None where alpha did not move."""
        if not self._steps:
            return None
        found = {name: total / self._steps for name, total in self._totals.items()}
        self._totals, self._steps = dict.fromkeys(NAMES, 0.0), 0
        return found
