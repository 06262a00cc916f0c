"""What search variants are made of. A part says one thing about the search; a variant is a set of parts, at most one of most kinds.

A pair that would be nonsense is refused with its reason (`REFUSED`); every other pair runs (`tests/nas/search/test_parts.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.search.diagnostics import EigenvalueStop
from nas.search.matching import GradientStop
from nas.search.penalties import beta_decay, latency, parameters, zero_one
from nas.search.relaxation import Temperature, dirichlet, reinmax, sampled, sigmoid, uniform_path
from nas.search.rivals import RIVALS

#: kind -> what the kind says; of the last three a variant may have several
KINDS = {
    "order": "of the gradient by alpha",
    "sampler": "how logits become weights",
    "channels": "how many of them go through the ops",
    "perturbation": "of the weights in the steps of the network's weights",
    "stages": "parts of a search",
    "selection": "how the cell is read off",
    "finish": "what follows",
    "penalty": "beside the loss",
    "auxiliary": "what helps the network's weights",
    "stop": "when alpha or an op has learned enough",
}
SEVERAL = ("penalty", "auxiliary", "stop")


@dataclass(frozen=True)
class Stage:
    """Part of a search: depth as a share of the evaluation network's cells, share of ops still in the race, dropout of skips."""

    depth: float | None = None  # None: the depth of the search network
    ops: float = 1.0
    skip_dropout: float = 0.0


@dataclass(frozen=True, eq=False)
class Part:
    """One choice. changes: fields of `nas.search.variants.Variant`; `rule` and `spread` are themselves changes, of the rule for reading
    the cell off and of the noise around the weights (progress -> its size)."""

    name: str
    kind: str
    what: str
    source: str
    changes: Mapping[str, Any] = field(default_factory=dict)


def _growing(progress: float) -> float:
    """Of a perturbation: 0.03 to 0.3 over the search, as in SDARTS."""
    return 0.03 + 0.27 * progress


#: name -> part, kind by kind
PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("first", "order", "the present weights' (the default)", "DARTS, 1806.09055"),
        Part(
            "second", "order",
            "through one step of AdamW as it will be taken (clip, decay, both moments), by central differences",
            "the same, equations 7 and 8", {"order": 2},
        ),
        Part("exact", "order", "the same by autograd", "the same, equation 6", {"order": 2, "mode": "exact"}),
        Part("softmax", "sampler", "softmax, all ops at once (the default)", "DARTS, 1806.09055"),
        Part(
            "sigmoid", "sampler", "each op by itself, no `zero`; connections of at least 0.85",
            "FairDARTS, 1911.12126", {"relaxation": sigmoid, "without_zero": True, "rule": {"method": "sparse", "threshold": 0.85}},
        ),
        Part(
            "gumbel", "sampler", "one drawn op per edge and step, straight through, temperature 10 to 0.1", "GDAS, 1910.04465",
            {
                "weight_relaxation": lambda _: sampled, "alpha_relaxation": lambda _: sampled,
                "temperature": Temperature(10.0, 0.1, "linear"),
            },
        ),
        Part(
            "dirichlet", "sampler", "all ops at once, weights drawn in every step, concentration elu(alpha) + 1", "DrNAS, 2006.10355",
            {"weight_relaxation": lambda _: dirichlet, "alpha_relaxation": lambda _: dirichlet},
        ),
        Part(
            "reinmax", "sampler", "one drawn op per edge and step, its gradient to second order, temperature 1", "ReinMax, 2304.08612",
            {"weight_relaxation": lambda _: reinmax, "alpha_relaxation": lambda _: reinmax, "temperature": Temperature()},
        ),
        Part(
            "uniform", "sampler", "no alpha: one op per edge and step, all equally likely", "Li and Talwalkar 2019, 1902.07638",
            {"order": 0, "weight_relaxation": lambda _: uniform_path},
        ),
        Part(
            "partial", "channels",
            "a quarter of the channels goes through the ops, the rest passes by and is shuffled; edges of a node compete (softmax beta, "
            "strengths alpha x beta); alpha rests for 30% of the epochs",
            "PC-DARTS, 1907.05737", {"partial": 4, "normalised": True, "warmup": 0.3},  # 15 of its 50 epochs
        ),
        Part("noise", "perturbation", "uniform noise, 0.03 growing to 0.3", "SDARTS-RS, 2002.05283", {"spread": _growing}),
        Part(
            "adversary", "perturbation",
            "to where the training loss is largest within 0.03 growing to 0.3, seven signed steps (a step costs nine)",
            "SDARTS-ADV, 2002.05283", {"attack": _growing},
        ),
        Part(
            "stages", "stages",
            "three of 5/20, 11/20, 17/20 of the cells with all, 5/8, 3/8 of the ops per edge, dropout of the elements that skips pass on "
            "0, 0.4, 0.7 (each falling; in the steps of weights and of alpha), at most two skips; the cells are those of the deepest size",
            "P-DARTS, 1904.12760",
            # its networks of 5, 11 and 17 cells on the way to 20; 8, 5 and 3 ops; skip dropout 0, 0.4, 0.7
            {"stages": (Stage(5 / 20), Stage(11 / 20, 5 / 8, 0.4), Stage(17 / 20, 3 / 8, 0.7)), "rule": {"skip_limit": 2}},
        ),
        Part("weights", "selection", "strongest op per edge, strongest edges per node (the default)", "DARTS, 1806.09055"),
        Part(
            "removal", "selection",
            "by how much the validation loss suffers when op or edge is removed, one more epoch after each edge",
            "DARTS-PT, 2108.04392", {"selection": "removal"},
        ),
        Part(
            "shared", "selection", "best of 32 random architectures under the supernet's weights", "Li and Talwalkar 2019",
            {"selection": "shared"},
        ),
        Part(
            "random", "selection",
            "control: about sqrt(2E) random architectures trained from scratch with the 2E epochs of gradient steps that a search of E "
            "epochs takes, best by validation", "Li and Talwalkar 2019; Yu et al. 2020", {"order": 0, "selection": "random"},
        ),
        *(
            Part(name, "selection", f"the same budget, {what}", source, {"order": 0, "selection": name})
            for name, what, source in (
                ("evolution", "bred: the best of a sample has a child with one change, the oldest dies", "Real et al. 2019, 1802.01548"),
                ("local", "climbed: on to the first better neighbour, anew where none is", "White et al. 2021, 2005.02960"),
                ("tpe", "proposed by a tree-structured Parzen estimator (needs optuna)", "Bergstra et al. 2011"),
                ("halving", "many for a ninth of a training, the best for a third, their best to the end", "Jamieson and Talwalkar 2016"),
            )
        ),
        Part(
            "last-round", "finish", "three finalists each trained by itself ([the last round](#the-last-round))", "own",
            {"finalists": 3},
        ),
        Part(
            "zero-one", "penalty", "pushes every choice to yes or no, growing; no decay of alpha", "FairDARTS, 1911.12126",
            {"regulariser": zero_one(3.0), "alpha_decay": 0.0},
        ),
        Part("beta-decay", "penalty", "on log sum exp alpha, growing linearly", "Beta-DARTS, 2203.01665", {"regulariser": beta_decay(5.0)}),
        Part(
            "l2", "penalty", "nine times the decay of the network's *weights* (not of alpha)", "R-DARTS, Zela et al. 2020, 1909.09656",
            {"weight_decay": 9.0},
        ),
        Part(
            "parameters", "penalty", "on the parameters that the mix expects to have", "after ProxylessNAS, 1812.00332",
            {"regulariser": parameters(1.0)},
        ),
        Part(
            "latency", "penalty",
            "on the time that the mix expects to take: counted operations and bytes at nominal rates, or a table of one's own (`op_costs`)",
            "ProxylessNAS, 1812.00332; FBNet, 1812.03443", {"regulariser": latency(1.0)},
        ),
        Part(
            "extra-skip", "auxiliary", "a skip besides on every edge, weight 1 falling to 0", "DARTS-, Chu et al. 2021, 2009.01027",
            {"auxiliary": 1.0},
        ),
        Part(
            "align", "auxiliary",
            "weights are pushed to where all cells want the same ops, 0 growing to 0.125; needs two cells; a step costs three",
            "Lambda-DARTS, 2210.07998", {"alignment": 0.125},
        ),
        Part(
            "eigenvalue", "stop",
            "on the dominant eigenvalue of the alpha Hessian of the validation loss (average over 5 readings, ratio 1.3, lengths scaled to "
            "the search); back to the epoch before", "RobustDARTS, Zela et al. 2020, 1909.09656", {"eigenvalue_stop": EigenvalueStop()},
        ),
        Part(
            "matching", "stop",
            "of single ops: weights stand still once their gradients on training and validation part (mean cosine over 20 steps below 0.4)",
            "OLES, Jiang et al. 2023", {"gradient_stop": GradientStop()},
        ),
        Part("skip-count", "stop", "before the cell holds two skips", "DARTS+, Liang et al. 2019, 1909.06035", {"skip_stop": 2}),
    )
}  # fmt: skip

_ONE = "draws one op a step: around one op there is no neighbourhood of mixes to be smooth in"
_NO_ALPHA = "uniform learns no alpha"
#: (a part or a kind, a part or a kind) -> why the two make no search
REFUSED: dict[tuple[str, str], str] = {
    ("uniform", "second"): f"{_NO_ALPHA}, whose gradient would have an order",
    ("uniform", "exact"): f"{_NO_ALPHA}, whose gradient would have an order",
    ("uniform", "zero-one"): f"{_NO_ALPHA} that a penalty could push",
    ("uniform", "beta-decay"): f"{_NO_ALPHA} that a penalty could push",
    ("uniform", "parameters"): f"{_NO_ALPHA} that a penalty could push",
    ("uniform", "latency"): f"{_NO_ALPHA} that a penalty could push",
    ("uniform", "stop"): f"{_NO_ALPHA}, and stops watch what alpha does",
    ("uniform", "stages"): f"{_NO_ALPHA} by which stages could drop ops",
    ("uniform", "weights"): f"{_NO_ALPHA} to read a cell off; add shared or removal",
    ("uniform", "perturbation"): f"uniform {_ONE}",
    ("uniform", "align"): f"{_NO_ALPHA} about which cells could agree",
    ("gumbel", "perturbation"): f"gumbel {_ONE}",
    ("reinmax", "perturbation"): f"reinmax {_ONE}",
    ("sigmoid", "beta-decay"): "beta-decay holds back the winner of a softmax, and under sigmoid no op competes",
    ("zero-one", "beta-decay"): "zero-one pushes weights apart and beta-decay together: they undo each other",
    ("stages", "shared"): "shared draws cells of all ops, of which stages drop most",
}


def refusal(a: Part, b: Part) -> str | None:
    """Why two different parts make no search together; None where they do."""
    if a.kind == b.kind and a.kind not in SEVERAL:
        return f"both say {KINDS[a.kind]}; name one"
    for part in (a, b):
        if part.changes.get("selection") in RIVALS:
            return f"{part.name} trains cells from scratch: there is no supernet that anything else could change"
    for one, other in ((a, b), (b, a)):
        for key in ((one.name, other.name), (one.name, other.kind)):
            if key in REFUSED:
                return REFUSED[key]
    return None
