"""How one search runs: its lengths, rates and prices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from data.errors import InputError, known_word
from nas.network.losses import LOSSES
from nas.network.training import TrainingSettings
from nas.search.relaxation import Temperature

Undecided = Literal["simpler", "first"]
SIGNED = (
    "learning_rate", "weight_decay", "alpha_learning_rate", "alpha_weight_decay", "alpha_warmup_epochs", "gradient_clip", "blocks",
    "diagnostics_every", "parameter_cost", "feature_learning_rate", "feature_cost", "feature_steps", "finalist_learning_rate",
)  # fmt: skip


@dataclass(frozen=True)
class SearchSettings:
    """How one search runs. Lengths are in bars. Alpha moves by Adam as in DARTS; its betas and decay are the original's.

    Parameters
    ----------
    epochs : int
        Passes over the training stretch.
    learning_rate, weight_decay : float
        Of the network's weights, by AdamW.
    alpha_learning_rate, alpha_weight_decay : float
        Of the op logits; the decay in sizes of the gradient of the validation loss (`nas.search.forces`).
    alpha_warmup_epochs : int
        Before alpha moves at all.
    length, batch : int
        Bars of a stretch with loss (its context comes before them), and stretches per step.
    temperature : Temperature
        Of the softmax over a search.
    gradient_clip : float
        Largest norm of a weight gradient.
    loss : str
        One of `nas.network.losses.LOSSES`.
    blocks : int
        0 for one training and one validation stretch, n to cut both together into n pairs of alternating, purged blocks.
    diagnostics_every : int
        Epochs between measurements of the dominant eigenvalue and the discretisation gap, and after the last one (0: the eigenvalue only
        where the variant stops by it, every epoch). Every 5: a tenth of the search's time and less (docs/performance.md).
    random_init : bool
        Logits start as a real preference (standard normal) instead of all but equal.
    fraction : float
        Share of the training stretches that an epoch of the search looks at, drawn anew every epoch.
    parameter_cost : float
        Times loss x log(n) / 2n per parameter, n the training bars, is what an op's parameters add to the score of a finalist in the last
        round: 1 is the Bayesian information criterion, which lets the smaller of two ops win that forecast alike; 0 leaves parameters
        free. The search itself has no such price: it kept learned ops from being nominated before they had learned anything.
    feature_learning_rate : float
        Of the logits of pipelines, by Adam without weight decay: their gradients are as small as the decay of the originals, which would
        hold every choice at its start.
    feature_cost : float
        An input has to lower the validation loss by this many 1 / sqrt(training bars x validation bars), or `none` wins: that is the
        spread of what a column of noise, fitted on the one, seems to gain on the other; the best of four columns gains more.
    feature_steps : int
        Alpha steps during which pipelines compete; then their weights stand and ops go on. Longer, the network's own weights make up for a
        smaller mix, the loss no longer tells inputs apart and the price alone is left: good inputs go as well.
    finalists, finalist_epochs, finalist_starts : int
        So many of the likeliest architectures are each trained by themselves, and one with every attention, gate or module that is in none
        of them: for a fifth of `finalist_epochs` (these late learners from `finalist_starts` starting weights), the better half for all
        of them; the best by validation is the result (`nas.search.finalists`). 1: the relaxed weights decide alone, as in the papers.
    finalist_learning_rate : float
        Of their weights: there is less time to learn than in a training.
    repeats : int
        Searches from different starting weights; the one whose supernet forecasts validation best gives the result, and what all of them
        agree on is decided (`nas.search.decisions`).
    undecided : {"simpler", "first"}
        What an edge holds whose op is not shown to beat the runner-up (`nas.search.decisions`): the simpler of the two, or the first as in
        the papers. With finalists the last round decides.
    op_costs : mapping
        Time of every op, as measured, in any unit: what the part `latency` weighs ops by. Empty: as counted (`Op.nanoseconds`), the same
        on every machine.
    device : str
        cpu or cuda, where the weights are trained; the architecture's few logits stay on the CPU (`nas.tasks.device`).

    Raises
    ------
    InputError
        For lengths below 1, rates, decays and prices below 0, a fraction outside (0, 1] and an unknown loss.

    Examples
    --------
    >>> from nas import SearchSettings
    >>> SearchSettings(epochs=10, loss="sharpe").finalists
    1
    """

    epochs: int = 20
    learning_rate: float = 5e-3
    weight_decay: float = 3e-3
    alpha_learning_rate: float = 2e-2
    alpha_weight_decay: float = 0.1
    alpha_warmup_epochs: int = 3
    length: int = 256
    batch: int = 4
    temperature: Temperature = field(default_factory=Temperature)
    gradient_clip: float = 1.0
    loss: str = "huber"
    blocks: int = 0
    diagnostics_every: int = 5
    random_init: bool = False
    fraction: float = 1.0
    parameter_cost: float = 0.25
    feature_learning_rate: float = 0.1
    feature_cost: float = 1.5
    feature_steps: int = 70
    finalists: int = 1
    finalist_epochs: int = 20
    finalist_starts: int = 5
    finalist_learning_rate: float = 2e-2
    repeats: int = 1
    undecided: Undecided = "simpler"
    op_costs: Mapping[str, float] = field(default_factory=dict, hash=False)
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("epochs", "length", "batch", "finalists", "finalist_epochs", "finalist_starts", "repeats"):
            if getattr(self, name) < 1:
                raise InputError(f"search {name} must be at least 1, not {getattr(self, name)}")
        for name in SIGNED:
            if not getattr(self, name) >= 0.0:
                raise InputError(f"search {name} must not be negative, and is {getattr(self, name)}")
        for name, cost in self.op_costs.items():
            if not 0.0 <= cost < math.inf:
                raise InputError(f"op_costs: the time of {name} must be a number from 0, not {cost}")
        known_word("undecided", self.undecided, get_args(Undecided))
        if not 0.0 < self.fraction <= 1.0:
            raise InputError(f"the search fraction is a share of the training stretches in (0, 1], not {self.fraction}")
        if self.loss not in LOSSES:
            raise InputError(f"no loss {self.loss!r}; there are {', '.join(LOSSES)}")

    def changed(self, **changes: Any) -> SearchSettings:
        """With these fields; InputError for names that are none."""
        for name in changes:
            known_word("search setting", name, tuple(self.__dataclass_fields__))
        return replace(self, **changes)

    def training(self, epochs: int) -> TrainingSettings:
        """How the search trains a candidate by itself: at its own rates and lengths, all of the epochs."""
        return TrainingSettings(
            epochs=epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            length=self.length,
            batch=self.batch,
            patience=epochs,
            gradient_clip=self.gradient_clip,
            loss=self.loss,
            device=self.device,
        )
