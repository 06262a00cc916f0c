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
from torch import Tensor

from nas.network.losses import LOSSES
from nas.network.model import Network, network_of
from nas.network.stretches import Tensors
from nas.network.training import Trained, loss_by_block, standard_error, train
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture
from nas.space.discretisation import pruned
from nas.space.genotype import Connection, Genotype
from nas.space.ops import OWN, get_op
from nas.space.search_space import SearchSpace

HEAT = 0.2  # of the finalists' epochs
BETWEEN_STARTS = 1_009  # seeds
Splits = tuple[tuple[slice, ...], tuple[slice, ...]]


@torch.no_grad()
def likeliest(architecture: Architecture, genotype: Genotype, count: int) -> list[Genotype]:
    """`genotype` and the count - 1 neighbours that cost the relaxed weights least, best first; then one per op that learns late
    (attention, gate, module) and is in none of them. Of a count of 1 the genotype alone.

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
    # in a mixture they are worth little before they have learned: each has a trial by itself, where it weighs most
    for name in (name for name in space.ops if count > 1 and get_op(name).kind in OWN):
        if not any(c.op == name for each in unique.values() for node in each.nodes for c in node):
            late = next((g for _, g in found if any(c.op == name for node in g.nodes for c in node)), None)
            if late is not None:
                unique.setdefault(late.key(), late)
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
    """(the winner, every candidate's score): the least validation loss it reached plus the price of its parameters.

    A heat first: every candidate for a fifth of the epochs. Where an op needs sharp weights of its own, it is the start that decides
    whether it finds them, and that shows at once: such a candidate gets `finalist_starts` starting weights, and the training loss tells
    the best, so that more starts are no more looks at validation. The better half of the candidates (and those with links) then trains
    for `finalist_epochs`. Equal seeds and batches for all of them.

    tensors.x: one column per candidate pipeline of the space. The price is `parameter_cost` x loss x log(n) / 2n per
    parameter, n the training bars: half a Bayesian information criterion at a cost of 1, since the residual variance is about twice
    the Huber loss.

    Candidates with links have evidence of their own, found on the training bars. The best of them wins unless its score is worse than the
    best of all by more than one standard error of their difference on the validation bars (the one-standard-error rule, Breiman et al.
    1984, section 3.4.3: what is preferred for other reasons wins as long as the data cannot tell it from the best).
    """
    bars = max(2.0, sum(float(tensors.weight[:, :, part].sum()) for part in splits[0]))
    price = settings.parameter_cost * math.log(bars) / (2.0 * bars)
    linked = [k for k, genotype in enumerate(candidates) if any(c.links for node in genotype.nodes for c in node)]

    def trained(genotype: Genotype, start: int, epochs: int) -> tuple[Trained, Network]:
        network = network_of(genotype, seed + BETWEEN_STARTS * start)
        training = replace(settings.training(epochs), learning_rate=settings.finalist_learning_rate)
        return train(network, tensors.only(space.columns(genotype.features)), *splits, training, seed), network

    def priced(losses: list[float]) -> list[float]:
        least = abs(min(losses))
        return [loss + price * least * parameters(g) for loss, g in zip(losses, candidates, strict=True)]

    heat = max(1, round(HEAT * settings.finalist_epochs))
    starts, losses = [], []
    for genotype in candidates:
        tried = [trained(genotype, k, heat)[0] for k in range(settings.finalist_starts if learns_late(genotype) else 1)]
        starts.append(min(range(len(tried)), key=lambda k, tried=tried: tried[k].train_losses[-1]))  # type: ignore[misc]
        losses.append(min(tried[starts[-1]].validation_losses))
    order = sorted(range(len(candidates)), key=priced(losses).__getitem__)
    parts: dict[int, Tensor] = {}
    for k in sorted({*order[: math.ceil(len(order) / 2)], *linked}):
        genotype = candidates[k]
        outcome, network = trained(genotype, starts[k], settings.finalist_epochs)
        losses[k] = min(losses[k], *outcome.validation_losses)
        if linked:
            part, context = tensors.only(space.columns(genotype.features)), int(network.receptive_field)
            parts[k] = loss_by_block(network, part, splits[1], context, LOSSES[settings.loss])
    scores = priced(losses)
    best = min(parts or range(len(scores)), key=scores.__getitem__)
    if linked:
        shown = min(linked, key=scores.__getitem__)
        if scores[shown] - scores[best] <= standard_error(parts[shown] - parts[best]):
            best = shown
    return candidates[best], scores


def learns_late(genotype: Genotype) -> bool:
    """Whether it has an op with sharp weights of its own to learn: an attention, a gate, a module."""
    return any(get_op(c.op).kind in OWN for node in genotype.nodes for c in node)


def parameters(genotype: Genotype) -> int:
    """Learned numbers of the ops in all cells."""
    return genotype.cells * sum(get_op(c.op).parameters(genotype.channels) for node in genotype.nodes for c in node)
