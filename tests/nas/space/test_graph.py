"""The graph of a cell is one's own: which edges there are, what is refused, and that every search keeps to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data.errors import InputError
from nas.network.stretches import Tensors
from nas.search import search_sequences
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.search_space import Graph, SearchSpace

FORK: Graph = ((1, 2), (0, 0), (2, 2), (0, 1))
SPACE = SearchSpace(
    ops=("zero", "identity", "conv3", "diff1"), nodes=3, channels=4, features=(("a", ("raw",)), ("b", ("raw",))), graph=FORK
)  # fmt: skip
SETTINGS = SearchSettings(epochs=3, length=32, batch=2, alpha_warmup_epochs=0, diagnostics_every=0)


def data() -> Tensors:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2, 200)).astype(np.float32))
    return Tensors(x, x[:, :1].roll(1, -1), torch.ones(1, 1, 200))


def find(space: SearchSpace, variant: str = "darts", tensors: Tensors | None = None) -> Any:
    torch.set_num_threads(1)
    values = data() if tensors is None else tensors
    return search(space, values, slice(20, 100), slice(120, 190), SETTINGS, 0, variant=variant)


def test_dense_chain_and_own_edges() -> None:
    dense = replace(SPACE, graph="dense")
    assert dense.edges == ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2))
    assert replace(dense, cell_inputs=2, nodes=2).edges == ((0, 0), (1, 0), (0, 1), (1, 1), (2, 1))
    assert replace(dense, graph="chain").edges == ((0, 0), (1, 1), (2, 2))
    assert replace(dense, graph="chain", cell_inputs=2).edges == ((0, 0), (1, 0), (2, 1), (3, 2))
    assert SPACE.edges == ((0, 0), (0, 1), (1, 2), (2, 2))
    assert (SPACE.sources(0), SPACE.sources(2)) == ([0], [1, 2])
    assert SearchSpace.from_json(SPACE.to_json()) == SPACE
    assert SearchSpace.from_json(replace(dense, graph="chain").to_json()).graph == "chain"


def test_a_space_looks_back_as_far_as_its_longest_way() -> None:
    """Two bars a node: three nodes in a row 7, two 5, all beside each other 3."""
    fields = [
        replace(SPACE, graph=graph).receptive_field for graph in ("dense", "chain", FORK, ((0, 0), (0, 1), (0, 2)))
    ]
    assert fields == [7, 7, 5, 3]
    for graph in ("chain", FORK):
        space = replace(SPACE, graph=graph, ops=("conv3",), cells=2)  # type: ignore[arg-type]
        assert find(space).genotype.receptive_field == space.receptive_field


def test_the_dense_graph_written_out_is_the_dense_graph() -> None:
    dense = replace(SPACE, graph="dense")
    assert find(replace(SPACE, graph=dense.edges)).to_json() == find(dense).to_json()


@pytest.mark.parametrize(
    "variant",
    [
        "darts",
        "pc",
        "fair",
        "progressive",
        "pt",
        "random-ws",
        "darts+last-round",
        "random",
        "evolution",
        "local",
        "tpe",
    ],
)
@pytest.mark.parametrize("graph", ["chain", FORK])
def test_every_search_keeps_to_the_edges_and_to_the_past(variant: str, graph: Graph) -> None:
    space = replace(SPACE, graph=graph)
    found = find(space, variant)
    used = [(c.source, node) for node, row in enumerate(found.genotype.nodes) for c in row]
    assert used
    assert set(used) <= set(space.edges)
    changed = data()
    changed.x[..., 190:], changed.y[..., 190:] = 1e3, -1e3
    assert find(space, variant, changed).to_json() == found.to_json()


def test_sequences_take_a_graph() -> None:
    x = np.random.default_rng(0).standard_normal((60, 2, 8))
    found = search_sequences(
        x, x[:, 0, -1], ops=("zero", "dense", "conv3"), nodes=3, channels=4, epochs=1, graph="chain"
    )
    assert [[c.source for c in row] for row in found.genotype.nodes] == [[0], [1], [2]]
    assert found.predict(x).shape == (60, 1)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ("tree", "graph"),
        (((0, 0), (1, 1), (3, 2)), r"edge \(3, 2\): node 2 cannot read node 2, which does not come before it"),
        (((0, 0), (0, 1), (0, 3)), r"edge \(0, 3\) leads to node 3, and the nodes are 0 to 2; give more nodes"),
        (((0, 0), (0, 1)), r"no edge of the graph leads to node 2; give pairs such as \(0, 0\)"),
        (((0, 0), (0, 1), (0, 2), (0, 2)), "an edge of the graph is named twice"),
        (((0, 0), (0, 1), (-1, 2)), r"\(-1, 2\) is no edge"),
        (((0, 0), (0, 1, 2)), r"\(0, 1, 2\) is no edge"),
        ((), "no edge of the graph leads to node 0"),
    ],
)
def test_what_is_no_graph_is_told_in_one_line(graph: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        replace(SPACE, graph=graph)
    assert "\n" not in str(told.value)
