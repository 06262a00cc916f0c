"""Attention across assets and the correlation layer: equal to their definitions, in blocks of bars, without a trace of the pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.network import per_bar as blocks
from nas.network.across import EPSILON, FEW_ASSETS, Market, across_attention, correlation_mix
from nas.network.cell import Cell, Edge
from nas.network.per_bar import per_bar
from nas.space.ops import ACROSS_OPS

BARS, WINDOW, CHANNELS = 24, 8, 3


def market(assets: int, groups: int = 1, bars: int = BARS) -> Market:
    """The last asset is listed late, the first misses a bar here and there."""
    present = torch.ones(bars, groups, assets, dtype=torch.float64)
    present[: bars // 2, :, -1] = 0.0
    present[bars // 2, :, 0] = 0.0
    present[bars // 2 + 3 : bars // 2 + 6, :, 0] = 0.0
    return Market(present)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def correlation_by_pairs(x: Tensor, series: Tensor, values: Tensor, here: Tensor) -> np.ndarray:
    """One group: the formula, one bar and one pair at a time."""
    u, v = (x @ series)[..., 0].detach().numpy(), (x @ values).detach().numpy()
    known = here.numpy() > 0
    out = np.zeros(v.shape)
    for t in range(len(u)):
        window = slice(max(0, t + 1 - WINDOW), t + 1)
        apart = []
        for i in range(u.shape[1]):
            seen = known[window, i]
            own = u[window, i][seen]
            apart.append(np.where(seen, u[window, i] - (own.mean() if len(own) else 0.0), 0.0))
        counted = [bool(known[t, i] and known[window, i].sum() >= 0.75 * WINDOW) for i in range(u.shape[1])]
        for i in range(u.shape[1]):
            for j in range(u.shape[1]):
                if i != j and counted[i] and counted[j]:
                    norms = [np.sqrt((a * a).sum() + EPSILON * WINDOW) for a in (apart[i], apart[j])]
                    out[t, i] += (apart[i] * apart[j]).sum() / (norms[0] * norms[1]) * v[t, j]
        out[t] /= max(1, known[t].sum() - 1)
    return out


@pytest.mark.parametrize("assets", [3, FEW_ASSETS + 1])
def test_correlation_layer_is_the_correlation_of_every_pair(assets: int) -> None:
    """In both orders of its product."""
    x, series, values, here = (
        draw(BARS, assets, CHANNELS),
        draw(CHANNELS, 1, seed=1),
        draw(CHANNELS, CHANNELS, seed=2),
        market(assets),
    )
    got = correlation_mix(x, series, values, here, WINDOW).detach().numpy()
    wanted = correlation_by_pairs(x, series, values, here.present[:, 0])
    assert np.abs(wanted[:, -1]).max() > 0.0
    assert np.abs(wanted[BARS // 2 : BARS // 2 + 5, -1]).max() == 0.0  # listed too late to be correlated with anything
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_no_pair_correlates_by_more_than_one() -> None:
    """A follower of one other asset gets at most what that asset has."""
    x = draw(60, 2, CHANNELS) * 100.0
    values = torch.eye(CHANNELS, dtype=torch.float64)
    out = correlation_mix(
        x, draw(CHANNELS, 1, seed=1), values, Market(torch.ones(60, 1, 2, dtype=torch.float64)), WINDOW
    )
    assert bool((out.flip(1).abs() <= x.abs() + 1e-9).all())


OPS = {
    "correlation": (lambda x, w, here: correlation_mix(x, w[:, :1], w[:, 1:], here, WINDOW), CHANNELS + 1),
    "cross_attention": (across_attention, 3 * CHANNELS),
}


@pytest.mark.parametrize("assets", [3, FEW_ASSETS + 1])
@pytest.mark.parametrize("op", OPS)
def test_blocks_of_bars_change_neither_values_nor_first_and_second_derivatives(
    op: str, assets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, width = OPS[op]
    arguments, here = [draw(BARS, 2 * assets, CHANNELS), draw(CHANNELS, width, seed=1)], market(assets, groups=2)

    def everything() -> list[Tensor]:
        out = function(*arguments, here)
        first = torch.autograd.grad(out.square().sum(), arguments, create_graph=True)
        return [out, *first, *torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), arguments)]

    plain = everything()
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 1)  # one bar at a time
    for got, wanted in zip(everything(), plain, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("op", OPS)
def test_derivatives_in_blocks_are_those_of_finite_differences(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 1)
    function, width = OPS[op]
    arguments = draw(BARS, 3, CHANNELS), draw(CHANNELS, width, seed=1)
    assert torch.autograd.gradcheck(lambda *a: function(*a, market(3)), arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *a: function(*a, market(3)), arguments, fast_mode=True)


def test_an_input_without_gradient_and_an_unused_one_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 1)
    x, scale, unused = draw(5, 2), torch.full((5, 1), 3.0, dtype=torch.float64), draw(5, 2, seed=1)
    (out,) = per_bar(lambda x, s, _: (x * x * s,), 2, x, scale, unused)
    (first,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    torch.testing.assert_close(first, 6.0 * x)
    second, nothing = torch.autograd.grad(first.sum(), (x, unused), allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(second, torch.full_like(x, 6.0))
    assert not nothing.any()


def held_mib(assets: int, bars: int) -> float:
    """What one pass through a cell of all ops across assets keeps for first and second derivatives (lead-lag left out)."""
    held: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(0)
    ops = tuple(op for op in ACROSS_OPS if op != "lead_lag")
    cell = Cell([Edge(0, 0, ops)], 1, 8)
    x, mix = torch.randn(bars, assets, 8, requires_grad=True), torch.ones(len(ops), requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = cell(x, mix, None, Market(torch.ones(bars, 1, assets)))
        kept = torch.autograd.grad(out.square().sum(), mix, create_graph=True)
    assert kept[0].grad_fn is not None
    return sum(held.values()) / 2**20


def test_what_is_held_for_the_way_back_grows_with_assets_not_with_their_pairs() -> None:
    few, many = held_mib(40, 1_000), held_mib(160, 1_000)
    assert many / few < 4.4  # with the pairs of one op: 8 and more
