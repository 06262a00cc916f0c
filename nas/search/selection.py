"""How a genotype is chosen where the weights of a supernet do not say it: by removal, by shared weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Generator, Tensor

from nas.search.decisions import Claim, Decisions, forecast_of, in_errors, simpler
from nas.search.run import SearchRun
from nas.space.genotype import Connection, Genotype
from nas.space.search_space import SearchSpace

SHARED_CANDIDATES = 32


def select_by_removal(run: SearchRun) -> tuple[Genotype, Decisions]:
    """DARTS-PT (Wang et al. 2021): an op is worth what the validation loss loses when it is taken out of the supernet.

    Edge by edge in random order: the op whose removal hurts most stays, alone; the weights get one more epoch. Then per node the
    edges whose removal hurts most stay. Then, input by input, the pipeline whose removal hurts most, or none where that does not hurt.
    The claim of an edge is that its op hurts more than the runner-up (`nas.search.decisions`); where that is not decided and the settings
    say so, the simpler of the two stays.
    """
    architecture, space = run.architecture, run.space
    with torch.no_grad():
        ops, features = architecture.op_weights().clone(), architecture.feature_weights().clone()
    choices = architecture.op_choices.mask

    forecast = forecast_of(run, architecture.assemble(ops, features))

    def losses(o: Tensor, f: Tensor) -> Tensor:
        return run.losses(architecture.assemble(o, f))

    def loss(o: Tensor, f: Tensor) -> float:
        return float(losses(o, f).mean())

    chosen: dict[int, int] = {}
    claims: dict[int, Claim] = {}
    for edge in torch.randperm(len(space.edges), generator=run.draw).tolist():
        names = [k for k, name in enumerate(space.ops) if name != "zero" and bool(choices[edge, k])]
        if not names:
            continue
        # removal renormalises nothing, as in the original: what is missing is the op's own contribution
        found = {k: losses(without(ops, edge, k), features) for k in names}
        first, *others = sorted(names, key=lambda k, found=found: -float(found[k].mean()))  # type: ignore[misc]
        chosen[edge] = first
        if others:
            margin = in_errors(found[first] - found[others[0]])
            source, node = space.edges[edge]
            claims[edge] = Claim(source, node, space.ops[first], space.ops[others[0]], margin)
            alone = Decisions(forecast, (claims[edge],))
            if run.settings.undecided == "simpler" and not alone.decided:
                chosen[edge] = space.ops.index(simpler(space.ops[first], space.ops[others[0]]))
        ops[edge] = 0.0
        ops[edge, chosen[edge]] = 1.0
        for batch in run.batches(run.train_bars):
            tune(run, architecture.assemble(ops, features), batch)
    strength = {edge: loss(without(ops, edge, op), features) for edge, op in chosen.items()}
    base = loss(ops, features)
    nodes = []
    for node in range(space.nodes):
        entering = sorted((e for e in chosen if space.edges[e][1] == node), key=lambda e: -strength[e])
        mine = sorted(entering[: space.edges_per_node], key=lambda e: space.edges[e][0])
        nodes.append(tuple(Connection(space.ops[chosen[e]], space.edges[e][0], strength[e] - base) for e in mine))
    kept = {(c.source, node) for node, row in enumerate(nodes) for c in row}
    stand = tuple(replace(claims[edge], kept=space.edges[edge] in kept) for edge in sorted(claims))
    picked = inputs_by_removal(space, features, lambda changed: loss(ops, changed) - base)
    return space.genotype(tuple(nodes), picked), Decisions(forecast, stand)


def without(table: Tensor, row: int, column: int) -> Tensor:
    """A copy of the table in which one choice weighs nothing."""
    changed = table.clone()
    changed[row, column] = 0.0
    return changed


def inputs_by_removal(
    space: SearchSpace, features: Tensor, cost: Callable[[Tensor], float]
) -> tuple[tuple[str, str], ...]:
    """Of every input the pipeline whose removal hurts most, where it hurts; the one of most use where none does.

    cost: weights of the pipelines -> what they add to the validation loss.
    """
    hurts = []
    for row, (name, pipelines) in enumerate(space.features):
        most, best = max((cost(without(features, row, k)), -k) for k in range(len(pipelines)))
        hurts.append((most, name, pipelines[-best]))
    picked = tuple((name, pipeline) for most, name, pipeline in hurts if most > 0.0)
    return picked or (max(hurts)[1:],)


def tune(run: SearchRun, mix: object, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    """One weight step under a given mix."""
    run.descend(run.loss(mix, batch))  # type: ignore[arg-type]


def random_genotype(space: SearchSpace, generator: Generator) -> Genotype:
    """Every node: `edges_per_node` of its sources, ops other than zero; every input: a pipeline or none. All equally likely."""

    def pick(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    ops = [name for name in space.ops if name != "zero"]
    nodes = []
    for node in range(space.nodes):
        sources = space.sources(node)
        drawn = torch.randperm(len(sources), generator=generator)[: space.edges_per_node].tolist()
        nodes.append(tuple(Connection(ops[pick(len(ops))], sources[k]) for k in sorted(drawn)))
    features = []
    for name, pipelines in space.features:
        k = pick(len(pipelines) + 1)
        if k < len(pipelines):
            features.append((name, pipelines[k]))
    if not features:
        name, pipelines = space.features[pick(len(space.features))]
        features.append((name, pipelines[pick(len(pipelines))]))
    return space.genotype(tuple(nodes), tuple(features))


def select_shared(run: SearchRun) -> Genotype:
    """The best of random architectures by validation loss with the supernet's shared weights (Li and Talwalkar 2019)."""
    candidates: dict[str, Genotype] = {}
    for _ in range(SHARED_CANDIDATES):
        genotype = random_genotype(run.space, run.draw)
        candidates.setdefault(genotype.key(), genotype)
    return min(candidates.values(), key=lambda g: run.validation(run.architecture.chosen_mix(g))[0])
