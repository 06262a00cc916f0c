"""What may be chosen: the graph of a cell, ops per edge, cells, candidate pipelines per input. JSON in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from data.errors import InputError, known_word
from nas.space.genotype import Connection, Genotype
from nas.space.ops import DEFAULT_OPS, get_op

Graph = Literal["dense", "chain"] | tuple[tuple[int, int], ...]
SHARES = ("all", "embedding", "none")


@dataclass(frozen=True)
class SearchSpace:
    """One cell structure, `cells` of them stacked.

    Parameters
    ----------
    ops : tuple of str
        Candidates on every edge, names of `nas.space.ops.OPS`.
    nodes, cells, channels : int
        Nodes of a cell, cells on top of each other, channels of the network.
    edges_per_node : int
        How many inputs of a node are kept.
    horizons : tuple of int
        Bars ahead that are forecast.
    features : tuple of (input, candidate pipelines)
        Empty until the market's bank is known.
    search_cells, search_channels : int, optional
        The search may run on a smaller proxy; the genotype it finds is built with `cells` and `channels`, or with the best of `sizes`.
    sizes : tuple of (cells, channels)
        Tried by validation (`nas.tasks.work`).
    cell_inputs : int
        1, the cell before; or 2, the cell before that and the cell before, as in the original (the features stand in for cells before the
        first).
    graph : str or tuple of (source, node)
        Which edges there are to choose from: `dense` (node k may read the cell's inputs and every earlier node), `chain` (the node before
        it, the first one the inputs), or the edges themselves; sources below `cell_inputs` are inputs, source cell_inputs + k is node k.
        Every node is an output of the cell.
    assets : tuple of str
        The assets searched together (empty: one at a time).
    share : str
        `all` weights, `embedding` (all, beside a learned vector per asset) or `none` (one architecture, every asset with weights of its
        own; `passes` says what that costs).

    Raises
    ------
    InputError
        For unknown ops, counts below 1, edges that make no graph, and ops across assets where there is one.

    Examples
    --------
    >>> from nas import SearchSpace
    >>> space = SearchSpace(ops=("zero", "conv3", "ema12"), nodes=2)
    >>> space.edges
    ((0, 0), (0, 1), (1, 1))
    >>> space.receptive_field  # bars: two nodes of an EMA over 36
    71
    >>> fork = SearchSpace(ops=("conv3", "ema12"), nodes=3, graph=((0, 0), (0, 1), (1, 2), (2, 2)))
    >>> fork.sources(2), fork.receptive_field  # the third node joins the two before it
    ([1, 2], 71)
    """

    ops: tuple[str, ...] = DEFAULT_OPS
    nodes: int = 2
    cells: int = 1
    channels: int = 16
    edges_per_node: int = 2
    horizons: tuple[int, ...] = (1,)
    features: tuple[tuple[str, tuple[str, ...]], ...] = ()
    search_cells: int | None = None
    search_channels: int | None = None
    assets: tuple[str, ...] = ()
    share: str = "all"
    cell_inputs: int = 1
    sizes: tuple[tuple[int, int], ...] = ()
    graph: Graph = "dense"

    def __post_init__(self) -> None:
        if not self.ops:
            raise InputError("the search space has no ops; name at least one besides zero")
        for name in self.ops:
            get_op(name)
        if len(set(self.ops)) != len(self.ops):
            raise InputError(f"ops are named twice: {', '.join(self.ops)}")
        if all(name == "zero" for name in self.ops):
            raise InputError("zero is the only op; no network can be built from it")
        if self.share not in SHARES:
            raise InputError(f"no share {self.share!r}; there are {', '.join(SHARES)}")
        alone = [name for name in self.ops if get_op(name).across]
        if alone and len(self.assets) < 2:
            raise InputError(
                f"op {alone[0]} reads other assets, and there is one; leave it out or give several symbols"
            )
        if self.share != "all" and len(self.assets) < 2:
            raise InputError(f"share {self.share} says what several assets share, and there is one; leave it out")
        counts = {
            name: getattr(self, name)
            for name in ("nodes", "cells", "channels", "edges_per_node", "search_cells", "search_channels")
        }
        for label, value in counts.items():
            if value is not None and value < 1:
                raise InputError(f"{label} must be at least 1, not {value}")
        if self.cell_inputs not in (1, 2):
            raise InputError(f"a cell has 1 input or 2, not {self.cell_inputs}; give cell_inputs = 1 or 2")
        for size in self.sizes:
            if len(size) != 2 or min(size) < 1:
                raise InputError(f"a size is cells and channels, both at least 1, not {size}; give e.g. (2, 32)")
        if not self.horizons or min(self.horizons) < 1:
            raise InputError(f"horizons must be at least one bar ahead, not {self.horizons}")
        self._check_graph()

    def _check_graph(self) -> None:
        """InputError for what is no graph of these nodes, read from the first one on."""
        if isinstance(self.graph, str):
            known_word("graph", self.graph, ("dense", "chain"))
            return
        first, wanted = (
            self.cell_inputs,
            "give pairs such as (0, 0), from the cell's input to node 0, and (1, 1), from node 0 to node 1",
        )
        for edge in self.graph:
            if len(edge) != 2 or any(type(end) is not int or end < 0 for end in edge):
                raise InputError(f"{edge} is no edge; {wanted}")
            source, node = edge
            if node >= self.nodes:
                raise InputError(
                    f"edge {edge} leads to node {node}, and the nodes are 0 to {self.nodes - 1}; give more nodes"
                )
            if source >= first + node:
                read = f"node {source - first}"
                raise InputError(
                    f"edge {edge}: node {node} cannot read {read}, which does not come before it (sources: inputs first)"
                )
        if len(set(self.graph)) != len(self.graph):
            raise InputError(
                "an edge of the graph is named twice; between two ends there is one, with all ops to choose from"
            )
        alone = [node for node in range(self.nodes) if not self.sources(node)]
        if alone:
            raise InputError(f"no edge of the graph leads to node {alone[0]}; {wanted}")

    @property
    def together(self) -> bool:
        """Whether networks of this space read all assets at once."""
        return self.share != "all" or any(get_op(name).across for name in self.ops)

    @property
    def passes(self) -> int:
        """Assets computed for one forecast of each: as many as there are, or their square where each has a network that reads them all."""
        count = max(1, len(self.assets))
        reads = any(get_op(name).across for name in self.ops)
        return count * count if self.share == "none" and reads else count

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(source, node) of one cell, node by node, inputs first; source cell_inputs + k is node k."""
        if not isinstance(self.graph, str):
            return tuple(sorted(self.graph, key=lambda edge: (edge[1], edge[0])))
        first = self.cell_inputs
        begin = [first + node - 1 if self.graph == "chain" and node else 0 for node in range(self.nodes)]
        return tuple((source, node) for node in range(self.nodes) for source in range(begin[node], first + node))

    def sources(self, node: int) -> list[int]:
        """What a node may read, inputs first."""
        return [source for source, target in self.edges if target == node]

    @property
    def deepest(self) -> int:
        """Cells of the deepest network that may be built."""
        return max((cells for cells, _ in self.sizes), default=self.cells)

    @property
    def receptive_field(self) -> int:
        """Bars that a forecast of the deepest possible network of `cells` depends on, its own bar included.

        It is what stretches are purged by: of `sizes`, only those whose network looks back no further are built.
        """
        longest = max(get_op(name).receptive_field for name in self.ops)
        deep = [0] * self.cell_inputs  # nodes on the longest way to a source
        for node in range(self.nodes):
            deep.append(1 + max(deep[source] for source in self.sources(node)))
        return max(self.cells, self.search_cells or 0) * max(deep) * (longest - 1) + 1

    def genotype(self, nodes: tuple[tuple[Connection, ...], ...], features: tuple[tuple[str, str], ...]) -> Genotype:
        """A discrete architecture of this space: connections per node, and the chosen pipelines."""
        return Genotype(nodes, self.channels, self.cells, self.horizons, features, inputs=self.cell_inputs)

    def columns(self, features: Sequence[tuple[str, str]]) -> list[int]:
        """Places of these pipelines among all candidates, input by input: columns of a bank or of its tensors."""
        every = self.pipelines
        return [every.index(item) for item in features]

    @property
    def pipelines(self) -> list[tuple[str, str]]:
        """Every candidate (input, pipeline), input by input: the columns of a bank."""
        return [(name, pipeline) for name, pipelines in self.features for pipeline in pipelines]

    def with_features(self, features: Mapping[str, tuple[str, ...]]) -> SearchSpace:
        """The same space with these candidate pipelines per input."""
        return replace(self, features=tuple((k, tuple(v)) for k, v in features.items()))

    def to_json(self) -> str:
        """All fields, keys in order: equal spaces give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> SearchSpace:
        """What `to_json` wrote; KeyError where a field is missing that every version had."""
        raw: dict[str, Any] = json.loads(text)
        given: Any = raw.get("graph", "dense")
        return SearchSpace(
            ops=tuple(raw["ops"]),
            nodes=raw["nodes"],
            cells=raw["cells"],
            channels=raw["channels"],
            edges_per_node=raw["edges_per_node"],
            horizons=tuple(raw["horizons"]),
            features=tuple((k, tuple(v)) for k, v in raw["features"]),
            search_cells=raw.get("search_cells"),
            search_channels=raw.get("search_channels"),
            assets=tuple(raw.get("assets", ())),
            share=raw.get("share", "all"),
            cell_inputs=raw.get("cell_inputs", 1),
            sizes=tuple(tuple(size) for size in raw.get("sizes", ())),
            graph=tuple(map(tuple, given)) if isinstance(given, list) else given,
        )
