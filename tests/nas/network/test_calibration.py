"""Louder is not better: gains are measured on the training bars alone, bring every op to the spread of its input, and then stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.network.calibration import calibrate
from nas.network.cell import Cell, Edge
from nas.network.model import CellNetwork, edge_by_edge, network_of
from nas.network.reference import reference_forward
from nas.network.stretches import Tensors
from nas.network.training import TrainingSettings, train
from nas.search.parts import Stage
from nas.search.run import SearchRun
from nas.search.settings import SearchSettings
from nas.search.variants import get_variant
from nas.space.genotype import Connection, Genotype
from nas.space.ops import DEFAULT_OPS
from nas.space.search_space import SearchSpace

TRAIN = slice(400, 3_400)
NODES = ((Connection("ema36", 0), Connection("diff1", 0)), (Connection("attention", 0), Connection("ema12", 1)))
FOUND = Genotype(NODES, 4, 1, (1,), (("a", "raw"), ("b", "raw")))


def tensors(persistence: float = 0.95, bars: int = 4_000) -> Tensors:
    x = np.random.default_rng(0).standard_normal((1, 2, bars))
    for t in range(1, bars):
        x[..., t] = persistence * x[..., t - 1] + (1.0 - persistence**2) ** 0.5 * x[..., t]
    return Tensors(torch.from_numpy(x.astype(np.float32)), torch.zeros(1, 1, bars), torch.ones(1, 1, bars))


def loudness(network: CellNetwork, x: Tensor) -> dict[str, float]:
    """Spread of every op's output in that of its input, times its factor, on the cell's first input."""
    (cell,) = (module for module in network.modules() if isinstance(module, Cell))
    found: dict[str, float] = {}

    def hear(k: int, before: Tensor, after: Tensor) -> None:
        edge, op = cell.entries[k]
        if edge.source == 0 and op.kind != "zero":
            spread = (after[500:].std((0, 1)).square().mean() / before[500:].std((0, 1)).square().mean()).sqrt()
            found[op.name] = float(spread * cell.calibration[k])

    with torch.no_grad():
        state = (x[0].T @ network.stem)[:, None]
        reference_forward(cell, state, torch.ones(len(cell.entries)), measured=hear)
    return found


def supernet() -> CellNetwork:
    torch.manual_seed(0)
    edges = [Edge(s, n, (*DEFAULT_OPS, "gated", "maxpool6")) for n in range(2) for s in range(n + 1)]
    return CellNetwork(edges, nodes=2, channels=4, cells=1, inputs=2, horizons=1, receptive_field=215)


def test_ops_that_differ_by_ten_are_equally_loud_afterwards() -> None:
    network, data = supernet(), tensors()
    before = loudness(network, data.x)
    assert before["ema36"] / before["diff1"] > 10.0
    calibrate(network, data, (TRAIN,), torch.full((len(network.cells[0].entries),), 0.1))  # type: ignore[union-attr, arg-type]
    after = loudness(network, data.x)
    assert set(after) == {*DEFAULT_OPS, "gated", "maxpool6"} - {"zero"}
    assert all(0.8 < value < 1.25 for value in after.values()), after


def test_white_inputs_leave_the_gains_of_fixed_ops_as_they_are() -> None:
    network, data = supernet(), tensors(0.0)
    calibrate(network, data, (TRAIN,), torch.full((len(network.cells[0].entries),), 0.1))  # type: ignore[union-attr, arg-type]
    (cell,) = (module for module in network.modules() if isinstance(module, Cell))
    fixed = [
        float(cell.calibration[k])
        for k, (e, op) in enumerate(cell.entries)
        if e.source == 0 and op.kind in ("constant", "ema")
    ]
    assert fixed == pytest.approx([1.0] * len(fixed), abs=0.12)


@pytest.mark.parametrize("searched", [True, False])
def test_bars_after_the_training_stretch_change_no_gain(searched: bool) -> None:
    def gains(data: Tensors) -> Tensor:
        if searched:
            space = SearchSpace(channels=4, features=(("a", ("raw",)), ("b", ("raw",))))
            splits = (TRAIN,), (slice(3_700, 3_900),)
            run = SearchRun(space, data, splits, SearchSettings(), 0, get_variant("darts"), Stage(), None)
            return torch.cat([cell.calibration for cell in run.mixed_cells])
        network = network_of(FOUND, 0)
        train(network, data, TRAIN, slice(3_700, 3_900), TrainingSettings(epochs=1), 0)
        return torch.cat([module.calibration for module in network.modules() if isinstance(module, Cell)])

    data, other = tensors(), tensors()
    other.x[..., TRAIN.stop :] *= -50.0
    assert torch.equal(gains(data), gains(other))
    other.x[..., TRAIN] *= torch.linspace(1.0, 30.0, 3_000)
    assert not torch.equal(gains(data), gains(other))


def test_gains_are_frozen_and_saved_with_the_weights() -> None:
    network, data = network_of(FOUND, 0), tensors()
    train(network, data, TRAIN, slice(3_700, 3_900), TrainingSettings(epochs=1), 0)
    saved = network.state_dict()
    names = [name for name in saved if name.endswith("calibration")]
    assert names
    assert not set(names) & {name for name, _ in network.named_parameters()}
    assert any((saved[name] != 1.0).any() for name in names)
    fresh = network_of(FOUND, 1)
    fresh.load_state_dict(saved)
    x = data.x[..., :300]
    with torch.no_grad():
        assert torch.equal(fresh(x), network(x))
    older = {name: value for name, value in saved.items() if name not in names}
    read = edge_by_edge(older, fresh.state_dict() | {name: torch.ones_like(saved[name]) for name in names})
    assert all((read[name] == 1.0).all() for name in names)


def test_a_constant_input_changes_no_gain() -> None:
    network, data = network_of(FOUND, 0), tensors()
    data.x.zero_()
    calibrate(network, data, (TRAIN,))
    (cell,) = (module for module in network.modules() if isinstance(module, Cell))
    assert (cell.calibration == 1.0).all()
