"""The variants of differentiable architecture search, each a few settings and hooks on the one loop of `nas.search`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from typing import Literal, get_args

import torch
from torch import Tensor

from data.errors import InputError, known_word
from nas.search.architect import Mode
from nas.search.diagnostics import EigenvalueStop
from nas.search.relaxation import Relaxation, Temperature, perturbed, sampled, sigmoid, softmax, uniform_path
from nas.search.supernet import Architecture
from nas.space.discretisation import Rule

Regulariser = Callable[
    [Architecture, float], Tensor
]  # (architecture, progress in [0, 1]) -> scalar added to the validation loss
Selection = Literal["weights", "removal", "shared", "random"]
NoisyRelaxation = Callable[[float], Relaxation]  # progress -> relaxation


@dataclass(frozen=True)
class Stage:
    """Part of a search: depth as a share of the evaluation network's cells, share of ops still in the race, dropout of skips."""

    depth: float | None = None  # None: the depth of the search network
    ops: float = 1.0
    skip_dropout: float = 0.0


@dataclass(frozen=True)
class Variant:
    """One algorithm. What is not named here is the loop's own: first order, softmax, strongest op per edge, strongest edges per node.

    Parameters
    ----------
    name, title, source : str
        As `--variant` takes it, as tables show it; the paper.
    order : {0, 1, 2}
        Of the gradient by alpha (Liu et al. 2019); 0: alpha is not learned.
    mode : str
        Of the second order, `finite` differences or `exact` (`nas.search.architect`).
    relaxation : callable
        See `nas.search.relaxation`.
    weight_relaxation, alpha_relaxation : callable, optional
        progress -> relaxation with noise, drawn anew in every weight or alpha step.
    temperature : Temperature, optional
        None for the settings' own.
    warmup : float
        Least share of the epochs before alpha moves.
    partial : int
        K; 1 / K of the channels goes through the ops (PC-DARTS).
    normalised : bool
        The edges of a node compete by a softmax of their own (PC-DARTS).
    without_zero : bool
        No op `zero` in the race (FairDARTS).
    regulariser : callable, optional
        (architecture, progress in [0, 1]) -> scalar added to the validation loss.
    alpha_decay : float, optional
        Weight decay of alpha; None for the settings' own.
    weight_decay : float
        Times the settings' own, of the network's weights (R-DARTS).
    auxiliary : float
        Weight of an extra skip on every edge at the start; falls linearly to 0 (DARTS-).
    eigenvalue_stop, skip_stop : optional
        Rolls back when curvature grows (RobustDARTS); stops before the cell holds so many skips (DARTS+).
    stages : tuple of Stage
        Parts of the search, each deeper and with fewer ops (P-DARTS).
    rule : Rule
        How the cell is read off (`nas.space.discretisation`).
    selection : str
        By the relaxed `weights`, by `removal` of ops (DARTS-PT), by the loss of random cells on `shared` weights, or `random` cells
        trained from scratch.

    Examples
    --------
    >>> from nas import Variant
    >>> Variant("half", "PC-DARTS with half of the channels", "after Xu et al. 2020", partial=2, normalised=True).order
    1
    """

    name: str
    title: str
    source: str
    order: Literal[0, 1, 2] = 1
    mode: Mode = "finite"
    relaxation: Relaxation = softmax
    weight_relaxation: NoisyRelaxation | None = None
    alpha_relaxation: NoisyRelaxation | None = None
    temperature: Temperature | None = None
    warmup: float = 0.0
    partial: int = 1
    normalised: bool = False
    without_zero: bool = False
    regulariser: Regulariser | None = None
    alpha_decay: float | None = None
    weight_decay: float = 1.0
    auxiliary: float = 0.0
    eigenvalue_stop: EigenvalueStop | None = None
    skip_stop: int | None = None
    stages: tuple[Stage, ...] = (Stage(),)
    rule: Rule = field(default_factory=Rule)
    selection: Selection = "weights"

    def __post_init__(self) -> None:
        what = f"variant {self.name!r}"
        known_word(f"{what}: order", self.order, (0, 1, 2))
        known_word(f"{what}: mode", self.mode, get_args(Mode))
        known_word(f"{what}: selection", self.selection, get_args(Selection))
        for name in ("alpha_decay", "weight_decay", "auxiliary", "warmup"):
            if (getattr(self, name) or 0.0) < 0.0:
                raise InputError(f"{what}: {name} must not be negative, and is {getattr(self, name)}")
        if self.partial < 1 or not self.stages:
            raise InputError(f"{what} needs partial of at least 1 and at least one stage")


VARIANTS: dict[str, Variant] = {}


def register_variant(variant: Variant) -> Variant:
    """Make a variant known to `--variant` and every test of variants.

    Parameters
    ----------
    variant : Variant
        With a name that is free.

    Raises
    ------
    ValueError
        Where the name is taken.

    Examples
    --------
    >>> from nas import Variant, register_variant
    >>> register_variant(Variant("third", "PC-DARTS with a third of the channels", "after Xu et al. 2020", partial=3)).name
    'third'
    """
    if variant.name in VARIANTS:
        raise ValueError(f"variant {variant.name!r} is registered already")
    VARIANTS[variant.name] = variant
    return variant


def get_variant(name: str) -> Variant:
    """The variant of that name; InputError lists what there is."""
    if name not in VARIANTS:
        raise InputError(f"no search variant {name!r}; there are {', '.join(VARIANTS)}")
    return VARIANTS[name]


def zero_one(weight: float) -> Regulariser:
    """-(sigmoid - 1/2)^2 of every choice, pushing it to yes or no (FairDARTS, Chu et al. 2020, equation 6).

    weight: its largest push on a logit at the end of the search, in sizes of the gradient of the validation loss (`nas.search.forces`);
    it grows from 0, so that the data speak first. `none` and `zero` carry nothing and are left where they start: at 1/2 `none` is the
    bar that a pipeline has to clear.
    """
    # the slope of (s - 1/2)^2 by the logit is 2 (s - 1/2) s (1 - s): at most 1 / (6 sqrt 3)
    steepest = 6.0 * sqrt(3.0)

    def loss(architecture: Architecture, progress: float) -> Tensor:
        named = torch.tensor([name != "zero" for name in architecture.space.ops])
        ops = architecture.op_weights()[architecture.op_choices.mask & named]
        features = architecture.feature_weights()[architecture.is_pipeline]
        return -weight * steepest * progress * torch.stack([(w - 0.5).square().sum() for w in (ops, features)]).sum()

    return loss


def beta_decay(weight: float) -> Regulariser:
    """progress * log sum exp alpha of every edge and input: Beta-DARTS (Ye et al. 2022, equation 11), growing linearly.

    weight: what it takes off a logit that outweighs all others at the end, in sizes of the gradient (`nas.search.forces`).
    """

    def loss(architecture: Architecture, progress: float) -> Tensor:
        masked = [
            logits.masked_fill(~choices.mask, float("-inf")).logsumexp(-1).sum()
            for logits, choices in (
                (architecture.ops, architecture.op_choices),
                (architecture.features, architecture.feature_choices),
            )
            if len(logits)
        ]
        return weight * progress * torch.stack(masked).sum()

    return loss


_STOP = EigenvalueStop()
register_variant(Variant("darts", "DARTS, first order", "Liu et al. 2019, arXiv 1806.09055"))
register_variant(Variant("darts-2nd", "DARTS, second order", "Liu et al. 2019, equations 7 and 8", order=2))
register_variant(
    Variant("darts-2nd-exact", "DARTS, second order by autograd", "Liu et al. 2019, equation 6", order=2, mode="exact")
)
register_variant(
    Variant(
        "pc", "PC-DARTS", "Xu et al. 2020, arXiv 1907.05737",
        partial=4, normalised=True, warmup=0.3,  # 15 of its 50 epochs
    )
)  # fmt: skip
register_variant(
    Variant(
        "fair", "FairDARTS", "Chu et al. 2020, arXiv 1911.12126",
        relaxation=sigmoid, without_zero=True, regulariser=zero_one(3.0), alpha_decay=0.0, rule=Rule("sparse", 0.85),
    )
)  # fmt: skip
register_variant(
    Variant(
        "plus", "DARTS+ with eigenvalue stop", "eigenvalue stop and L2: Zela et al. 2020, 1909.09656; skip: Chu et al. 2021, 2009.01027",
        auxiliary=1.0, eigenvalue_stop=_STOP, weight_decay=9.0,
    )
)  # fmt: skip
register_variant(
    Variant(
        "plus-skips", "DARTS+ with skip count", "Liang et al. 2019, arXiv 1909.06035, criterion 1",
        auxiliary=1.0, skip_stop=2,
    )
)  # fmt: skip
register_variant(
    Variant(
        "progressive", "P-DARTS", "Chen et al. 2019, arXiv 1904.12760",
        # its networks of 5, 11 and 17 cells on the way to 20; 8, 5 and 3 ops; skip dropout 0, 0.4, 0.7
        stages=(Stage(5 / 20), Stage(11 / 20, 5 / 8, 0.4), Stage(17 / 20, 3 / 8, 0.7)), rule=Rule(skip_limit=2),
    )
)  # fmt: skip
register_variant(Variant("beta", "Beta-DARTS", "Ye et al. 2022, arXiv 2203.01665", regulariser=beta_decay(5.0)))
register_variant(
    Variant(
        "sdarts", "SDARTS-RS", "Chen and Hsieh 2020, arXiv 2002.05283",
        weight_relaxation=lambda progress: perturbed(0.03 + 0.27 * progress),
    )
)  # fmt: skip
register_variant(Variant("pt", "DARTS-PT", "Wang et al. 2021, arXiv 2108.04392", selection="removal"))
register_variant(
    Variant(
        "gdas", "GDAS", "Dong and Yang 2019, arXiv 1910.04465",
        relaxation=softmax, weight_relaxation=lambda _: sampled, alpha_relaxation=lambda _: sampled,
        temperature=Temperature(10.0, 0.1, "linear"),
    )
)  # fmt: skip
register_variant(
    Variant(
        "random-ws", "random search with weight sharing", "Li and Talwalkar 2019, arXiv 1902.07638",
        order=0, weight_relaxation=lambda _: uniform_path, selection="shared",
    )
)  # fmt: skip
register_variant(
    Variant(
        "random",
        "random architectures at equal budget",
        "Li and Talwalkar 2019; Yu et al. 2020",
        order=0,
        selection="random",
    )
)
