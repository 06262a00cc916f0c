"""How decided a search is: a decision is a claim, and this is where it is tested.

An edge claims that its first op forecasts better than its second. Both are tried on the validation bars, the edge cut down to either of
them and everything else as the search left it, and the difference of their losses is counted in standard errors over stretches of those
bars (`margin`). The search as a whole claims that there is something to forecast: that the supernet beats a constant (`forecast`, counted
alike). Without that there is nothing that ops could differ in but how little they disturb, so nothing was decided.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nas.network.training import loss_by_block, standard_error
from nas.space.ops import get_op

if TYPE_CHECKING:
    from nas.search.run import SearchRun
    from nas.space.genotype import Genotype

# Standard errors. The validation bars have chosen alpha, and a search makes a handful of claims: two would be passed too often by chance
# (python -m lab decisions: planted signals and noise).
DECIDED = 3.0
FORECASTS = 3.0


@dataclass(frozen=True)
class Claim:
    """On one edge: its first op, the runner-up, and the standard errors by which the first is better on validation."""

    source: int
    node: int
    first: str
    second: str
    margin: float

    @property
    def decided(self) -> bool:
        return self.margin >= DECIDED


@dataclass(frozen=True)
class Decisions:
    """What a search claims. forecast: standard errors by which its supernet beats a constant on validation; claims: of the kept edges."""

    forecast: float
    claims: tuple[Claim, ...]

    @property
    def decided(self) -> tuple[Claim, ...]:
        """The claims that stand; none where there is nothing to forecast."""
        return tuple(claim for claim in self.claims if claim.decided) if self.forecast >= FORECASTS else ()

    @property
    def text(self) -> str:
        """One sentence for console and page."""
        if not self.claims:
            return "no op was left to choose"
        if self.forecast < FORECASTS:
            return (
                f"nothing was decided: the supernet beats a constant forecast by {self.forecast:+.1f} standard errors, "
                f"{FORECASTS:g} are asked for"
            )
        if not self.decided:
            best = max(claim.margin for claim in self.claims)
            return f"nothing was decided: no op beats the next best on its edge by {DECIDED:g} standard errors (best {best:+.1f})"
        return f"decided on {len(self.decided)} of {len(self.claims)} edges"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "forecast": round(self.forecast, 3),
            "claims": [
                asdict(claim) | {"margin": round(claim.margin, 3), "decided": claim in self.decided}
                for claim in self.claims
            ],
            "text": self.text,
        }


def simpler(first: str, second: str) -> str:
    """Of two ops the one of fewer parameters, then of the shorter memory; the first of equals."""
    return min((first, second), key=lambda name: (get_op(name).parameters(16), get_op(name).receptive_field))


def resolved(genotype: Genotype, decisions: Decisions, skip_limit: int | None = None) -> Genotype:
    """The genotype whose undecided edges hold the simpler of their two ops, as long as the limit on skips allows."""
    stand, nodes = decisions.decided, [list(row) for row in genotype.nodes]
    for claim in decisions.claims:
        if claim in stand:
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
    place = {edge: k for k, edge in enumerate(space.edges)}
    claims = []
    for node, row in enumerate(genotype.nodes):
        for c in row:
            if sum(other.source == c.source for other in row) > 1:
                continue  # several ops of one edge stay: there is no runner-up
            edge = place[c.source, node]
            first = space.ops.index(c.op)
            others = [
                k
                for k, name in enumerate(space.ops)
                if k != first and name != "zero" and bool(architecture.op_choices.mask[edge, k])
            ]
            if not others:
                continue
            second = max(others, key=lambda k, e=edge: float(ops[e, k]))  # type: ignore[misc]

            def alone(op: int, edge: int = edge) -> Tensor:
                table = ops.clone()
                table[edge] = 0.0
                table[edge, op] = 1.0
                return run.losses(architecture.assemble(table, features))

            margin = in_errors(alone(second) - alone(first))
            claims.append(Claim(c.source, node, c.op, space.ops[second], margin))
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

    def forward(x: Tensor) -> Tensor:
        count = tensors.y.shape[0]
        return mean[None, :, None].expand(count, -1, x.shape[-1])

    return loss_by_block(forward, tensors, run.validation_bars, 0, run.loss_function)


def in_errors(differences: Tensor) -> float:
    """Mean of independent differences in its standard errors; 0 where they do not differ. differences: [block]."""
    mean, error = float(differences.mean()), standard_error(differences)
    return 0.0 if mean == 0.0 else mean / error if error > 0.0 else float("inf") * (1 if mean > 0 else -1)
