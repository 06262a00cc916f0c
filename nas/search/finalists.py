"""The last round of a search: its few likeliest architectures, each trained by itself for a few epochs, the best by validation.

Relaxed weights tell which ops serve a *mixture* well. An op that needs sharp weights of its own (attention, a gate) is worth little in
the mixture before it has learned, and the simple ops that are right from the first step keep its place (the discretisation gap;
Wang et al. 2021, arXiv 2108.04392, measure it). Training the likeliest few apart costs little, since a discrete network is many
times cheaper than the supernet, and asks the question that matters: which of them forecasts better.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from nas.network.losses import LOSSES
from nas.network.model import network_of
from nas.network.stretches import Tensors
from nas.network.training import loss_by_block, standard_error, train
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture
from nas.space.discretisation import pruned
from nas.space.genotype import Connection, Genotype
from nas.space.ops import get_op
from nas.space.search_space import SearchSpace

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
            sources = range(space.cell_inputs + node)
            free = (place[s, node] for s in sources if s not in taken and (s, node) in place)
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
                found.append((weight / max(mine, 1e-12), replace(genotype, nodes=pruned(nodes, genotype.inputs))))
    found.sort(key=lambda item: -item[0])
    unique = {genotype.key(): genotype}
    for _, neighbour in found:
        if len(unique) < count and (limit is None or neighbour.skips <= limit):
            unique.setdefault(neighbour.key(), neighbour)
    return list(unique.values())


def nominated(genotype: Genotype) -> list[Genotype]:
    """`genotype` with a lead-lag op from the last cell into one of its nodes as well, one per node that has any connection.

    For searches whose data show a leader beyond chance. Among sixteen ops the mixture leaves each a sixteenth, too little for an op that
    serves one asset of several to stand out; the evidence earns it a trial by itself. The op comes beside what is there, so that the
    trial asks for what it adds and for nothing else.
    """
    found = []
    for node, row in enumerate(genotype.nodes):
        last = genotype.inputs - 1
        if row and not any(c.op == "lead_lag" and c.source == last for c in row):
            nodes = list(genotype.nodes)
            nodes[node] = tuple(sorted((Connection("lead_lag", last), *row), key=lambda c: c.source))
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

    Candidates with links have evidence of their own, found on the training bars. The best of them wins unless its score is worse than the
    best of all by more than one standard error of their difference on the validation bars (the one-standard-error rule, Breiman et al.
    1984, section 3.4.3: what is preferred for other reasons wins as long as the data cannot tell it from the best).
    """
    bars = max(2.0, sum(float(tensors.weight[:, :, part].sum()) for part in splits[0]))
    training = settings.training(settings.finalist_epochs)
    linked = [k for k, genotype in enumerate(candidates) if any(c.links for node in genotype.nodes for c in node)]
    losses, parts = [], []
    for genotype in candidates:
        part = tensors.only(space.columns(genotype.features))
        network = network_of(genotype, seed)
        outcome = train(network, part, *splits, training, seed)
        losses.append(outcome.validation_losses[outcome.best_epoch])
        if linked:
            context = int(network.receptive_field)
            parts.append(loss_by_block(network, part, splits[1], context, LOSSES[settings.loss]))
    price = settings.parameter_cost * abs(min(losses)) * math.log(bars) / (2.0 * bars)
    scores = [loss + price * parameters(genotype) for loss, genotype in zip(losses, candidates, strict=True)]
    best = scores.index(min(scores))
    if linked:
        shown = min(linked, key=scores.__getitem__)
        if scores[shown] - scores[best] <= standard_error(parts[shown] - parts[best]):
            best = shown
    return candidates[best], scores


def parameters(genotype: Genotype) -> int:
    """Learned numbers of the ops in all cells."""
    return genotype.cells * sum(get_op(c.op).parameters(genotype.channels) for node in genotype.nodes for c in node)
