"""What may be chosen: ops per edge, nodes, cells, candidate pipelines per input. JSON in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data.panel import InputError
from nas.ops import DEFAULT_OPS, get_op


@dataclass(frozen=True)
class SearchSpace:
    """One cell structure, `cells` of them stacked; node k may read the cell input and every earlier node.

    features: input -> candidate pipelines (empty until the market's bank is known). The search may run on a smaller proxy,
    `search_cells` of `search_channels`; the genotype it finds is built with `cells` and `channels`.
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

    def __post_init__(self) -> None:
        if not self.ops:
            raise InputError("the search space has no ops; name at least one besides zero")
        for name in self.ops:
            get_op(name)
        if len(set(self.ops)) != len(self.ops):
            raise InputError(f"ops are named twice: {', '.join(self.ops)}")
        if all(name == "zero" for name in self.ops):
            raise InputError("zero is the only op; no network can be built from it")
        counts = {
            name: getattr(self, name)
            for name in ("nodes", "cells", "channels", "edges_per_node", "search_cells", "search_channels")
        }
        for label, value in counts.items():
            if value is not None and value < 1:
                raise InputError(f"{label} must be at least 1, not {value}")
        if not self.horizons or min(self.horizons) < 1:
            raise InputError(f"horizons must be at least one bar ahead, not {self.horizons}")

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(source, node) of one cell, node by node, inputs first; source 0 is the cell input, source k + 1 is node k."""
        return tuple((source, node) for node in range(self.nodes) for source in range(node + 1))

    @property
    def receptive_field(self) -> int:
        """Bars that a forecast of the deepest possible network depends on, its own bar included."""
        longest = max(get_op(name).receptive_field for name in self.ops)
        return max(self.cells, self.search_cells or 0) * self.nodes * (longest - 1) + 1

    def with_features(self, features: Mapping[str, tuple[str, ...]]) -> SearchSpace:
        values = {**self.__dict__, "features": tuple((k, tuple(v)) for k, v in features.items())}
        return SearchSpace(**values)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> SearchSpace:
        raw: dict[str, Any] = json.loads(text)
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
        )
