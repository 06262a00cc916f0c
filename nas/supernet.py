"""The supernet: every candidate op on every edge and every candidate pipeline of every input, at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.cell import Edge
from nas.genotype import Genotype, discretise
from nas.network import CellNetwork
from nas.relaxation import Choices, Relaxation, softmax
from nas.space import SearchSpace

NONE = "none"  # the choice that drops an input


class Architecture(nn.Module):
    """The relaxed choices: `ops` logits [edges, ops] and `features` logits [inputs, pipelines + none]."""

    def __init__(self, space: SearchSpace, *, generator: torch.Generator, spread: float = 1e-3) -> None:
        super().__init__()
        self.space = space
        self.op_choices = Choices(tuple(space.ops for _ in space.edges))
        self.feature_choices = Choices(tuple((*pipelines, NONE) for _, pipelines in space.features))
        # 1e-3: the originals start alpha at 1e-3 * normal so that ties break without a preference
        self.ops = nn.Parameter(spread * torch.randn(self.op_choices.shape, generator=generator))
        self.features = nn.Parameter(spread * torch.randn(self.feature_choices.shape, generator=generator))
        self.relaxation: Relaxation = softmax
        self.temperature = 1.0

    def op_weights(self) -> Tensor:
        """[edges, ops]."""
        return self.relaxation(self.ops, self.op_choices.mask, self.temperature)

    def feature_weights(self) -> Tensor:
        """[inputs, pipelines + none]."""
        return self.relaxation(self.features, self.feature_choices.mask, self.temperature)

    def mixes(self) -> tuple[Tensor, Tensor]:
        """Weights as the network wants them: per (edge, op) and per bank column."""
        features = self.feature_weights()
        columns = features[self.feature_choices.mask & ~self._none_mask()]
        return self.op_choices.flat(self.op_weights()), columns

    def _none_mask(self) -> Tensor:
        mask = torch.zeros(self.feature_choices.shape, dtype=torch.bool)
        for row, names in enumerate(self.feature_choices.rows):
            mask[row, len(names) - 1] = True
        return mask

    @torch.no_grad()
    def genotype(self) -> Genotype:
        """The discrete architecture these weights stand for; the strongest input stays even where `none` wins everywhere."""
        space = self.space
        weights = self.op_weights().double().numpy()
        nodes = discretise(
            list(weights),
            space.edges,
            [space.ops] * len(space.edges),
            nodes=space.nodes,
            edges_per_node=space.edges_per_node,
        )
        features = self.feature_weights().double().numpy()
        chosen, fallback = [], (-1.0, "", "")
        for row, (name, pipelines) in enumerate(space.features):
            best = int(features[row, : len(pipelines) + 1].argmax())
            strongest = int(features[row, : len(pipelines)].argmax())
            fallback = max(fallback, (float(features[row, strongest]), name, pipelines[strongest]))
            if best < len(pipelines):
                chosen.append((name, pipelines[best]))
        return Genotype(nodes, space.channels, space.cells, space.horizons, tuple(chosen) or (fallback[1:],))


def supernet_of(space: SearchSpace, seed: int) -> CellNetwork:
    """The weights of every candidate, freshly drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CellNetwork(
            [Edge(source, node, space.ops) for source, node in space.edges],
            nodes=space.nodes,
            channels=space.channels,
            cells=space.cells,
            inputs=sum(len(p) for _, p in space.features),
            horizons=len(space.horizons),
            receptive_field=space.receptive_field,
        )
