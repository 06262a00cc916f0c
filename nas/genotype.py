"""A discrete architecture: immutable, JSON, and the rule that turns relaxed weights into one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.ops import get_op


@dataclass(frozen=True)
class Connection:
    """An op on an edge into a node; source 0 is the cell input, source k + 1 is node k. weight: its relaxed weight when chosen."""

    op: str
    source: int
    weight: float = 1.0


@dataclass(frozen=True)
class Genotype:
    """nodes: per node its incoming connections (empty = dead, nothing reads it). features: input -> pipeline."""

    nodes: tuple[tuple[Connection, ...], ...]
    channels: int
    cells: int
    horizons: tuple[int, ...]
    features: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        # one order whatever it was read from: the columns of a network's stem follow it, and JSON objects have none
        object.__setattr__(self, "features", tuple(sorted(self.features)))

    @property
    def receptive_field(self) -> int:
        """Bars of features a forecast depends on, its own bar included."""
        reach: list[int] = [0]
        for connections in self.nodes:
            reach.append(max((reach[c.source] + get_op(c.op).receptive_field - 1 for c in connections), default=0))
        return self.cells * max(reach) + 1

    def to_dict(self) -> dict[str, Any]:
        nodes = [[{"op": c.op, "source": c.source, "weight": round(c.weight, 6)} for c in node] for node in self.nodes]
        return {
            "cells": [{"inputs": 1, "nodes": nodes} for _ in range(self.cells)],
            "channels": self.channels,
            "features": dict(self.features),
            "horizons": list(self.horizons),
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Genotype:
        nodes = tuple(
            tuple(Connection(c["op"], c["source"], c["weight"]) for c in node) for node in raw["cells"][0]["nodes"]
        )
        features = tuple((k, v) for k, v in raw["features"].items())
        return Genotype(nodes, raw["channels"], len(raw["cells"]), tuple(raw["horizons"]), features)

    def key(self) -> str:
        """Short name of the architecture: equal choices, equal name; weights do not count."""
        plain = self.to_dict()
        for cell in plain["cells"]:
            for node in cell["nodes"]:
                for connection in node:
                    del connection["weight"]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]

    def __str__(self) -> str:
        def name(source: int) -> str:
            return "input" if source == 0 else f"node{source}"

        lines = [
            f"node{k + 1} = " + " + ".join(f"{c.op}({name(c.source)})" for c in node)
            for k, node in enumerate(self.nodes)
            if node
        ]
        return "; ".join(lines)


def discretise(
    weights: Sequence[npt.NDArray[np.float64]],
    edges: Sequence[tuple[int, int]],
    ops: Sequence[Sequence[str]],
    *,
    nodes: int,
    edges_per_node: int,
    edge_strength: Sequence[float] | None = None,
) -> tuple[tuple[Connection, ...], ...]:
    """DARTS rule (Liu et al. 2019, section 2.4): per edge the strongest op other than zero; per node the strongest edges.

    weights: per edge, the relaxed weight of each op. edge_strength multiplies them where edges compete (PC-DARTS's beta).
    Every node keeps at least one input even where zero dominates (as the original does).
    """
    chosen: list[tuple[Connection, ...]] = []
    for node in range(nodes):
        found = []
        for k, (source, target) in enumerate(edges):
            if target != node:
                continue
            scores = [(-np.inf if name == "zero" else float(w)) for name, w in zip(ops[k], weights[k], strict=True)]
            best = int(np.argmax(scores))
            if scores[best] == -np.inf:
                continue
            factor = 1.0 if edge_strength is None else float(edge_strength[k])
            found.append((scores[best] * factor, source, ops[k][best], scores[best]))
        found.sort(key=lambda item: -item[0])
        kept = sorted(found[:edges_per_node], key=lambda item: item[1])
        chosen.append(tuple(Connection(op, source, weight) for _, source, op, weight in kept))
    return tuple(chosen)
