"""The variants of differentiable architecture search, each a named set of parts (`nas.search.parts`) on the one loop of `nas.search`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from data.errors import InputError, known_word
from nas.search.architect import Mode
from nas.search.diagnostics import EigenvalueStop
from nas.search.matching import GradientStop
from nas.search.parts import PARTS, REFUSED, Part, Stage, refusal
from nas.search.penalties import Regulariser
from nas.search.relaxation import Relaxation, Temperature, perturbed, softmax
from nas.search.rivals import RIVALS, check_installed
from nas.search.supernet import Architecture
from nas.space.discretisation import Rule

Selection = Literal["weights", "removal", "shared", "random", "evolution", "local", "tpe", "halving"]
NoisyRelaxation = Callable[[float], Relaxation]  # progress -> relaxation


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
    alignment : float
        Weight, at the end, of the push to where all cells want the same ops (Lambda-DARTS).
    attack : callable, optional
        progress -> how far the weights of the ops are moved against the network in its steps (SDARTS-ADV).
    eigenvalue_stop, skip_stop, gradient_stop : optional
        Rolls back when curvature grows (RobustDARTS); stops before the cell holds so many skips (DARTS+); stops the weights of single ops
        (OLES).
    stages : tuple of Stage
        Parts of the search, each deeper and with fewer ops (P-DARTS).
    rule : Rule
        How the cell is read off (`nas.space.discretisation`).
    selection : str
        By the relaxed `weights`, by `removal` of ops (DARTS-PT), by the loss of random cells on `shared` weights, or a rival of
        `nas.search.rivals.RIVALS` that trains cells from scratch.
    finalists : int
        Least number of finalists of the last round, whatever the settings say.
    parts : tuple of str
        Names of `nas.search.parts.PARTS` that it is made of; empty for one that was made by hand.

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
    alignment: float = 0.0
    attack: Callable[[float], float] | None = None
    eigenvalue_stop: EigenvalueStop | None = None
    skip_stop: int | None = None
    gradient_stop: GradientStop | None = None
    stages: tuple[Stage, ...] = (Stage(),)
    rule: Rule = field(default_factory=Rule)
    selection: Selection = "weights"
    finalists: int = 1
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        what = f"variant {self.name!r}"
        known_word(f"{what}: order", self.order, (0, 1, 2))
        known_word(f"{what}: mode", self.mode, get_args(Mode))
        known_word(f"{what}: selection", self.selection, get_args(Selection))
        for name in ("alpha_decay", "weight_decay", "auxiliary", "alignment", "warmup"):
            if (getattr(self, name) or 0.0) < 0.0:
                raise InputError(f"{what}: {name} must not be negative, and is {getattr(self, name)}")
        if self.partial < 1 or not self.stages:
            raise InputError(f"{what} needs partial of at least 1 and at least one stage")

    @property
    def scratch(self) -> bool:
        """Whether it has no supernet, but trains cells."""
        return self.selection in RIVALS


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
    """The variant of that name, or the one that names joined by + compose; InputError lists what there is, or says what does not fit.

    >>> get_variant("gdas+pc+beta").parts
    ('gumbel', 'partial', 'beta-decay')
    """
    if name in VARIANTS:
        check_installed(VARIANTS[name].selection)
        return VARIANTS[name]
    words = [word.strip() for word in name.split("+")]
    parts: list[tuple[Part, str]] = []  # with the word that named it
    for word in words:
        if word in VARIANTS and (VARIANTS[word].parts or word == "darts"):
            parts += [(PARTS[part], word) for part in VARIANTS[word].parts]
        elif word in PARTS:
            parts.append((PARTS[word], word))
        elif word in VARIANTS:
            raise InputError(
                f"variant {name!r}: {word} was made by hand and has no parts that could be joined; name it alone"
            )
        else:
            inside = "" if word == name else f" in {name!r}"
            raise InputError(
                f"no search variant {word!r}{inside}; there are {', '.join(VARIANTS)}, and parts to join by +: {', '.join(PARTS)}"
            )
    for (a, of_a), (b, of_b) in itertools.combinations(dict.fromkeys(parts), 2):
        reason = None if a.name == b.name else refusal(a, b)
        if reason is not None:
            told = [p.name if p.name == of else f"{p.name} (of {of})" for p, of in ((a, of_a), (b, of_b))]
            raise InputError(f"variant {name!r}: {told[0]} and {told[1]} do not go together: {reason}")
    chosen = tuple(dict.fromkeys(part.name for part, _ in parts))
    if "uniform" in chosen and not {"removal", "shared"} & set(chosen):
        raise InputError(f"variant {name!r}: {REFUSED['uniform', 'weights']}")
    return composed(name, *chosen)


def composed(name: str, *parts: str, title: str = "", source: str = "") -> Variant:
    """The variant that these parts make; nothing is checked here. title, source: those of the parts unless given."""
    known = [PARTS[part] for part in parts]
    changes: dict[str, Any] = {}
    rule: dict[str, Any] = {}
    penalties: list[Regulariser] = []
    for part in known:
        for key, value in part.changes.items():
            if key == "rule":
                rule |= value
            elif key == "regulariser":
                penalties.append(value)
            else:
                changes[key] = value
    if rule:
        changes["rule"] = Rule(**rule)
    if penalties:
        changes["regulariser"] = penalties[0] if len(penalties) == 1 else _sum(penalties)
    spread = changes.pop("spread", None)
    if spread is not None:
        changes["weight_relaxation"] = _around(
            spread, changes.get("relaxation", softmax), changes.get("weight_relaxation")
        )
    return Variant(
        name,
        title or " + ".join(parts),
        source or "; ".join(dict.fromkeys(part.source for part in known)),
        parts=parts,
        **changes,
    )


def _sum(penalties: Sequence[Regulariser]) -> Regulariser:
    """All of them at once."""

    def loss(architecture: Architecture, progress: float) -> Tensor:
        return torch.stack([penalty(architecture, progress) for penalty in penalties]).sum()

    return loss


def _around(spread: Callable[[float], float], plain: Relaxation, drawn: NoisyRelaxation | None) -> NoisyRelaxation:
    """Noise of that size around what the sampler gives."""
    return lambda progress: perturbed(spread(progress), plain if drawn is None else drawn(progress))


def _named(name: str, title: str, source: str, *parts: str) -> None:
    register_variant(composed(name, *parts, title=title, source=source))


_named("darts", "DARTS, first order", "Liu et al. 2019, arXiv 1806.09055")
_named("darts-2nd", "DARTS, second order", "Liu et al. 2019, equations 7 and 8", "second")
_named("darts-2nd-exact", "DARTS, second order by autograd", "Liu et al. 2019, equation 6", "exact")
_named("pc", "PC-DARTS", "Xu et al. 2020, arXiv 1907.05737", "partial")
_named("fair", "FairDARTS", "Chu et al. 2020, arXiv 1911.12126", "sigmoid", "zero-one")
_named(
    "plus", "DARTS+ with eigenvalue stop", "eigenvalue stop and L2: Zela et al. 2020, 1909.09656; skip: Chu et al. 2021, 2009.01027",
    "extra-skip", "eigenvalue", "l2",
)  # fmt: skip
_named(
    "plus-skips",
    "DARTS+ with skip count",
    "Liang et al. 2019, arXiv 1909.06035, criterion 1",
    "extra-skip",
    "skip-count",
)
_named("progressive", "P-DARTS", "Chen et al. 2019, arXiv 1904.12760", "stages")
_named("beta", "Beta-DARTS", "Ye et al. 2022, arXiv 2203.01665", "beta-decay")
_named("sdarts", "SDARTS-RS", "Chen and Hsieh 2020, arXiv 2002.05283", "noise")
_named("pt", "DARTS-PT", "Wang et al. 2021, arXiv 2108.04392", "removal")
_named("gdas", "GDAS", "Dong and Yang 2019, arXiv 1910.04465", "gumbel")
_named("drnas", "DrNAS", "Chen et al. 2021, arXiv 2006.10355", "dirichlet")
_named("sdarts-adv", "SDARTS-ADV", "Chen and Hsieh 2020, arXiv 2002.05283", "adversary")
_named("oles", "OLES", "Jiang et al. 2023, NeurIPS", "matching")
_named("random-ws", "random search with weight sharing", "Li and Talwalkar 2019, arXiv 1902.07638", "uniform", "shared")
_named("random", "random architectures at equal budget", "Li and Talwalkar 2019; Yu et al. 2020", "random")
_named("evolution", "regularised evolution", "Real et al. 2019, arXiv 1802.01548", "evolution")
_named("local", "local search", "White et al. 2021, arXiv 2005.02960", "local")
_named("tpe", "a tree-structured Parzen estimator", "Bergstra et al. 2011, by optuna", "tpe")
_named("halving", "successive halving", "Jamieson and Talwalkar 2016, arXiv 1502.07943", "halving")
