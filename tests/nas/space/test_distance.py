from __future__ import annotations

import pytest

from nas.space.distance import edit_distance, total_variation
from nas.space.genotype import Connection, Genotype


def genotype(*nodes: tuple[Connection, ...], features: tuple[tuple[str, str], ...] = (("return", "raw"),)) -> Genotype:
    return Genotype(nodes, 4, 1, (1,), features)


def test_edit_distance_counts_changed_edges_and_pipelines() -> None:
    a = genotype((Connection("ema4", 0),), (Connection("conv3", 0), Connection("identity", 1)))
    assert edit_distance(a, a) == 0
    assert edit_distance(a, genotype((Connection("ema12", 0),), a.nodes[1])) == 1
    assert edit_distance(a, genotype(a.nodes[0], (Connection("conv3", 0),))) == 1
    assert edit_distance(a, genotype(*a.nodes, features=(("return", "ewm32"), ("volume", "raw")))) == 2
    reweighted = genotype((Connection("ema4", 0, 0.2),), a.nodes[1])
    assert edit_distance(a, reweighted) == 0


def test_total_variation_lies_between_equal_and_disjoint() -> None:
    assert total_variation([[0.5, 0.5]], [[0.5, 0.5]]) == 0
    assert total_variation([[1.0, 0.0]], [[0.0, 1.0]]) == 1
    assert total_variation([[0.8, 0.4], [1.0, 0.0]], [[0.4, 0.8], [1.0, 0.0]]) == pytest.approx(1 / 6)
