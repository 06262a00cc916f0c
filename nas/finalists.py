"""The last round of a search: its few likeliest architectures, each trained by itself for a few epochs, the best by validation.

Relaxed weights tell which ops serve a *mixture* well. An op that needs sharp weights of its own (attention, a gate) is worth little in
the mixture before it has learned, and the simple ops that are right from the first step keep its place (the discretisation gap;
Wang et al. 2021, arXiv 2108.04392, measure it). Training the likeliest few apart costs little, since a discrete network is many
times cheaper than the supernet, and asks the question that matters: which of them forecasts better.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from nas.discretisation import pruned
from nas.genotype import Connection, Genotype
from nas.network import network_of
from nas.ops import get_op
from nas.space import SearchSpace
from nas.stretches import Tensors
from nas.supernet import Architecture
from nas.training import train

if TYPE_CHECKING:
    from nas.search_settings import SearchSettings

Splits = tuple[tuple[slice, ...], tuple[slice, ...]]


@torch.no_grad()
def likeliest(architecture: Architecture, genotype: Genotype, count: int) -> list[Genotype]:
    """`genotype` and the count - 1 neighbours that cost the relaxed weights least, best first.

    A neighbour differs in one connection: another op on the same edge, or another edge of the same node with its strongest op. What it
    costs is the ratio of the two relaxed weights (times the strengths of their edges, where those compete).
    """
    space, limit = architecture.space, architecture.rule.skip_limit
    weights, strength = architecture.op_weights().double(), architecture.edge_weights()
    if strength is not None:
        weights = weights * strength.double()[:, None]
    runs = architecture.op_choices.mask.clone()
    runs[:, [k for k, name in enumerate(space.ops) if name == "zero"]] = False
    weights = weights.masked_fill(~runs, float("-inf"))
    place = {edge: k for k, edge in enumerate(space.edges)}
    found: list[tuple[float, Genotype]] = []
    for node, row in enumerate(genotype.nodes):
        taken = {c.source for c in row}
        for position, c in enumerate(row):
            here = place[c.source, node]
            mine = float(weights[here, space.ops.index(c.op)])
            others = [(here, k) for k in range(len(space.ops)) if space.ops[k] != c.op]
            free = (place[s, node] for s in range(node + 1) if s not in taken and (s, node) in place)
            others += [(edge, int(weights[edge].argmax())) for edge in free]
            for edge, op in others:
                weight = float(weights[edge, op])
                if weight <= 0.0:
                    continue
                changed = (
                    *row[:position],
                    Connection(space.ops[op], space.edges[edge][0], weight),
                    *row[position + 1 :],
                )
                nodes = list(genotype.nodes)
                nodes[node] = tuple(sorted(changed, key=lambda x: x.source))
                found.append((weight / max(mine, 1e-12), replace(genotype, nodes=pruned(nodes))))
    found.sort(key=lambda item: -item[0])
    unique = {genotype.key(): genotype}
    for _, neighbour in found:
        if len(unique) < count and (limit is None or neighbour.skips <= limit):
            unique.setdefault(neighbour.key(), neighbour)
    return list(unique.values())


def nominated(genotype: Genotype) -> list[Genotype]:
    """`genotype` with a lead-lag op on one of its edges from the cell input instead, one per such edge.

    For searches whose data show a leader beyond chance. Among sixteen ops the mixture leaves each a sixteenth, too little for an op that
    serves one asset of several to stand out; the evidence earns it a trial by itself, and validation decides.
    """
    found = []
    for node, row in enumerate(genotype.nodes):
        for position, c in enumerate(row):
            if c.source == 0 and c.op != "lead_lag":
                changed = replace(c, op="lead_lag", links=())
                nodes = list(genotype.nodes)
                nodes[node] = (*row[:position], changed, *row[position + 1 :])
                found.append(replace(genotype, nodes=tuple(nodes)))
    return found


def final(
    candidates: list[Genotype],
    space: SearchSpace,
    tensors: Tensors,
    splits: Splits,
    settings: SearchSettings,
    seed: int,
) -> tuple[Genotype, list[float]]:
    """(the winner, every candidate's score): validation loss after `finalist_epochs` plus the price of its parameters.

    tensors.x: one column per candidate pipeline of the space. The price is `parameter_cost` x loss x log(n) / 2n per
    parameter, n the training bars: half a Bayesian information criterion at a cost of 1, since the residual variance is about twice
    the Huber loss. Equal seeds and batches for all of them.
    """
    bars = max(2.0, sum(float(tensors.weight[:, :, part].sum()) for part in splits[0]))
    training = settings.training(settings.finalist_epochs)
    losses = []
    for genotype in candidates:
        part = tensors.only(space.columns(genotype.features))
        outcome = train(network_of(genotype, seed), part, *splits, training, seed)
        losses.append(outcome.validation_losses[outcome.best_epoch])
    price = settings.parameter_cost * abs(min(losses)) * math.log(bars) / (2.0 * bars)
    scores = [loss + price * parameters(genotype) for loss, genotype in zip(losses, candidates, strict=True)]
    return candidates[scores.index(min(scores))], scores


def parameters(genotype: Genotype) -> int:
    """Learned numbers of the ops in all cells."""
    return genotype.cells * sum(get_op(c.op).parameters(genotype.channels) for node in genotype.nodes for c in node)
