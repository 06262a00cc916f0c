"""How decided a search is: a decision is a claim, and this is where it is tested.

An edge claims that its first op forecasts better than its second. Both are tried on the validation bars, the edge cut down to either of
them and everything else as the search left it, and the difference of their losses is counted in standard errors over stretches of those
bars (`margin`). The search as a whole claims that there is something to forecast: that the supernet beats a constant (`forecast`, counted
alike). Without that there is nothing that ops could differ in but how little they disturb, so nothing was decided.

Bars are not the only chance: nodes are alike before a search begins, and which of them takes which op hangs on the starting weights. So a
claim is tested on several searches where there are several (`merged`: the repeats of a search, the seeds of a window): all must name the
same op, and their mean margin counts. One search alone must clear a higher bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nas.network.lookback import LOOKBACK_OPS
from nas.network.training import loss_by_block, standard_error
from nas.space.ops import get_op

if TYPE_CHECKING:
    from nas.search.run import SearchRun
    from nas.space.genotype import Genotype

# Standard errors, measured by `python -m lab decisions` on planted signals and noise. The validation bars have chosen alpha and the
# inputs: on noise a supernet beats a constant by 2.2 of them in the median and by 3.3 in one search of ten.
DECIDED = 2.0
DECIDED_ALONE = 4.0
FORECASTS = 3.0


@dataclass(frozen=True)
class Claim:
    """On one edge: its first op, the runner-up, the standard errors by which the first is better on validation, and whether the network
    has the edge. agree: share of the searches that were asked which name this op."""

    source: int
    node: int
    first: str
    second: str
    margin: float
    kept: bool = True
    agree: float = 1.0


@dataclass(frozen=True)
class Decisions:
    """What searches claim. forecast: standard errors by which the supernet beats a constant on validation; claims: one per edge;
    searches: how many were asked."""

    forecast: float
    claims: tuple[Claim, ...]
    searches: int = 1

    @property
    def needed(self) -> float:
        """Standard errors that a claim has to show."""
        return DECIDED if self.searches > 1 else DECIDED_ALONE

    @property
    def decided(self) -> tuple[Claim, ...]:
        """The claims that stand; none where there is nothing to forecast."""
        if self.forecast < FORECASTS:
            return ()
        return tuple(claim for claim in self.claims if claim.margin >= self.needed and claim.agree == 1.0)

    @property
    def text(self) -> str:
        """One sentence for console and page."""
        who = "the search" if self.searches == 1 else f"{self.searches} searches together"
        if not self.claims:
            return "No edge had more than one op to choose from."
        if self.forecast < FORECASTS:
            return (
                f"Nothing was decided: {who} beat a constant forecast on validation by {self.forecast:+.1f} standard errors, and "
                f"{FORECASTS:g} are asked for."
            )
        if not self.decided:
            same = [claim.margin for claim in self.claims if claim.agree == 1.0]
            best = f"the best margin is {max(same):+.1f}" if same else "the searches name the same op on no edge"
            return f"Nothing was decided: on no edge was one op shown by {who} to beat the next by {self.needed:g} standard errors; {best}."
        told = ", ".join(claim.first for claim in self.decided)
        kept = sum(claim.kept for claim in self.decided)
        return f"Decided on {len(self.decided)} of {len(self.claims)} edges by {who}: {told}; {kept} of them are in the network."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "forecast": round(self.forecast, 3),
            "searches": self.searches,
            "claims": [
                asdict(claim) | {"margin": round(claim.margin, 3), "decided": claim in self.decided}
                for claim in self.claims
            ],
            "text": self.text,
        }

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Decisions:
        """What `to_dict` made."""
        claims = tuple(Claim(**{k: v for k, v in claim.items() if k != "decided"}) for claim in raw["claims"])
        return Decisions(raw["forecast"], claims, raw["searches"])


def merged(found: Sequence[Decisions]) -> Decisions:
    """What several searches of the same stretch claim together: the ops of the first, and how far the others bear them out.

    margin: the mean over the searches, 0 for one that names another op (their bars are the same, so there is no more evidence than in
    one of them).
    """
    if len(found) == 1:
        return found[0]
    others = [{(c.source, c.node): c for c in each.claims} for each in found]
    claims = []
    for claim in found[0].claims:
        mine = [each.get((claim.source, claim.node)) for each in others]
        same = [c for c in mine if c is not None and c.first == claim.first]
        margin = sum(c.margin for c in same) / len(found)
        claims.append(replace(claim, margin=margin, agree=len(same) / len(found)))
    forecast = sum(each.forecast for each in found) / len(found)
    return Decisions(forecast, tuple(claims), sum(each.searches for each in found))


def simpler(first: str, second: str) -> str:
    """Of two ops the one of fewer parameters, then of the shorter memory; the first of equals."""

    def cost(name: str) -> tuple[int, int]:
        if name in LOOKBACK_OPS:  # maps of the whole lookback: counted at four days and a day of hours
            return LOOKBACK_OPS[name].parameters(96, 24, 96), 0
        op = get_op(name)
        return op.parameters(16), op.receptive_field

    return min((first, second), key=cost)


def resolved(genotype: Genotype, decisions: Decisions, skip_limit: int | None = None) -> Genotype:
    """The genotype whose undecided edges hold the simpler of their two ops, as long as the limit on skips allows."""
    stand, nodes = decisions.decided, [list(row) for row in genotype.nodes]
    for claim in decisions.claims:
        if claim in stand or not claim.kept:
            continue
        row = nodes[claim.node]
        at = next(k for k, c in enumerate(row) if c.source == claim.source)
        before, row[at] = row[at], replace(row[at], op=simpler(claim.first, claim.second))
        found = replace(genotype, nodes=tuple(map(tuple, nodes)))
        if skip_limit is not None and found.skips > max(skip_limit, genotype.skips):
            row[at] = before
    return replace(genotype, nodes=tuple(map(tuple, nodes)))


@torch.no_grad()
def decisions_of(run: SearchRun, genotype: Genotype) -> Decisions:
    """The claims behind a genotype that was read off the relaxed weights of `run`."""
    architecture, space = run.architecture, run.space
    ops, features = architecture.op_weights(), architecture.feature_weights()
    kept: dict[tuple[int, int], list[str]] = {}
    for node, row in enumerate(genotype.nodes):
        for c in row:
            kept.setdefault((c.source, node), []).append(c.op)
    claims = []
    for edge, place in enumerate(space.edges):
        names = [
            k for k, name in enumerate(space.ops) if name != "zero" and bool(architecture.op_choices.mask[edge, k])
        ]
        order = sorted(names, key=lambda k, e=edge: -float(ops[e, k]))  # type: ignore[misc]
        there = kept.get(place, [])
        if len(order) < 2 or len(there) > 1:  # several ops of one edge stay: there is no runner-up
            continue
        first = space.ops.index(there[0]) if there else order[0]
        second = next(k for k in order if k != first)

        def alone(op: int, edge: int = edge) -> Tensor:
            table = ops.clone()
            table[edge] = 0.0
            table[edge, op] = 1.0
            return run.losses(architecture.assemble(table, features))

        margin = in_errors(alone(second) - alone(first))
        claims.append(Claim(*place, space.ops[first], space.ops[second], margin, bool(there)))
    return Decisions(forecast_of(run, architecture.assemble(ops, features)), tuple(claims))


def forecast_of(run: SearchRun, mix: Any) -> float:
    """Standard errors by which the supernet with this mix beats, on validation, the mean label of the training bars."""
    return in_errors(constant_losses(run) - run.losses(mix))


def constant_losses(run: SearchRun) -> Tensor:
    """[block]: the loss of the best that can be said without looking at anything."""
    tensors = run.tensors
    weight = torch.cat([tensors.weight[:, :, part] for part in run.train_bars], -1)
    label = torch.cat([tensors.y[:, :, part] for part in run.train_bars], -1)
    mean = (label * weight).sum((0, 2)) / weight.sum().clamp_min(1.0)
    if run.settings.loss == "classes":  # whose outputs are logarithms of chances
        mean = mean.clamp_min(1e-6).log()

    def forward(x: Tensor) -> Tensor:
        count = tensors.y.shape[0]
        return mean[None, :, None].expand(count, -1, x.shape[-1])

    return loss_by_block(forward, tensors, run.validation_bars, 0, run.loss_function)


def in_errors(differences: Tensor) -> float:
    """Mean of independent differences in its standard errors; 0 where they do not differ. differences: [block]."""
    mean, error = float(differences.mean()), standard_error(differences)
    return 0.0 if mean == 0.0 else mean / error if error > 0.0 else float("inf") * (1 if mean > 0 else -1)
