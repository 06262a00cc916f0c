"""What may be chosen: ops per edge, nodes, cells, candidate pipelines per input. JSON in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nas.ops import DEFAULT_OPS, get_op


@dataclass(frozen=True)
class SearchSpace:
    """One cell structure, `cells` of them stacked; node k may read the cell input and every earlier node.

    features: input -> candidate pipelines (empty until the market's bank is known).
    """

    ops: tuple[str, ...] = DEFAULT_OPS
    nodes: int = 2
    cells: int = 1
    channels: int = 16
    edges_per_node: int = 2
    horizons: tuple[int, ...] = (1,)
    features: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        if not self.ops:
            raise ValueError("the search space has no ops; name at least one besides zero")
        for name in self.ops:
            get_op(name)
        if len(set(self.ops)) != len(self.ops):
            raise ValueError(f"ops are named twice: {', '.join(self.ops)}")
        if all(name == "zero" for name in self.ops):
            raise ValueError("zero is the only op; no network can be built from it")
        for label, value in (("nodes", self.nodes), ("cells", self.cells), ("channels", self.channels)):
            if value < 1:
                raise ValueError(f"{label} must be at least 1, not {value}")
        if not self.horizons or min(self.horizons) < 1:
            raise ValueError(f"horizons must be at least one bar ahead, not {self.horizons}")

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(source, node) of one cell, node by node, inputs first; source 0 is the cell input, source k + 1 is node k."""
        return tuple((source, node) for node in range(self.nodes) for source in range(node + 1))

    @property
    def receptive_field(self) -> int:
        """Bars that a forecast of the deepest possible network depends on, its own bar included."""
        longest = max(get_op(name).receptive_field for name in self.ops)
        return self.cells * self.nodes * (longest - 1) + 1

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
        )
