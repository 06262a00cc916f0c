"""What a network leans on: the planted input and its edges, nothing else; the network is left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.network.importance import importance
from nas.network.model import network_of
from nas.network.reference import reference_forward
from nas.space.genotype import Connection, Genotype

BARS, TEST = 1_500, slice(300, 1_500)
NAMES = tuple((f"input{k}", "raw") for k in range(3))


def network(heard: int) -> torch.nn.Module:
    """A network that hears one input through its first edge alone: the second edge's weights are zero."""
    nodes = ((Connection("conv3", 0), Connection("dense", 0)),)
    made = network_of(Genotype(nodes, 4, 1, (1,), NAMES), 0)
    with torch.no_grad():
        made.stem[:] = 0.0
        made.stem[heard] = 1.0
        cell = made.cells[0]
        (kernel,) = [weight for name, weight in cell.weights.items() if name.startswith("matrix")]
        kernel[-1] = 0.0  # of the dense op, which has one
    return made


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((1, 3, BARS)).astype(np.float32)
    known = np.ones((1, BARS), bool)
    with torch.no_grad():
        label = network(1)(torch.from_numpy(x))[:, 0].double().numpy()
    return x, known, label


def test_only_what_the_network_hears_is_important(problem: tuple[np.ndarray, ...]) -> None:
    x, known, label = problem
    made = network(1)
    found = importance(made, x, known, label, TEST, day_bars=24, seed=0)
    inputs = [each for each in found if each.part == "input"]
    edges = [each for each in found if each.part == "edge"]
    assert [each.number for each in inputs] == [0, 1, 2]
    assert inputs[1].low > 0.5  # the label is the network's own forecast
    assert inputs[0].lost == inputs[2].lost == 0.0
    assert edges[0].low > 0.5
    assert edges[1].lost == pytest.approx(0.0, abs=1e-9)
    with torch.no_grad():  # the cells forward as before
        assert np.array_equal(made(torch.from_numpy(x))[:, 0].double().numpy(), label)


def test_nothing_outside_the_test_stretch_and_its_context_is_read(problem: tuple[np.ndarray, ...]) -> None:
    x, known, label = problem
    made = network(1)
    bars = slice(400, 1_000)
    found = importance(made, x, known, label, bars, day_bars=24, seed=0)
    other, told = x.copy(), label.copy()
    other[:, :, 1_000:], other[:, :, : 400 - made.receptive_field] = 9.0, 9.0
    told[:, 1_000:], told[:, :400] = np.nan, 9.0
    assert importance(made, other, known, told, bars, day_bars=24, seed=0) == found
    assert importance(made, x, np.zeros_like(known), label, bars, day_bars=24, seed=0) == []
    assert importance(made, x, known, label, slice(400, 440), day_bars=24, seed=0) == []


def test_an_edge_that_is_not_moved_changes_nothing() -> None:
    cell = network(1).cells[0]
    x = torch.randn(50, 2, 4)
    with torch.no_grad():
        assert torch.equal(reference_forward(cell, x), reference_forward(cell, x, moved=lambda _, out: out))
        assert not torch.equal(reference_forward(cell, x), reference_forward(cell, x, moved=lambda _, out: 2 * out))
