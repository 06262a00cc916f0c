"""Searches that train cells from scratch (`--variant random`, `evolution`, `local`, `tpe`, `halving`): `nas.search.rivals` at real cost.

A search of E epochs passes over the data twice per epoch, once for the weights and once for alpha: 2E epochs of single networks are
spent. Each is cheaper than a supernet pass, which favours the search's budget, not this one's: the count of gradient steps is held equal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Generator

from nas.network.links import leaders_of, together
from nas.network.model import network_of
from nas.network.stretches import Tensors
from nas.network.training import train
from nas.search.checkpoint import Checkpoint
from nas.search.result import SearchResult, Trial
from nas.search.rivals import FEWER, RIVALS, Field, Spent, Suggest, round_cost, spend
from nas.search.selection import random_genotype
from nas.search.settings import SearchSettings
from nas.search.supernet import NONE
from nas.search.variants import Variant
from nas.space.genotype import Connection, Genotype
from nas.space.search_space import SearchSpace

DRAWS = 50  # for each different cell that is wanted of a small space


class Trainings(Field[Genotype]):
    """The cells of a space, each answer a training from scratch. As evenly as possible on breadth and length: sqrt(2E) whole trainings.

    told: losses of an earlier run of the same search that was killed, in order: they are not trained again.
    """

    def __init__(
        self,
        space: SearchSpace,
        tensors: Tensors,
        splits: tuple[tuple[slice, ...], tuple[slice, ...]],
        settings: SearchSettings,
        seed: int,
        told: Sequence[float],
        on_loss: Callable[[Trainings], None],
    ) -> None:
        self.space, self.tensors, self.splits, self.settings, self.seed = space, tensors, splits, settings, seed
        passes = max(2, round(2 * settings.epochs * settings.fraction * settings.repeats))
        self.trainings = max(2, round(math.sqrt(passes)))
        self.rungs = _rungs(max(1, passes // self.trainings), self.trainings)
        self.budget, self.spent = self.trainings * self.rungs[-1], 0
        self.rng, self.generator = np.random.default_rng(seed), Generator().manual_seed(seed)
        self.size = _size(space)
        self.leaders = leaders_of(space, tensors, splits[0])
        self.told, self.on_loss = list(told), on_loss
        self.trials: list[Trial] = []
        self.starts: dict[Genotype, int] = {}

    def loss(self, cell: Genotype, epochs: int | None = None, before: int = 0) -> float:
        """A longer training starts anew from the same weights, and costs all of its epochs."""
        epochs = epochs or self.rungs[-1]
        if self.spent + epochs > self.budget:
            raise Spent
        done = len(self.trials)
        start = self.starts[cell] = self.starts[cell] if before else done
        found = self.told[done] if done < len(self.told) else self.trained(cell, start, epochs)
        self.spent += epochs
        self.trials.append(Trial(cell, epochs, found))
        self.on_loss(self)
        return found

    def trained(self, cell: Genotype, start: int, epochs: int) -> float:
        """The least validation loss of a training. start: which starting weights."""
        genotype = together(cell, self.space, self.leaders)
        network, part = (
            network_of(genotype, self.seed + start),
            self.tensors.only(self.space.columns(genotype.features)),
        )
        outcome = train(network, part, *self.splits, self.settings.training(epochs), self.seed + start)
        return outcome.validation_losses[outcome.best_epoch]

    def drawn(self) -> Genotype:
        return random_genotype(self.space, self.generator)

    def several(self, count: int) -> list[Genotype]:
        found = dict[Genotype, None]()
        for _ in range(DRAWS * count):
            found[self.drawn()] = None
            if len(found) == min(count, self.size):
                break
        return list(found)

    def neighbours(self, cell: Genotype) -> list[Genotype]:
        """Another op on an edge, another edge into a node, another pipeline of an input, an input less or more."""
        space, found = self.space, list[Genotype]()
        ops = [name for name in space.ops if name != "zero"]
        for node, row in enumerate(cell.nodes):
            taken = {c.source for c in row}
            for k, c in enumerate(row):
                others = [Connection(op, c.source) for op in ops if op != c.op]
                others += [Connection(c.op, source) for source in space.sources(node) if source not in taken]
                for other in others:
                    changed = tuple(sorted((*row[:k], other, *row[k + 1 :]), key=lambda each: each.source))
                    found.append(space.genotype((*cell.nodes[:node], changed, *cell.nodes[node + 1 :]), cell.features))
        chosen = dict(cell.features)
        for name, pipelines in space.features:
            for pipeline in (*pipelines, None):
                features = {k: v for k, v in chosen.items() if k != name} | ({name: pipeline} if pipeline else {})
                if features and features != chosen:
                    found.append(space.genotype(cell.nodes, tuple(features.items())))
        return found

    def suggested(self, suggest: Suggest) -> Genotype | None:
        """Per node which of its sources stay, an op for each; per input a pipeline or none."""
        space, nodes = self.space, []
        ops = [name for name in space.ops if name != "zero"]
        for node in range(space.nodes):
            sources = space.sources(node)
            kept = min(space.edges_per_node, len(sources))
            sets = [" ".join(map(str, each)) for each in itertools.combinations(sources, kept)]
            stay = str(suggest(f"node{node}", sets)).split()
            nodes.append(tuple(Connection(str(suggest(f"op{node}.{source}", ops)), int(source)) for source in stay))
        chosen = {name: str(suggest(name, (*pipelines, NONE))) for name, pipelines in space.features}
        features = tuple((name, pipeline) for name, pipeline in chosen.items() if pipeline != NONE)
        return space.genotype(tuple(nodes), features) if features else None


def _rungs(whole: int, trainings: int) -> tuple[int, ...]:
    """Epochs after which halving judges: a ninth, a third and all of a training, as far as the budget pays for one round."""
    rungs = sorted({max(1, round(whole / FEWER**k)) for k in range(3)})
    while len(rungs) > 1 and round_cost(rungs) > whole * trainings:
        del rungs[0]
    return tuple(rungs)


def _size(space: SearchSpace) -> int:
    """Different cells."""
    count, ops = 1, sum(name != "zero" for name in space.ops)
    for node in range(space.nodes):
        kept = min(space.edges_per_node, len(space.sources(node)))
        count *= math.comb(len(space.sources(node)), kept) * ops**kept
    return count * (math.prod(len(pipelines) + 1 for _, pipelines in space.features) - 1)


def from_scratch(
    space: SearchSpace,
    tensors: Tensors,
    splits: tuple[tuple[slice, ...], tuple[slice, ...]],
    settings: SearchSettings,
    seed: int,
    variant: Variant,
    on_epoch: Callable[[int], None],
    held: Checkpoint | None = None,
) -> SearchResult:
    """What a rival finds by training cells, the best by validation. held: where it goes on from, written after every training."""
    before = None if held is None else held.read()

    def on_loss(field: Trainings) -> None:
        if held is not None:
            held.write(losses=[trial.loss for trial in field.trials])
        on_epoch(field.spent * settings.epochs // field.budget - 1)

    field = Trainings(space, tensors, splits, settings, seed, before["losses"] if before else (), on_loss)
    spend(RIVALS[variant.selection], field)
    whole = field.rungs[-1]
    best = min((trial for trial in field.trials if trial.epochs == whole), key=lambda trial: trial.loss)
    genotype = together(best.genotype, space, field.leaders)
    chosen = {(c.source, node): c.op for node, row in enumerate(genotype.nodes) for c in row}
    pipelines = dict(genotype.features)
    if held is not None:
        held.done()
    return SearchResult(
        genotype,
        (),
        tuple(tuple(float(chosen.get(edge) == op) for op in space.ops) for edge in space.edges),
        tuple(
            tuple(float(pipelines.get(name, NONE) == p) for p in (*candidates, NONE))
            for name, candidates in space.features
        ),
        space,
        variant.name,
        _told(variant, field),
        trials=tuple(field.trials),
    )


def _told(variant: Variant, field: Trainings) -> str:
    """How the cell was found, in a line."""
    count, whole = len(field.trials), field.rungs[-1]
    if variant.selection == "random":
        return f"the best of {count} random architectures, each trained for {whole} epochs"
    if variant.selection == "halving":
        begun = sum(trial.epochs == field.rungs[0] for trial in field.trials)
        return f"the best of {begun} architectures by {variant.title} after {', '.join(map(str, field.rungs))} epochs"
    return f"the best of {count} architectures by {variant.title}, each trained for {whole} epochs"
