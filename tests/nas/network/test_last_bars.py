"""A network asked for its last bars computes fewer of those before, and the same forecasts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nas.network.model import last_of
from nas.search.supernet import supernet_of
from nas.space.ops import OPS
from nas.space.search_space import SearchSpace

EVERY = tuple(name for name, op in OPS.items() if not op.across and op.module is None)
SPACES: dict[str, dict[str, Any]] = {
    "two nodes": {},
    "four nodes of two inputs": {"nodes": 4, "cell_inputs": 2},
    "three cells": {"cells": 3},
    "three cells of two inputs": {"cells": 3, "cell_inputs": 2},
    "every op": {"ops": EVERY, "cells": 2},
    "every op, a quarter of the channels": {"ops": EVERY, "partial": 4},
}


def built(partial: int = 1, **changes: Any) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor]:
    """(supernet, its mix, inputs of its receptive field and 30 bars), in double precision."""
    space = SearchSpace(channels=8, features=(("a", ("raw",)), ("b", ("raw",))), **changes)
    network = supernet_of(space, 0, partial=partial).double()
    draw = torch.Generator().manual_seed(1)
    ops = torch.rand(len(space.edges) * len(space.ops), generator=draw, dtype=torch.float64).requires_grad_()
    bypass = (torch.rand(len(space.edges), generator=draw, dtype=torch.float64),) if partial > 1 else ()
    x = torch.randn(3, 2, space.receptive_field + 30, generator=draw, dtype=torch.float64)
    return network, (ops, torch.ones(2, dtype=torch.float64), *bypass), x


@pytest.mark.parametrize("name", SPACES)
def test_the_last_bars_and_their_gradients_are_those_of_the_whole_pass(name: str) -> None:
    network, mix, x = built(**SPACES[name])
    learned = [*network.parameters(), mix[0]]
    results = []
    for out in (network(x, *mix)[:, :, -30:], last_of(network, 30, x, *mix)):
        results.append((out, *torch.autograd.grad(out.square().sum(), learned, allow_unused=True)))
    for whole, part in zip(*results, strict=True):
        assert (whole is None) == (part is None)
        assert whole is None or torch.allclose(whole, part, rtol=1e-9, atol=1e-12)


def test_the_bars_before_those_that_are_read_are_not_computed() -> None:
    network, mix, x = built(nodes=4)
    seen: list[int] = []
    cell = network.cells[0]  # type: ignore[index, union-attr]
    product = cell.product
    cell.product = lambda *given: seen.append(len(given[1])) or product(*given)  # type: ignore[union-attr, assignment, func-returns-value]
    last_of(network, 30, x, *mix)
    reach = (x.shape[-1] - 31) // 4
    assert seen == [30 + 4 * reach, 30 + 3 * reach, 30 + 2 * reach, 30 + reach]
