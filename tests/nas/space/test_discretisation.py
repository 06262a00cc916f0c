"""Genotypes and stops against the originals' recorded outputs, and the rules for nodes without input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.search.diagnostics import EigenvalueStop
from nas.space.discretisation import Rule, discretise, pruned, ranked
from nas.space.genotype import Connection

EDGES = [
    (source, node) for node in range(4) for source in range(node + 2)
]  # the originals' cell: two inputs, four nodes


def softmax(values: Any) -> np.ndarray:
    e = np.exp(np.array(values) - np.max(values, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def listed(weights: Any, ops: list[str], rule: Rule, strength: list[float] | None = None) -> list[list[Connection]]:
    return ranked(list(weights), EDGES, [ops] * 14, 4, 2, strength, rule, keep_one=False)


def read(shared: Path, name: str) -> Any:
    return json.loads((shared / "golden" / name).read_text())


def test_darts_genotypes_match_the_original(shared: Path) -> None:
    cases = read(shared, "quark0.json")
    assert len(cases) == 40
    for case in cases:
        for alpha, wanted in zip(case["alphas"], (case["normal"], case["reduce"]), strict=True):
            found = listed(softmax(alpha), case["primitives"], Rule(none="none"))
            assert [[c.op, c.source] for node in found for c in node] == wanted


def test_pc_darts_genotypes_match_the_original(shared: Path) -> None:
    cases = read(shared, "pcdarts.json")
    assert len(cases) == 40
    for case in cases:
        for alpha, beta, wanted in zip(
            case["alphas"][:2], case["alphas"][2:], (case["normal"], case["reduce"]), strict=True
        ):
            strength: list[float] = []
            for node in range(4):
                strength += softmax(beta[len(strength) : len(strength) + node + 2]).tolist()
            found = listed(softmax(alpha), case["primitives"], Rule(none="none"), strength)
            assert [[c.op, c.source] for node in found for c in node] == wanted


@pytest.mark.parametrize("threshold", [0.5, 0.85])
@pytest.mark.parametrize(
    ("method", "original"), [("strongest", "darts"), ("sparse", "threshold_sparse"), ("edge", "threshold_edge")]
)
def test_fair_darts_genotypes_match_the_original(shared: Path, method: Any, original: str, threshold: float) -> None:
    cases = read(shared, "fairdarts.json")
    assert len(cases) == 40
    for case in cases:
        weights = 1 / (1 + np.exp(-np.array(case["alpha"])))
        found = listed(weights, case["primitives"], Rule(method, threshold, none="none"))
        wanted = case["genotype"][f"{original}@{threshold}"]
        if original == "darts":
            assert [[c.op, c.source] for node in found for c in node] == wanted
        else:
            assert [[c.op, k + 2, c.source] for k, node in enumerate(found) for c in node] == wanted


def test_eigenvalue_rule_stops_where_robust_darts_did(shared: Path) -> None:
    for case in read(shared, "early_stop.json").values():
        rule, series = EigenvalueStop(), case["ev"]
        assert np.allclose(rule.smoothed(series), case["la"], rtol=1e-12)
        epochs = [2 * k for k in range(len(series))]  # its logs measured every second epoch
        stops = [(epochs[n - 1], rule.roll_back_to(epochs[:n], series[:n])) for n in range(1, len(series) + 1)]
        first = next(stop for stop in stops if stop[1] is not None)
        assert list(first) == case["stop"][:2]


@pytest.mark.parametrize("step", [2.0, 1.0, 0.5, 0.25])
@pytest.mark.parametrize("length", [50, 150, 12])
def test_eigenvalue_rule_stops_there_at_any_rate_and_length(shared: Path, step: float, length: int) -> None:
    """The published series, read off every `step` of the paper's epochs and stretched to a search of another length."""
    stretch = length / 50
    for case in read(shared, "early_stop.json").values():
        series, stop, back = case["ev"], *case["stop"][:2]
        published = 2.0 * np.arange(len(series))
        epochs = np.arange(0.0, published[-1] + step / 2, step)
        values, rule = np.interp(epochs, published, series), EigenvalueStop().scaled(length)
        told = [(e, rule.roll_back_to(epochs[:n] * stretch, values[:n])) for n, e in enumerate(epochs, 1)]
        assert next(each for each in told if each[1] is not None) == (stop, int(back * stretch + 1e-6))


OPS = ["zero", "identity", "dense"]
CHAIN = [(0, 0), (0, 1), (1, 1)]


def cell(weights: list[list[float]], rule: Rule, edges_per_node: int = 2) -> list[list[tuple[str, int]]]:
    found = discretise(
        [np.array(w) for w in weights], CHAIN, [OPS] * 3, nodes=2, edges_per_node=edges_per_node, rule=rule
    )
    return [[(c.op, c.source) for c in node] for node in found]


def test_a_node_that_no_weight_lifts_over_the_threshold_keeps_its_strongest_connection() -> None:
    weights = [[0.9, 0.2, 0.3], [0.0, 0.9, 0.1], [0.0, 0.1, 0.2]]
    assert cell(weights, Rule("sparse", 0.85)) == [[("dense", 0)], [("identity", 0)]]
    assert cell(weights, Rule("edge", 0.85)) == [[("dense", 0)], [("identity", 0)]]
    assert cell(weights, Rule("edge", 0.15)) == [[("identity", 0), ("dense", 0)], [("identity", 0), ("dense", 1)]]


def test_dead_nodes_are_cut_with_everything_that_reads_them() -> None:
    a, b = Connection("dense", 1), Connection("dense", 0)
    assert pruned([(), (a, b), (Connection("identity", 1),)]) == ((), (b,), ())
    with pytest.raises(ValueError, match="every edge chose zero"):
        pruned([(), (a,)])
    only_zero = discretise([np.array([1.0]), np.array([0.3, 0.7]), np.array([0.1, 0.9])], CHAIN, [["zero"], OPS[:2], OPS[:2]],
                           nodes=2, edges_per_node=2)  # fmt: skip
    assert only_zero == ((), (Connection("identity", 0, 0.7),))


def test_skip_limit_sends_the_weakest_skip_away_and_its_edge_takes_the_next_op() -> None:
    weights = [[0.1, 0.6, 0.3], [0.1, 0.5, 0.4], [0.1, 0.7, 0.2]]
    assert cell(weights, Rule(skip_limit=None)) == [[("identity", 0)], [("identity", 0), ("identity", 1)]]
    assert cell(weights, Rule(skip_limit=2)) == [[("identity", 0)], [("dense", 0), ("identity", 1)]]
    assert cell(weights, Rule(skip_limit=0)) == [[("dense", 0)], [("dense", 0), ("dense", 1)]]


def test_zero_never_wins_and_edges_compete_with_their_strength() -> None:
    weights = [[0.9, 0.05, 0.05], [0.1, 0.5, 0.4], [0.1, 0.6, 0.3]]
    assert cell(weights, Rule(), edges_per_node=1) == [[("identity", 0)], [("identity", 1)]]
    strong = discretise(
        [np.array(w) for w in weights], CHAIN, [OPS] * 3, nodes=2, edges_per_node=1, edge_strength=[1, 0.9, 0.1]
    )
    assert [(c.op, c.source) for c in strong[1]] == [("identity", 0)]
