"""From relaxed weights to a discrete cell: the rules of DARTS, PC-DARTS, FairDARTS and P-DARTS on plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from data.errors import InputError, known_word
from nas.space.genotype import Connection
from nas.space.ops import SKIPS

Cell = tuple[tuple[Connection, ...], ...]
Weights = Sequence[npt.NDArray[np.float64]]
Method = Literal["strongest", "sparse", "edge"]


@dataclass(frozen=True)
class Rule:
    """How a cell is read off the weights.

    strongest: per edge the strongest op, per node the `edges_per_node` strongest edges (DARTS section 2.4; FairDARTS's `darts`).
    sparse: the same, then only connections of at least `threshold` (FairDARTS's `threshold_sparse`).
    edge: on every edge the `ops_per_edge` strongest ops above `threshold` (FairDARTS's `threshold_edge`).
    none: the op that stands for no connection; it never wins. skip_limit: at most so many of `SKIPS` per cell (P-DARTS).
    """

    method: Method = "strongest"
    threshold: float = 0.0
    ops_per_edge: int = 2
    skip_limit: int | None = None
    none: str = "zero"

    def __post_init__(self) -> None:
        known_word("rule", self.method, get_args(Method))
        if self.ops_per_edge < 1 or (self.skip_limit is not None and self.skip_limit < 0):
            raise InputError(
                f"a rule keeps at least one op per edge and a number of skips from 0, not {self.ops_per_edge} and {self.skip_limit}"
            )


def discretise(
    weights: Weights,
    edges: Sequence[tuple[int, int]],
    ops: Sequence[Sequence[str]],
    *,
    nodes: int,
    edges_per_node: int,
    edge_strength: Sequence[float] | None = None,
    rule: Rule = Rule(),
    inputs: int = 1,
) -> Cell:
    """Relaxed weights (per edge, one per op) -> connections per node in order of their source, ready to build.

    edge_strength multiplies the weights where edges compete (PC-DARTS's beta). inputs: of the cell, its first sources. A node that the
    rule leaves without input keeps its one strongest connection; a node that can have none (only `none` on its edges) stays empty, and
    whatever reads it is cut.
    """
    table = [np.array(w, dtype=np.float64) for w in weights]
    while True:
        cell = []
        for found in ranked(table, edges, ops, nodes, edges_per_node, edge_strength, rule):
            cell.append(tuple(sorted(found, key=lambda c: c.source)))
        cell = list(pruned(cell, inputs))
        skips = sorted((c.weight, node, c.source, c.op) for node, row in enumerate(cell) for c in row if c.op in SKIPS)
        if rule.skip_limit is None or len(skips) <= rule.skip_limit:
            return tuple(cell)
        _, node, source, op = skips[0]  # P-DARTS: the weakest skip goes, its edge competes with its next op
        edge = list(edges).index((source, node))
        if all(name in (op, rule.none) or np.isneginf(w) for name, w in zip(ops[edge], table[edge], strict=True)):
            return tuple(cell)  # nothing else is left to choose on it
        table[edge][ops[edge].index(op)] = -np.inf


def ranked(
    weights: Weights,
    edges: Sequence[tuple[int, int]],
    ops: Sequence[Sequence[str]],
    nodes: int,
    edges_per_node: int,
    edge_strength: Sequence[float] | None = None,
    rule: Rule = Rule(),
    *,
    keep_one: bool = True,
) -> list[list[Connection]]:
    """The connections of every node in the order in which the originals list them: strongest first (edge rule: by edge).

    keep_one: a node that no weight lifts over the threshold keeps its strongest connection (the originals leave it empty).
    """
    result = []
    for node in range(nodes):
        mine = [k for k, (_, target) in enumerate(edges) if target == node]
        best: list[tuple[float, Connection]] = []  # per edge: its strongest op, ranked with the edge's own strength
        every: list[Connection] = []
        for k in mine:
            scores = [-np.inf if name == rule.none else float(w) for name, w in zip(ops[k], weights[k], strict=True)]
            order = np.argsort(scores, kind="stable")
            top = int(np.argmax(scores))
            if scores[top] == -np.inf:
                continue
            factor = 1.0 if edge_strength is None else float(edge_strength[k])
            best.append((scores[top] * factor, Connection(ops[k][top], edges[k][0], scores[top])))
            for place in order[-rule.ops_per_edge :]:
                if scores[place] > rule.threshold:
                    every.append(Connection(ops[k][place], edges[k][0], scores[place]))
        best.sort(key=lambda item: -item[0])
        strongest = [connection for _, connection in best[:edges_per_node]]
        if rule.method == "strongest":
            kept = strongest
        elif rule.method == "sparse":
            kept = [c for c in strongest if c.weight >= rule.threshold]
        else:
            kept = every
        result.append(kept if kept or not keep_one else strongest[:1])
    return result


def pruned(cell: Sequence[Sequence[Connection]], inputs: int = 1) -> Cell:
    """Without connections that read an empty node, however deep that goes. ValueError where nothing is left."""
    alive: list[tuple[Connection, ...]] = []
    for row in cell:
        alive.append(tuple(c for c in row if c.source < inputs or alive[c.source - inputs]))
    if not any(alive):
        raise ValueError("no node of the cell has an input: every edge chose zero; add ops besides zero to the space")
    return tuple(alive)
