"""How far two architectures are from each other, discrete and relaxed: for the regime timeline and for asking whether re-search moves."""

from __future__ import annotations

from collections.abc import Sequence

from nas.space.genotype import Genotype


def edit_distance(a: Genotype, b: Genotype) -> int:
    """Number of edges and feature pipelines to remove, add or relabel to turn one architecture into the other.

    An edge is (node, source, op), a pipeline (input, steps); a changed op on the same edge counts once.
    """
    return _changes(_edges(a), _edges(b)) + _changes(dict(a.features), dict(b.features))


def _edges(genotype: Genotype) -> dict[tuple[int, int], tuple[str, ...]]:
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    for node, connections in enumerate(genotype.nodes):
        for connection in connections:
            place = (node, connection.source)
            found[place] = tuple(sorted((*found.get(place, ()), connection.op)))
    return found


def _changes(a: dict, b: dict) -> int:  # type: ignore[type-arg]
    return sum(a.get(key) != b.get(key) for key in {*a, *b})


def total_variation(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """Mean over rows (edges) of half the L1 distance between two tables of relaxed weights; rows are normalised to sum 1. In [0, 1]."""
    if not a or len(a) != len(b):
        return float("nan")
    total = 0.0
    for left, right in zip(a, b, strict=True):
        p, q = sum(left) or 1.0, sum(right) or 1.0
        total += 0.5 * sum(abs(x / p - y / q) for x, y in zip(left, right, strict=True))
    return total / len(a)
