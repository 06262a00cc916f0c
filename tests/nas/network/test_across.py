"""Ops that read other assets: causal, equivariant, masked; who leads whom; networks of several assets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from data.panel import InputError
from nas.network.across import Market
from nas.network.cell import Cell, Edge
from nas.network.links import Candidates, candidates, chosen_links, evidence, fixed_leads
from nas.network.model import PerAsset, forecast_sequence, network_of
from nas.network.reference import reference_forward
from nas.network.stretches import Tensors, batches, with_presence
from nas.search.loop import search
from nas.search.parts import Stage
from nas.search.run import SearchRun
from nas.search.settings import SearchSettings
from nas.search.variants import get_variant
from nas.space.genotype import Connection, Genotype, Link
from nas.space.ops import ACROSS_OPS, DEFAULT_OPS, OPS, get_op
from nas.space.search_space import SearchSpace

ASSETS = ("A", "B", "C", "D")
LINKS = (Link("B", "A", 3, 0.9), Link("C", "A", 1, -0.7), Link("D", "C", 5, 0.8))
BARS = 120


def genotype(op: str, share: str = "all", assets: tuple[str, ...] = ASSETS) -> Genotype:
    links = LINKS if op == "lead_lag" else ()
    first = (Connection("conv3", 0), Connection(op, 0, 1.0, links))
    return Genotype(
        (first, (Connection(op, 1, 1.0, links),)), 4, 1, (1,), (("return", "raw"), ("volume", "raw")), assets, share
    )


def network(op: str, share: str = "all") -> torch.nn.Module:
    """With a head that is not small, so that differences show."""
    made = network_of(genotype(op, share), 0)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith(("head", "embedding")):
                weight.normal_(generator=torch.Generator().manual_seed(1))
    return made


def inputs(seed: int = 0, bars: int = BARS, late: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """x [asset, 2, bar] and who is known [asset, bar]: D is listed late, B misses bars."""
    x = np.random.default_rng(seed).normal(size=(4, 2, bars)).astype(np.float32)
    known = np.ones((4, bars), dtype=bool)
    known[3, :late] = False
    known[1, 50:53] = False
    return np.where(known[:, None], x, 0.0).astype(np.float32), known


def forecasts(made: torch.nn.Module, x: np.ndarray, known: np.ndarray) -> np.ndarray:
    out = forecast_sequence(made, with_presence(x, known), 0, x.shape[-1])[:, 0]
    return np.where(known, out, np.nan)


@pytest.mark.parametrize("op", ACROSS_OPS)
def test_future_of_any_asset_changes_nothing_before_it(op: str) -> None:
    made, (x, known) = network(op), inputs()
    before, cut = forecasts(made, x, known), 80
    for asset in range(4):
        changed, gone = x.copy(), known.copy()
        changed[asset, :, cut:] += 3.0
        assert np.array_equal(forecasts(made, changed, known)[:, :cut], before[:, :cut], equal_nan=True)
        gone[asset, cut:] = False
        assert np.array_equal(forecasts(made, x, gone)[:, :cut], before[:, :cut], equal_nan=True)


@pytest.mark.parametrize("op", ACROSS_OPS)
def test_some_other_asset_is_read(op: str) -> None:
    made, (x, known) = network(op), inputs()
    before = forecasts(made, x, known)
    changed = x.copy()
    changed[0, :, 80:] += 3.0  # A leads B in the links
    assert np.abs(forecasts(made, changed, known) - before)[1, 80:].max() > 1e-4


@pytest.mark.parametrize("op", ACROSS_OPS)
def test_order_of_the_assets_only_reorders_the_forecasts(op: str) -> None:
    x, known = inputs()
    order = [2, 0, 3, 1]
    plain = network(op)
    turned = network_of(replace(genotype(op), assets=tuple(ASSETS[k] for k in order)), 0)
    turned.load_state_dict(plain.state_dict())
    np.testing.assert_allclose(
        forecasts(turned, x[order], known[order]), forecasts(plain, x, known)[order], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("op", ACROSS_OPS)
def test_an_asset_that_is_never_known_changes_nothing(op: str) -> None:
    x, known = inputs()
    plain = network(op)
    wider = network_of(replace(genotype(op), assets=(*ASSETS, "NEW")), 0)
    wider.load_state_dict(plain.state_dict())
    noise = np.random.default_rng(9).normal(size=(1, 2, BARS)).astype(np.float32)
    got = forecasts(wider, np.concatenate([x, noise]), np.concatenate([known, np.zeros((1, BARS), bool)]))
    np.testing.assert_allclose(got[:4], forecasts(plain, x, known), rtol=0, atol=1e-6)


@pytest.mark.parametrize("op", ACROSS_OPS)
def test_values_of_bars_that_are_not_known_are_not_read(op: str) -> None:
    """By other assets: their forecasts do not move with what stands where D is not listed."""
    made, (x, known) = network(op), inputs()
    changed = x.copy()
    changed[3, :, 10:30] = 5.0
    window = slice(30 - 1, 30)  # D's own past reaches its later bars, so only bars before its listing are compared
    before, after = forecasts(made, x, known), forecasts(made, changed, known)
    assert np.array_equal(before[:3, : window.stop], after[:3, : window.stop], equal_nan=True)


@pytest.mark.parametrize("op", ACROSS_OPS)
def test_sequence_equals_the_window_of_its_receptive_field(op: str) -> None:
    made, (x, known) = network(op), inputs(bars=200)
    whole = forecasts(made, x, known)
    reach = int(made.receptive_field)  # type: ignore[arg-type]
    for t in (150, 199):
        begin = max(0, t + 1 - reach)
        part = forecasts(made, x[:, :, begin : t + 1], known[:, begin : t + 1])[:, -1]
        np.testing.assert_allclose(part, whole[:, t], rtol=0, atol=1e-6)


def test_supernet_cell_equals_its_reference_with_gradients() -> None:
    ops = ("zero", "conv3", *ACROSS_OPS)
    edges = [Edge(0, 0, ops), Edge(0, 1, ops), Edge(1, 1, ops)]
    torch.manual_seed(0)
    cell = Cell(edges, 2, 4).double()
    known = torch.from_numpy(inputs()[1]).T[:, None].double()
    cell.leads = dict.fromkeys(range(3), fixed_leads(LINKS, ASSETS))
    x = torch.randn(BARS, 4, 4, dtype=torch.float64)
    mix = torch.rand(3 * len(ops), dtype=torch.float64, requires_grad=True)
    got, wanted = cell(x, mix, None, Market(known)), reference_forward(cell, x, mix, None, Market(known))
    torch.testing.assert_close(got, wanted, atol=1e-9, rtol=0)
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), mix), torch.autograd.grad(wanted.square().sum(), mix), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("op", ACROSS_OPS)
def test_op_has_about_unit_variance_on_correlated_inputs_and_a_cost(op: str) -> None:
    torch.manual_seed(0)
    common = torch.randn(600, 1, 16)
    x = 0.6**0.5 * common + 0.4**0.5 * torch.randn(600, 8, 16)
    names = tuple(f"N{k}" for k in range(8))
    cell = Cell([Edge(0, 0, (op,))], 1, 16)
    cell.leads = {0: fixed_leads([Link(n, names[k - 1], 2, 1.0) for k, n in enumerate(names)], names)}
    out = get_op(op).gain * cell.across(get_op(op).kind, 0, x, Market(torch.ones(600, 1, 8)))
    assert 0.3 < float(out[100:].detach().std()) < 2.0


def leading(bars: int = 4_000, lag: int = 3, strength: float = 0.15, seed: int = 0) -> np.ndarray:
    """[asset, bar]: A leads B by `lag`; all are correlated at the same bar."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(4, bars + lag))
    out = 0.8 * own + 0.6 * rng.normal(size=bars + lag)
    out[1, lag:] += strength * out[0, :-lag]
    return out[:, lag:]


def test_planted_lead_is_found_with_its_lag_and_nothing_else() -> None:
    found = candidates(leading(), [slice(0, 4_000)])
    links = chosen_links(found, ASSETS)
    assert [(k.follower, k.leader, k.lag) for k in links] == [("B", "A", 3)]
    assert links[0].weight > 0.5


def test_unrelated_assets_have_no_leader() -> None:
    """1% of such markets may show one."""
    false = [candidates(leading(2_000, strength=0.0, seed=s), [slice(0, 2_000)]).any for s in range(20)]
    assert sum(false) <= 1


def test_evidence_is_equivariant_and_blind_to_what_lies_outside_its_bars() -> None:
    returns, order = leading(), [3, 1, 0, 2]
    np.testing.assert_allclose(evidence(returns[order]), evidence(returns)[np.ix_(order, order)], atol=1e-9)
    changed = returns.copy()
    changed[:, 3_000:] = 7.0
    before, after = (candidates(r, [slice(0, 3_000)]) for r in (returns, changed))
    assert torch.equal(before.score, after.score)
    masked = np.concatenate([returns, np.full((1, 4_000), np.nan)])
    assert torch.equal(candidates(masked, [slice(0, 4_000)]).score[:4], candidates(returns, [slice(0, 4_000)]).score)


def test_gradient_moves_the_weight_between_lags() -> None:
    found = Candidates(
        torch.tensor([[0, 0]]), torch.tensor([[2, 5]]), torch.ones(1, 2), torch.tensor([[6.0, 5.9]]), 3.5
    )
    preference = torch.zeros(12, requires_grad=True)
    (gradient,) = torch.autograd.grad(found.leads(preference).weight[0, 1], preference)
    assert gradient[4] > 0 > gradient[1]
    moved = torch.zeros(12)
    moved[4] = 1.0
    assert chosen_links(found, ["A"])[0].lag == 2
    assert chosen_links(found, ["A"], moved)[0].lag == 5


def tensors(returns: np.ndarray) -> Tensors:
    """The return and a column of noise; the label is the next bar's return."""
    rng = np.random.default_rng(1)
    x = np.stack([returns, rng.normal(size=returns.shape)], 1).astype(np.float32)
    y = np.zeros((len(returns), 1, returns.shape[1]), dtype=np.float32)
    y[:, 0, :-1] = returns[:, 1:]
    weight = torch.ones(len(returns), 1, returns.shape[1])
    return Tensors(
        torch.from_numpy(with_presence(x, np.ones((len(x), x.shape[-1]), bool))), torch.from_numpy(y), weight, returns
    )


def space(ops: tuple[str, ...], share: str = "all", assets: tuple[str, ...] = ASSETS) -> SearchSpace:
    return SearchSpace(ops=ops, nodes=1, channels=4, assets=assets, share=share).with_features(
        {"return": ("raw",), "noise": ("raw",)}
    )


def test_search_tells_who_leads_and_its_genotype_survives_json() -> None:
    returns = leading(2_000, strength=0.5)
    ops = ("zero", "identity", "ema12", "cross_zscore", "lead_lag")
    found = search(
        space(ops), tensors(returns), slice(50, 1_300), slice(1_330, 1_900), SearchSettings(epochs=6, length=128), 0
    )
    links = [link for node in found.genotype.nodes for c in node for link in c.links]
    assert [(k.follower, k.leader, k.lag) for k in links] == [("B", "A", 3)]
    assert "A leads B by 3" in found.text
    again = Genotype.from_dict(found.genotype.to_dict())
    assert again.key() == found.genotype.key()
    assert again.assets == ASSETS
    assert "A leads B by 3" in found.svg


def test_search_cannot_choose_lead_lag_where_nobody_leads() -> None:
    returns = leading(2_000, strength=0.0)
    ops = ("zero", "identity", "lead_lag")
    found = search(
        space(ops), tensors(returns), slice(50, 1_300), slice(1_330, 1_900), SearchSettings(epochs=2, length=128), 0
    )
    assert not any(c.op == "lead_lag" for node in found.genotype.nodes for c in node)


@pytest.mark.parametrize("share", ["none", "embedding"])
@pytest.mark.parametrize("op", ["conv3", "cross_attention"])
def test_assets_may_have_weights_or_a_vector_of_their_own(share: str, op: str) -> None:
    made, (x, known) = network(op, share), inputs()
    assert isinstance(made, PerAsset) == (share == "none")
    before = forecasts(made, x, known)
    same = np.broadcast_to(x[:1], x.shape)
    everywhere = np.ones_like(known)
    alike = forecasts(made, np.ascontiguousarray(same), everywhere)
    assert np.abs(alike[0] - alike[1]).max() > 1e-3
    if op == "conv3":
        changed = x.copy()
        changed[0] += 1.0
        assert np.array_equal(forecasts(made, changed, known)[1:], before[1:], equal_nan=True)


def test_one_asset_refuses_ops_and_shares_of_several() -> None:
    for wrong in ({"ops": ("zero", "market")}, {"share": "none"}, {"share": "half", "assets": ASSETS}):
        with pytest.raises(InputError):
            SearchSpace(**wrong)  # type: ignore[arg-type]


def test_batches_of_assets_read_together_are_one_stretch_of_time() -> None:
    values = tensors(leading(600))
    generator = torch.Generator().manual_seed(0)
    for x, y, w in batches(values, slice(50, 500), length=100, batch=8, context=20, generator=generator):
        assert x.shape[1:] == (4, 3, 120)
        assert y.shape == (x.shape[0] * 4, 1, 100)
        assert w.shape == (x.shape[0] * 4, 1, 100)
        flat: Tensor = x.flatten(0, 1)[:, 0, 21:]
        torch.testing.assert_close(flat, y[:, 0, :-1])  # the label of a bar is the next bar's input, of the same asset


@pytest.mark.parametrize("assets", [2, 4])
def test_eigenvalue_is_measured_on_as_many_stretches_as_a_step_is_taken_on(assets: int) -> None:
    values = tensors(leading(600)[:assets])
    where = space(("zero", "identity"), assets=ASSETS[:assets])
    splits = ((slice(50, 300),), (slice(320, 580),))
    run = SearchRun(where, values, splits, SearchSettings(length=64), 0, get_variant("darts"), Stage(), None)
    stretches = max(len(y) for _, y, _ in run.batches(run.train_bars))
    assert stretches == 4
    assert len(run.fixed_batch[1]) == stretches


def test_default_ops_stay_those_of_one_asset() -> None:
    assert not any(OPS[name].across for name in DEFAULT_OPS)
