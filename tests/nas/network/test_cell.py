from __future__ import annotations

import pytest
import torch

from data.panel import InputError
from nas.network.attention import attention_in_chunks, banded_attention
from nas.network.cell import Cell, Edge, gated_unit
from nas.network.linear_blocks import LinearBlocks, ema, ema_reference
from nas.network.reference import reference_forward
from nas.space.ops import GATE_FLOOR, OPS

EVERY_OP = tuple(name for name, op in OPS.items() if not op.across)  # those across assets: test_across.py


def build(ops: tuple[str, ...] = EVERY_OP, nodes: int = 2, channels: int = 4) -> Cell:
    torch.manual_seed(3)
    cell = Cell([Edge(s, n, ops) for n in range(nodes) for s in range(n + 1)], nodes, channels).double()
    cell.calibration.uniform_(0.5, 2.0)
    return cell


def mix_of(cell: Cell) -> torch.Tensor:
    torch.manual_seed(5)
    return torch.rand(len(cell.entries), dtype=torch.float64).requires_grad_()


def test_folded_cell_equals_ops_applied_one_by_one() -> None:
    cell, x = build(), torch.randn(150, 2, 4, dtype=torch.float64)
    mix = mix_of(cell)
    with_ema_in_float32 = 2e-6  # the EMA kernel works on float32 and float64 tensors alike; sums differ in order only
    assert torch.allclose(cell(x, mix), reference_forward(cell, x, mix), atol=with_ema_in_float32)


def test_folded_gradients_equal_the_reference() -> None:
    cell, x = build(), torch.randn(150, 2, 4, dtype=torch.float64)
    mix = mix_of(cell)
    wanted = [mix, *cell.parameters()]
    weight = torch.randn(150, 2, 8, dtype=torch.float64)
    folded = torch.autograd.grad((cell(x, mix) * weight).sum(), wanted)
    plain = torch.autograd.grad((reference_forward(cell, x, mix) * weight).sum(), wanted)
    for a, b in zip(folded, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("partial", [2, 4])
def test_partial_channels_folded_equal_the_reference_with_gradients(partial: int) -> None:
    torch.manual_seed(3)
    edges = [Edge(s, n, EVERY_OP) for n in range(2) for s in range(n + 1)]
    cell, x = Cell(edges, 2, 8, partial).double(), torch.randn(120, 2, 8, dtype=torch.float64)
    mix, bypass = mix_of(cell), torch.rand(len(edges), dtype=torch.float64).requires_grad_()
    folded, plain = cell(x, mix, bypass), reference_forward(cell, x, mix, bypass)
    assert torch.allclose(folded, plain, atol=2e-6)
    weight, wanted = torch.randn_like(folded), [mix, bypass, *cell.parameters()]
    for a, b in zip(
        torch.autograd.grad((folded * weight).sum(), wanted),
        torch.autograd.grad((plain * weight).sum(), wanted),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-5)


def test_partial_channels_that_do_not_divide_are_refused() -> None:
    with pytest.raises(InputError, match="6 channels are no multiple of 4"):
        Cell([Edge(0, 0, ("identity",))], 1, 6, 4)


@pytest.mark.parametrize("name", [name for name in EVERY_OP if name != "zero"])
def test_op_ignores_the_future_and_is_time_invariant(name: str) -> None:
    cell = build((name,), nodes=1)
    x = torch.randn(200, 1, 4, dtype=torch.float64)
    out = cell(x)
    changed = x.clone()
    changed[120:] = 1e3
    assert torch.equal(cell(changed)[:120], out[:120])
    field = OPS[name].receptive_field
    begin = 150 - field + 1  # bar 150 from a stretch that starts exactly one receptive field earlier
    assert torch.allclose(cell(x[begin:])[150 - begin], out[150], atol=1e-9)


@pytest.mark.parametrize("name", [name for name in EVERY_OP if name not in ("zero", "gated", "maxpool", "attention")])
def test_receptive_field_is_not_larger_than_needed(name: str) -> None:
    cell = build((name,), nodes=1)
    x = torch.randn(200, 1, 4, dtype=torch.float64)
    changed = x.clone()
    changed[150 - OPS[name].receptive_field + 1] += 5.0
    assert not torch.equal(cell(changed)[150], cell(x)[150])


def test_truncated_ema_equals_its_formula_and_its_adjoint() -> None:
    x = torch.randn(90, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(ema(x, 0.8, 15), ema_reference(x, 0.8, 15), atol=1e-12)
    assert torch.autograd.gradcheck(lambda v: ema(v, 0.8, 15), (x[:20].detach().requires_grad_(),))
    assert torch.autograd.gradgradcheck(lambda v: ema(v, 0.8, 15).square(), (x[:20].detach().requires_grad_(),))


@pytest.mark.parametrize("bars", [1, 5, 20, 90])
def test_linear_blocks_equal_lags_and_toeplitz_products_of_torch(bars: int) -> None:
    torch.manual_seed(0)
    blocks = LinearBlocks((0, 1, 7), ((0.6, 12, 1.1), (0.9, 30, 2.0)))
    x = torch.randn(bars, 2, 3, dtype=torch.float64, requires_grad=True)
    kernel, plain = blocks(x), blocks.by_torch(x)
    assert torch.allclose(kernel, plain, atol=1e-12)
    weight = torch.randn_like(kernel)
    a, b = (torch.autograd.grad((out * weight).sum(), x)[0] for out in (kernel, plain))
    assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(("bars", "batch", "band"), [(1, 2, 4), (3, 1, 8), (9, 2, 3), (300, 3, 32), (1_200, 1, 32)])
def test_attention_kernels_equal_attention_in_chunks(bars: int, batch: int, band: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(bars, batch, 5, dtype=torch.float64, requires_grad=True)
    projections = torch.randn(3, 5, 15, dtype=torch.float64, requires_grad=True)
    kernel = banded_attention(x, projections, band)
    plain = torch.stack([attention_in_chunks(x, projection, band) for projection in projections], 2)
    assert torch.allclose(kernel, plain, atol=1e-12)
    weight = torch.randn_like(kernel)
    for a, b in zip(*(torch.autograd.grad((o * weight).sum(), (x, projections)) for o in (kernel, plain)), strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def test_attention_is_twice_differentiable() -> None:
    torch.manual_seed(0)
    x, projection = torch.randn(7, 2, 3).double().requires_grad_(), torch.randn(2, 3, 9).double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda a, b: banded_attention(a, b, 4), (x, projection))


def test_attention_sees_exactly_its_band() -> None:
    torch.manual_seed(0)
    projection = torch.randn(4, 12, dtype=torch.float64)
    x = torch.randn(100, 1, 4, dtype=torch.float64)
    out = banded_attention(x, projection[None], 8)[:, :, 0]
    q, k, v = (x[:, 0] @ projection).split(4, -1)
    for t in (0, 5, 8, 37, 99):
        low = max(0, t - 7)
        weights = torch.softmax(q[t] @ k[low : t + 1].T * 0.5, -1)
        assert torch.allclose(out[t, 0], weights @ v[low : t + 1])


@pytest.mark.parametrize("span", [16, 64, 100])
def test_gated_unit_equals_its_recurrence_inside_its_memory(span: int) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    x = torch.randn(span + 5, 1, 3, dtype=torch.float64)
    out = gated_unit(x, weight, bias, span)
    for n in range(2):
        z, c = (x @ weight[n] + bias[n]).chunk(2, -1)
        floor = GATE_FLOOR / span
        z = floor + (1 - floor) * torch.sigmoid(z)
        h = torch.zeros(1, 3, dtype=torch.float64)
        for t in range(5, span + 5):
            h = (1 - z[t]) * h + z[t] * torch.tanh(c[t])
        assert torch.allclose(out[-1, :, n], h)
