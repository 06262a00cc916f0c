"""Cells that read the two cells before them, as in the original: folded like the reference, causal, exact in their reach, kept in files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data.panel import InputError
from nas.network.cell import Cell, Edge
from nas.network.model import TrainedModel, forecast_sequence, load_model, network_of
from nas.network.reference import reference_forward
from nas.network.stretches import Scaler
from nas.search.selection import random_genotype
from nas.search.supernet import supernet_of
from nas.space.genotype import Connection, Genotype
from nas.space.ops import OPS
from nas.space.search_space import SearchSpace

EVERY_OP = tuple(name for name, op in OPS.items() if not op.across)
SPACE = SearchSpace(
    ops=("zero", "identity", "dense", "conv3", "ema4", "diff1"),
    nodes=3,
    channels=4,
    cell_inputs=2,
    features=(("return", ("raw", "diff")), ("volume", ("raw",))),
)


@pytest.mark.parametrize("partial", [1, 2])
def test_folded_with_two_inputs_equals_the_reference_with_gradients(partial: int) -> None:
    torch.manual_seed(3)
    edges = [Edge(s, n, EVERY_OP) for n in range(2) for s in range(2 + n)]
    cell = Cell(edges, 2, 4, partial, inputs=2).double()
    x = [torch.randn(120, 2, 4, dtype=torch.float64) for _ in range(2)]
    mix = torch.rand(len(cell.entries), dtype=torch.float64).requires_grad_()
    bypass = torch.rand(len(edges), dtype=torch.float64) if partial > 1 else None
    folded, plain = cell(x, mix, bypass), reference_forward(cell, x, mix, bypass)
    assert torch.allclose(folded, plain, atol=2e-6)
    weight, wanted = torch.randn_like(folded), [mix, *cell.parameters()]
    for a, b in zip(
        torch.autograd.grad((folded * weight).sum(), wanted),
        torch.autograd.grad((plain * weight).sum(), wanted),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_forecasts_ignore_the_future_and_look_back_exactly_as_far_as_said(cells: int) -> None:
    for seed in range(6):
        genotype = random_genotype(SPACE, torch.Generator().manual_seed(seed)).sized(cells, 4)
        network = network_of(genotype, seed).double()
        inputs, reach, t = len(genotype.features), genotype.receptive_field, 200
        x = torch.randn(1, inputs, 260, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        out = network(x)
        later = x.clone()
        later[:, :, t + 1 :] += 5.0
        assert torch.equal(network(later)[..., : t + 1], out[..., : t + 1])
        window = network(x[:, :, t - reach + 1 : t + 1])[..., -1]
        assert torch.allclose(window, out[..., t], atol=1e-9)
        needed = x.clone()
        needed[:, :, t - reach + 1] += 5.0
        assert not torch.equal(network(needed)[..., t], out[..., t])  # the first bar of its reach is read


def test_the_second_input_is_the_cell_before_the_last() -> None:
    """Third cell: source 0 reads the first cell, not the second."""
    nodes = ((Connection("identity", 0), Connection("diff1", 1)),)
    network = network_of(Genotype(nodes, 4, 3, (1,), (("return", "raw"),), inputs=2), 0)
    assert [tuple(weight.shape) for weight in network.before] == [(1, 4), (1, 4), (4, 4)]
    seen = []
    network.cells[2].register_forward_pre_hook(lambda _, given: seen.extend(given[0]))
    outputs: list[torch.Tensor] = []
    network.cells[0].register_forward_hook(lambda _m, _i, out: outputs.append(out))
    network(torch.randn(1, 1, 50))
    assert torch.allclose(seen[0], outputs[0] @ network.before[2] + network.before_bias[2])


def test_a_genotype_with_two_inputs_survives_its_file_and_one_without_the_key_has_one(tmp_path: Path) -> None:
    genotype = random_genotype(SPACE, torch.Generator().manual_seed(1))
    assert Genotype.from_dict(json.loads(json.dumps(genotype.to_dict()))) == genotype
    network = network_of(genotype, 3)
    count = len(genotype.features)
    model = TrainedModel(genotype, network, Scaler(np.zeros(count), np.ones(count)), 3_600_000_000_000, 1.0, {})
    model.save(tmp_path)
    again = load_model(tmp_path)
    x = np.random.default_rng(0).standard_normal((1, count, 80)).astype(np.float32)
    assert np.array_equal(forecast_sequence(again.network, x, 70, 80), forecast_sequence(network, x, 70, 80))
    old = {"nodes": [[{"op": "conv3", "source": 0, "weight": 1.0}], [{"op": "ema4", "source": 1, "weight": 1.0}]]}
    before = {"cells": [old], "channels": 4, "horizons": [1], "features": {"return": "raw"}}
    assert str(Genotype.from_dict(before)) == "node1 = conv3(input); node2 = ema4(node1)"


def test_names_of_sources() -> None:
    nodes = ((Connection("conv3", 0), Connection("ema4", 1)), (Connection("diff1", 2),))
    two = Genotype(nodes, 4, 1, (1,), (("return", "raw"),), inputs=2)
    assert str(two) == "node1 = conv3(before) + ema4(last); node2 = diff1(node1)"


def test_top_two_edges_are_taken_of_more_than_two() -> None:
    assert [sum(node == k for _, node in SPACE.edges) for k in range(3)] == [2, 3, 4]
    genotype = random_genotype(SPACE, torch.Generator().manual_seed(0))
    assert [len(node) for node in genotype.nodes] == [2, 2, 2]


def test_a_supernet_of_several_cells_reads_two_of_them() -> None:
    from dataclasses import replace

    network = supernet_of(replace(SPACE, search_cells=3, search_channels=2), 0)
    assert len(network.before) == 3
    mix = torch.ones(len(SPACE.edges) * len(SPACE.ops))
    assert network(torch.randn(2, 3, 40), mix, torch.ones(3)).shape == (2, 1, 40)


def test_other_numbers_of_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="1 input or 2, not 3"):
        SearchSpace(cell_inputs=3)
