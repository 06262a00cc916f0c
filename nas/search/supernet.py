"""The supernet: every candidate op on every edge and every candidate pipeline of every input, at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from nas.network.cell import Edge
from nas.network.lookback import LookbackNetwork, LookbackSpace, lookback_supernet
from nas.network.model import CellNetwork, Network, shared
from nas.search.relaxation import Choices, Relaxation, edge_softmax, sigmoid, softmax
from nas.space.discretisation import Rule, discretise
from nas.space.genotype import Connection, Genotype
from nas.space.ops import get_op
from nas.space.search_space import SearchSpace

NONE = "none"  # the choice that drops an input


class Mix(NamedTuple):
    """What a supernet is called with after x. ops: per (edge, kept op); columns: per bank column; bypass: per edge (partial channels)."""

    ops: Tensor
    columns: Tensor
    bypass: Tensor | None = None


class Architecture(nn.Module):
    """The relaxed choices: logits `ops` [edges, ops], `features` [inputs, pipelines + none] and `strength` [edges].

    kept: [edges][ops], which ops are still in the race (P-DARTS); auxiliary: every edge also carries a skip whose weight
    `auxiliary_weight` is set from outside (DARTS-); normalised: `strength` weighs the edges of a node (PC-DARTS).
    random_init: logits start as a real preference (standard normal) instead of equal up to 1e-3.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        generator: Generator,
        relaxation: Relaxation = softmax,
        rule: Rule = Rule(),
        kept: Sequence[Sequence[bool]] | None = None,
        normalised: bool = False,
        auxiliary: bool = False,
        random_init: bool = False,
    ) -> None:
        super().__init__()
        self.space = space
        self.relaxation = relaxation
        self.rule = rule
        self.op_choices = Choices([space.ops] * len(space.edges), kept)
        self.feature_choices = Choices([(*pipelines, NONE) for _, pipelines in space.features])
        # 1e-3: the originals start alpha at 1e-3 * normal so that ties break without a preference
        spread = 1.0 if random_init else 1e-3
        self.ops = nn.Parameter(spread * torch.randn(self.op_choices.shape, generator=generator))
        self.features = nn.Parameter(spread * torch.randn(self.feature_choices.shape, generator=generator))
        self.strength = nn.Parameter(spread * torch.randn(len(space.edges), generator=generator))
        self.temperature = 1.0
        self.op_costs: Mapping[str, float] = {}  # of a penalty on latency, as measured
        self.normalised = normalised
        self.auxiliary_weight = 0.0
        self.auxiliary = auxiliary
        self.targets = torch.tensor([node for _, node in space.edges])
        names = self.feature_choices.rows
        self.is_pipeline = self.feature_choices.mask & torch.tensor(
            [[k < len(row) - 1 for k in range(self.feature_choices.shape[1])] for row in names]
        ).view(self.feature_choices.shape)
        # places of what is chosen from, in the flattened tables: picking by index costs a tenth of picking by mask
        mask = self.op_choices.mask
        if auxiliary:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], -1)
        self.width = mask.shape[1]
        self.entries = mask.view(-1).nonzero()[:, 0]
        self.columns = self.is_pipeline.view(-1).nonzero()[:, 0]

    @torch.no_grad()
    def start_from(self, op_weights: Sequence[Sequence[float]], feature_weights: Sequence[Sequence[float]]) -> None:
        """Begin at the relaxed weights of an earlier search of the same space, half-way back to indifference.

        Half-way (logits halved): a saturated softmax has no gradient left to change its mind with.
        """
        for logits, weights in ((self.ops, op_weights), (self.features, feature_weights)):
            given = torch.tensor([list(row) for row in weights], dtype=logits.dtype)
            if given.shape != logits.shape:
                raise ValueError(
                    f"start weights have shape {tuple(given.shape)}, this space needs {tuple(logits.shape)}"
                )
            given = given.clamp(1e-4, 1.0 - 1e-4)
            start = (
                torch.logit(given) if self.relaxation is sigmoid else given.log() - given.log().mean(-1, keepdim=True)
            )
            logits.copy_(0.5 * start)

    def op_weights(self, draw: Generator | None = None, relaxation: Relaxation | None = None) -> Tensor:
        """[edges, ops]; an op out of the race weighs 0."""
        return (relaxation or self.relaxation)(self.ops, self.op_choices.mask, self.temperature, draw)

    def feature_weights(self, draw: Generator | None = None, relaxation: Relaxation | None = None) -> Tensor:
        """[inputs, pipelines + none]."""
        return (relaxation or self.relaxation)(self.features, self.feature_choices.mask, self.temperature, draw)

    def column_weights(self) -> Tensor:
        """Per bank column."""
        return self.feature_weights().view(-1)[self.columns]

    def edge_weights(self) -> Tensor | None:
        """[edges], None where edges of a node do not compete."""
        return edge_softmax(self.strength, self.targets, self.space.nodes) if self.normalised else None

    def mix(
        self,
        draw: Generator | None = None,
        relaxation: Relaxation | None = None,
    ) -> Mix:
        """Weights as the network wants them."""
        return self.assemble(self.op_weights(draw, relaxation), self.feature_weights(draw, relaxation))

    def assemble(self, ops: Tensor, features: Tensor) -> Mix:
        """ops: [edges, ops]; features: [inputs, pipelines + none] -> what the network is called with."""
        strength = self.edge_weights()
        if strength is not None:
            ops = ops * strength[:, None]
        if self.auxiliary:
            ops = torch.cat([ops, ops.new_full((len(ops), 1), self.auxiliary_weight)], -1)
        return Mix(ops.reshape(-1)[self.entries], features.reshape(-1)[self.columns], strength)

    @torch.no_grad()
    def chosen_mix(self, genotype: Genotype) -> Mix:
        """The supernet's weights cut down to `genotype`: its ops and pipelines weigh 1, everything else 0."""
        place = {edge: k for k, edge in enumerate(self.space.edges)}
        ops = torch.zeros(self.op_choices.shape)
        for node, connections in enumerate(genotype.nodes):
            for c in connections:
                ops[place[c.source, node], self.space.ops.index(c.op)] = 1.0
        features, chosen = torch.zeros(self.feature_choices.shape), dict(genotype.features)
        for row, (name, pipelines) in enumerate(self.space.features):
            if name in chosen:
                features[row, pipelines.index(chosen[name])] = 1.0
        was, self.auxiliary_weight = self.auxiliary_weight, 0.0
        mix = self.assemble(ops, features)
        self.auxiliary_weight = was
        return mix

    @torch.no_grad()
    def genotype(self) -> Genotype:
        """The discrete architecture these weights stand for; the strongest input stays even where `none` wins everywhere."""
        space, strength = self.space, self.edge_weights()
        weights = self.op_weights().double().numpy()
        mask = self.op_choices.mask.numpy()
        # an op out of the race weighs exactly 0 under every relaxation; so that it loses to a kept op of weight 0 as well:
        rows = [[(name if kept else "zero") for name, kept in zip(space.ops, row, strict=True)] for row in mask]
        nodes = discretise(
            list(weights),
            space.edges,
            rows,
            nodes=space.nodes,
            edges_per_node=space.edges_per_node,
            edge_strength=None if strength is None else strength.tolist(),
            rule=self.rule,
            inputs=space.cell_inputs,
        )
        return self.discrete(nodes)

    @torch.no_grad()
    def discrete(self, nodes: tuple[tuple[Connection, ...], ...]) -> Genotype:
        """A genotype of these nodes with the pipelines that weigh most."""
        space = self.space
        features = self.feature_weights().double().numpy()
        chosen, fallback = [], (-1.0, "", "")
        for row, (name, pipelines) in enumerate(space.features):
            best = int(features[row, : len(pipelines) + 1].argmax())
            strongest = int(features[row, : len(pipelines)].argmax())
            fallback = max(fallback, (float(features[row, strongest]), name, pipelines[strongest]))
            if best < len(pipelines):
                chosen.append((name, pipelines[best]))
        return space.genotype(nodes, tuple(chosen) or (fallback[1:],))


def supernet_of(
    space: SearchSpace,
    seed: int,
    *,
    kept: Sequence[Sequence[bool]] | None = None,
    partial: int = 1,
    auxiliary: bool = False,
    cells: int | None = None,
) -> Network | LookbackNetwork:
    """The weights of every candidate, freshly drawn. It is the search's proxy: `space.search_cells` of `space.search_channels`."""
    if isinstance(space, LookbackSpace):
        return lookback_supernet(space, seed, kept, partial, auxiliary)
    edges = []
    for k, (source, node) in enumerate(space.edges):
        ops = tuple(name for i, name in enumerate(space.ops) if kept is None or kept[k][i])
        edges.append(Edge(source, node, (*ops, "identity") if auxiliary else ops))

    def make() -> CellNetwork:
        return CellNetwork(
            edges,
            nodes=space.nodes,
            channels=space.search_channels or space.channels,
            cells=cells or space.search_cells or space.cells,
            inputs=sum(len(p) for _, p in space.features),
            horizons=len(space.horizons),
            receptive_field=space.receptive_field,
            partial=partial,
            assets=len(space.assets) if space.share == "embedding" else 0,
            cell_inputs=space.cell_inputs,
        )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        across = any(get_op(op).across for edge in edges for op in edge.ops)
        return shared(make, space.share, len(space.assets), across)
