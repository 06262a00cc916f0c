from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from nas.network.cell import Cell, Edge
from nas.network.fused_cell import FusedPlan
from nas.space.ops import DEFAULT_OPS, OPS, get_op

LAGS = (
    "zero",
    "conv5",
    "dilated3x8",
    "diff4",
    "meanpool6",
    "ema12",
)  # lags that differ from edge to edge, no attention


def build(nodes: int, inputs: int = 1, channels: int = 16, ops: tuple[str, ...] = DEFAULT_OPS) -> Cell:
    torch.manual_seed(3)
    cell = Cell([Edge(s, n, ops) for n in range(nodes) for s in range(n + inputs)], nodes, channels, 1, inputs)
    cell.calibration.uniform_(0.5, 2.0)
    return cell


def random_inputs(cell: Cell, bars: int, batch: int, mixed: bool = True) -> tuple[list[Tensor], Tensor | None]:
    torch.manual_seed(5)
    given = [torch.randn(bars, batch, cell.channels, requires_grad=True) for _ in range(cell.inputs)]
    return given, torch.rand(len(cell.entries), requires_grad=True) if mixed else None


def in_double(cell: Cell, given: list[Tensor], mix: Tensor | None) -> tuple[Cell, list[Tensor], Tensor | None]:
    """The same by torch's functions in double precision: the truth."""
    return (
        copy.deepcopy(cell).double(),
        [x.detach().double().requires_grad_() for x in given],
        None if mix is None else mix.detach().double().requires_grad_(),
    )


def apart(a: Tensor, b: Tensor) -> float:
    """Largest difference, in units of the largest number."""
    return float((a.detach().double() - b.detach()).abs().max() / b.detach().abs().max().clamp_min(1e-30))


CASES: list[tuple[Cell, int, int, int | None, bool]] = [
    (build(2), 471, 4, 256, True),
    (build(2), 100, 4, None, True),
    (build(4, 2), 300, 3, 40, True),
    (build(2, 1, 8), 140, 4, 33, False),
    (build(2, 2, 32), 20, 1, None, True),
    (build(3, 1, 24), 77, 5, 9, True),
    (build(1), 3, 2, None, True),
    (build(2), 1, 1, None, True),
    (build(3, 1, 16, LAGS), 90, 2, 17, True),
    (build(2), 1_300, 1, 1_000, True),
]


@pytest.mark.parametrize(("cell", "bars", "batch", "last", "mixed"), CASES)
def test_kernels_give_the_forecasts_and_gradients_of_torch(
    cell: Cell, bars: int, batch: int, last: int | None, mixed: bool
) -> None:
    given, mix = random_inputs(cell, bars, batch, mixed)
    truth, given_double, mix_double = in_double(cell, given, mix)
    out, right = cell(given, mix, last=last), truth(given_double, mix_double, last=last)
    assert out.shape == right.shape
    single = 2e-6  # sums of a thousand numbers in single precision; torch's own differ from the truth by 1e-6
    assert apart(out, right) < single
    weight = torch.randn_like(out)
    of = [t for t in (*given, mix, *cell.parameters()) if t is not None]
    of_double = [t for t in (*given_double, mix_double, *truth.parameters()) if t is not None]
    found = torch.autograd.grad((out * weight).sum(), of, allow_unused=True)
    wanted = torch.autograd.grad((right * weight.double()).sum(), of_double, allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        if b is None or not b.any():
            assert a is None or not a.any()
        else:
            assert a is not None
            assert apart(a, b) < 10 * single


def test_second_derivatives_are_those_of_torch() -> None:
    cell = build(2)
    given, mix = random_inputs(cell, 60, 2)
    truth, given_double, mix_double = in_double(cell, given, mix)

    def curved(network: Cell, xs: list[Tensor], weights: Any) -> Tensor:
        loss = network(xs, weights, last=20).square().mean()
        slope = torch.autograd.grad(loss, [weights, *network.parameters()], create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in slope), weights)[0]  # type: ignore[arg-type]

    assert apart(curved(cell, given, mix), curved(truth, given_double, mix_double)) < 1e-4


def test_stand_in_weights_get_the_gradients() -> None:
    cell = build(2)
    given, mix = random_inputs(cell, 50, 2)
    other = {name: (0.5 * p.detach()).requires_grad_() for name, p in cell.named_parameters()}
    out = torch.func.functional_call(cell, other, (given, mix))
    own = torch.autograd.grad(out.sum(), list(other.values()), create_graph=True)
    with torch.no_grad():
        for name, p in cell.named_parameters():
            p.copy_(other[name])
    plain = torch.autograd.grad(cell(given, mix, fused=False).sum(), list(cell.parameters()))
    for a, b in zip(own, plain, strict=True):
        assert apart(a, b.double()) < 1e-5


def test_bars_ahead_change_no_bit() -> None:
    cell = build(2)
    (x,), mix = random_inputs(cell, 90, 2)
    for bar in (1, 15, 16, 17, 40, 89):
        changed = x.detach().clone()
        changed[bar:] = 1e3
        assert torch.equal(cell(changed, mix)[:bar], cell(x, mix)[:bar])


def test_bars_before_the_context_change_no_bit() -> None:
    cell = build(2)
    (x,), mix = random_inputs(cell, 300, 2)
    reach = max(op.receptive_field for op in OPS.values() if op.name in DEFAULT_OPS)
    changed = x.detach().clone()
    changed[: 300 - 10 - 2 * (reach - 1)] = 1e3
    assert torch.equal(cell(changed, mix, last=10), cell(x, mix, last=10))


def test_the_same_bytes_every_time() -> None:
    cell = build(2)
    given, mix = random_inputs(cell, 80, 3)
    found = [
        torch.autograd.grad(cell(given, mix).square().sum(), [mix, *given, *cell.parameters()])  # type: ignore[list-item]
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_inputs_that_need_no_gradient_get_none_and_weights_the_same() -> None:
    cell = build(2)
    (x,), mix = random_inputs(cell, 80, 3)
    both = [
        torch.autograd.grad(cell(y, mix).sum(), [mix, *cell.parameters()])  # type: ignore[list-item]
        for y in (x, x.detach())
    ]
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


def test_what_the_kernels_do_not_know_goes_by_torch() -> None:
    def known(op: str, channels: int, partial: int = 1) -> bool:
        return FusedPlan.of([(Edge(0, 0, (op,)), get_op(op))], 1, 1, channels, partial) is not None

    assert known("conv3", 16)
    assert not known("gated", 16)
    assert not known("conv3", 12)
    assert not known("conv3", 16, 2)
    assert not FusedPlan.suits(torch.zeros(1, dtype=torch.float64))
    cell = build(1, 1, 12)
    assert cell.fused is None
    assert cell(torch.randn(9, 2, 12)).shape == (9, 2, 12)
