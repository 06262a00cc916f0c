"""Who leads whom, and when: evidence by state of the market, links that hold in the volatile market only, what the search makes of them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.panel import InputError, Panel
from data.simulated import MarketRecipe, simulate
from nas.features.bank import build_bank
from nas.network.links import (
    LEAST_ALONE,
    LEAST_BARS,
    MARKET_VOLATILITY,
    SCORE_DEVIATIONS,
    candidates,
    chance_level,
    chosen_links,
    evidence,
)
from nas.network.model import Network, forecast_sequence, network_of
from nas.network.stretches import Tensors, with_presence
from nas.network.training import loss_by_block, standard_error
from nas.search.finalists import final, nominated
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.genotype import Connection, Genotype, Link
from nas.space.ops import ACROSS_OPS
from nas.space.search_space import SearchSpace

Array = np.ndarray
ASSETS = ("A", "B", "C")
BARS = 4_000


def market(strength: float, *, contagion: bool, seed: int = 0, bars: int = BARS) -> tuple[Array, Array]:
    """(returns [asset, bar], volatile [bar]): A leads B by 3, always or where the bar before was volatile; C is unrelated."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(3, bars))
    out = 0.8 * own + 0.6 * rng.normal(size=bars)
    volatile = (np.arange(bars) // 60) % 4 == 0
    known_before = np.concatenate([[False], volatile[:-1]])
    out[1, 3:] += strength * out[0, :-3] * (known_before[3:] if contagion else 1.0)
    return out, volatile


def plain_score(now: Array, own: Array, leader: Array, news: Array | None) -> float:
    """As the formula reads: both sides less what the others tell of them, score of the Huber loss, White's standard error."""
    other = np.stack([own] if news is None else [own, news], 1)
    target, lead = (values - other @ np.linalg.lstsq(other, values, rcond=None)[0] for values in (now, leader))
    product = np.clip(target, -SCORE_DEVIATIONS, SCORE_DEVIATIONS) * lead
    return float(product.sum() / np.sqrt((product**2).sum()))


def test_evidence_is_its_formula_with_gaps_and_by_state() -> None:
    returns, volatile = market(0.3, contagion=False, bars=700)
    returns[:, ::53] = np.nan
    returns[2, :200] = np.inf
    got = evidence(returns, volatile, 4)
    assert got.shape == (3, 3, 2, 4)
    seen = 0
    for i, j, state, lag in np.ndindex(3, 3, 2, 4):
        earlier, now = returns[:, : -lag - 1], returns[:, lag + 1 :]
        counted = np.isfinite(earlier[[i, j]]).all(0) & np.isfinite(now[[i, j]]).all(0)
        if state:
            counted &= volatile[lag:-1]
        part = now[i][counted], earlier[i][counted], earlier[j][counted]
        wanted = 0.0
        if i != j and counted.sum() >= LEAST_BARS:
            alone, score = plain_score(*part, None), plain_score(*part, now[j][counted])
            wanted = score if alone * np.sign(score) >= LEAST_ALONE else 0.0
        assert got[i, j, state, lag] == pytest.approx(wanted, abs=1e-9)
        seen += wanted != 0.0
    assert 3 <= seen <= 20


def test_contagion_is_found_in_its_state_and_a_constant_lead_always() -> None:
    for contagion, state in ((True, "volatile"), (False, "")):
        for seed in range(3):
            returns, volatile = market(0.35 if contagion else 0.15, contagion=contagion, seed=seed)
            links = chosen_links(candidates(returns, [slice(0, BARS)], volatile), ASSETS)
            assert [(k.follower, k.leader, k.lag, k.state) for k in links] == [("B", "A", 3, state)]


def test_unrelated_assets_lead_in_no_state() -> None:
    """1% of such markets may show a link."""
    shown = 0
    for seed in range(40):
        returns, volatile = market(0.0, contagion=False, seed=seed, bars=1_500)
        shown += candidates(returns, [slice(0, 1_500)], volatile).any
    assert shown <= 2
    assert chance_level(3, 12, 2) > chance_level(3, 12, 1)


@pytest.mark.parametrize("lead", [0.0, 0.12])
def test_a_leader_that_leads_itself_gets_no_link_of_the_wrong_sign(lead: float) -> None:
    """A goes on as its own bar before told; B follows A's surprise alone, at once. Given A's present, A's past moves B the other way;
    what B's bar really has of A's past, nothing or `lead`, decides."""
    rng = np.random.default_rng(1)
    surprise, a, own = rng.normal(size=BARS), np.zeros(BARS), rng.normal(size=BARS)
    for t in range(1, BARS):
        a[t] = 0.4 * a[t - 1] + surprise[t]
    returns = np.stack([a, 0.6 * surprise + 0.8 * own, rng.normal(size=BARS)])
    returns[1, 1:] += lead * a[:-1]
    score = evidence(returns)[1, 0, 0, 0]
    assert plain_score(returns[1, 1:], returns[1, :-1], a[:-1], a[1:]) < -6.0
    assert score == 0.0


def test_evidence_by_state_is_equivariant_and_blind_to_what_lies_outside_its_bars() -> None:
    returns, volatile = market(0.3, contagion=True)
    order = [2, 0, 1]
    np.testing.assert_allclose(
        evidence(returns[order], volatile), evidence(returns, volatile)[np.ix_(order, order)], atol=1e-9
    )
    changed, other = returns.copy(), volatile.copy()
    changed[:, 3_000:] = 7.0
    other[3_000:] = ~other[3_000:]
    before = candidates(returns, [slice(0, 3_000)], volatile)
    assert before.any
    assert torch.equal(before.score, candidates(changed, [slice(0, 3_000)], other).score)
    # the state of a bar counts for the next one: the last bar's own decides nothing
    flipped = volatile.copy()
    flipped[-1] = not flipped[-1]
    assert np.array_equal(evidence(returns, volatile), evidence(returns, flipped))


LINKS = (Link("B", "A", 3, 0.9, "volatile"), Link("C", "A", 1, -0.7), Link("A", "C", 2, 0.8, "volatile"))


def gated(assets: tuple[str, ...] = ASSETS, links: tuple[Link, ...] = LINKS) -> Genotype:
    first = (Connection("conv3", 0), Connection("lead_lag", 0, 1.0, links))
    return Genotype((first, (Connection("conv3", 1),)), 4, 1, (1,), (MARKET_VOLATILITY, ("return", "raw")), assets)


def network(genotype: Genotype) -> Network:
    made = network_of(genotype, 0)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith("head"):
                weight.normal_(generator=torch.Generator().manual_seed(1))
    return made


def inputs(bars: int = 160) -> tuple[Array, Array]:
    """x [asset, (market volatility, return), bar] and who is known; volatile from bar 60 to 99."""
    x = np.random.default_rng(0).normal(size=(3, 2, bars)).astype(np.float32)
    x[:, 0] = np.where((np.arange(bars) >= 60) & (np.arange(bars) < 100), 1.5, -0.4)
    known = np.ones((3, bars), dtype=bool)
    known[2, :20] = False
    known[0, 70:73] = False
    return np.where(known[:, None], x, 0.0).astype(np.float32), known


def forecasts(made: Network, x: Array, known: Array) -> Array:
    out = forecast_sequence(made, with_presence(x, known), 0, x.shape[-1])[:, 0]
    return np.where(known, out, np.nan)


def test_a_link_of_the_volatile_market_gives_nothing_elsewhere() -> None:
    made, (x, known) = network(gated()), inputs()
    before = forecasts(made, x, known)
    for bar, reaches in ((30, False), (75, True), (120, False)):
        changed = x.copy()
        changed[0, 1, bar] += 3.0  # A's return: B is two bars from it, C (which A always leads) none
        moved = np.nan_to_num(np.abs(forecasts(made, changed, known) - before))
        assert (moved[1].max() > 1e-3) == reaches
        assert moved[2].max() > 1e-3
        assert not moved[:, :bar].any()


def test_future_of_any_asset_and_of_the_state_changes_nothing_before_it() -> None:
    made, (x, known) = network(gated()), inputs()
    before, cut = forecasts(made, x, known), 80
    for asset in range(3):
        changed, gone = x.copy(), known.copy()
        changed[asset, :, cut:] *= -2.0
        gone[asset, cut:] = False
        for values, here in ((changed, known), (x, gone)):
            after = forecasts(made, values, here)
            assert np.array_equal(after[:, :cut], before[:, :cut], equal_nan=True)
            assert not np.array_equal(after[:, cut:], before[:, cut:], equal_nan=True)


def test_gated_links_are_equivariant_and_an_asset_that_is_never_known_changes_nothing() -> None:
    x, known = inputs()
    plain = network(gated())
    before, order = forecasts(plain, x, known), [2, 0, 1]
    turned = network_of(gated(tuple(ASSETS[k] for k in order)), 0)
    turned.load_state_dict(plain.state_dict())
    np.testing.assert_allclose(forecasts(turned, x[order], known[order]), before[order], rtol=0, atol=1e-6)
    wider = network_of(gated((*ASSETS, "NEW")), 0)
    wider.load_state_dict(plain.state_dict())
    more = np.concatenate([x, np.full((1, *x.shape[1:]), 9.0, np.float32)])
    got = forecasts(wider, more, np.concatenate([known, np.zeros((1, x.shape[-1]), bool)]))
    np.testing.assert_allclose(got[:3], before, rtol=0, atol=1e-6)


def test_genotype_tells_the_state_in_text_picture_and_json_and_reads_links_without_one() -> None:
    made = gated()
    assert "A leads B by 3 when volatile (+0.90), A leads C by 1 (-0.70)" in str(made)
    raw = made.to_dict()
    assert Genotype.from_dict(raw) == made
    told = raw["cells"][0]["nodes"][0][1]["links"]
    assert [link.get("state") for link in told] == ["volatile", None, "volatile"]
    assert made.key() != gated(links=tuple(replace(link, state="") for link in LINKS)).key()
    from nas.space.drawing import draw_genotype

    assert "A leads B by 3 when volatile (+0.90), 2 more" in draw_genotype(raw)


def test_a_network_of_gated_links_without_the_feature_that_tells_the_state_is_refused() -> None:
    with pytest.raises(InputError, match="market_volatility"):
        network_of(replace(gated(), features=(("return", "raw"),)), 0)


def tensors(returns: Array, volatile: Array) -> Tensors:
    """Market volatility as the search sees it, and the return; the label is the next bar's return."""
    state = np.where(volatile, 1.7, -0.4)
    x = np.stack([np.broadcast_to(state, returns.shape), returns], 1).astype(np.float32)
    y = np.zeros((len(returns), 1, returns.shape[1]), dtype=np.float32)
    y[:, 0, :-1] = returns[:, 1:]
    weight = torch.ones(len(returns), 1, returns.shape[1])
    known = np.ones((len(x), x.shape[-1]), bool)
    return Tensors(torch.from_numpy(with_presence(x, known)), torch.from_numpy(y), weight, returns)


SPACE = SearchSpace(ops=("zero", "identity", "ema12", "lead_lag"), nodes=1, channels=4, assets=ASSETS).with_features(
    {"market_volatility": ("log",), "return": ("raw",)}
)
TRAIN, VALIDATION = slice(50, 1_900), slice(1_930, 2_500)


def test_search_finds_contagion_and_its_network_reads_the_state() -> None:
    returns, volatile = market(0.6, contagion=True, bars=2_520)
    found = search(SPACE, tensors(returns, volatile), TRAIN, VALIDATION, SearchSettings(epochs=4, length=128), 0)
    links = {link for node in found.genotype.nodes for c in node for link in c.links}
    assert {(k.follower, k.leader, k.lag, k.state) for k in links} == {("B", "A", 3, "volatile")}
    assert MARKET_VOLATILITY in found.genotype.features
    assert network_of(found.genotype, 0).volatility_column == 0


def test_a_space_without_the_feature_of_the_state_finds_links_that_always_hold() -> None:
    returns, volatile = market(0.5, contagion=False, bars=2_520)
    whole = tensors(returns, volatile)
    space = replace(SPACE, features=(("return", ("raw",)),))
    part = replace(whole, x=whole.x[:, :, 1:])
    found = search(space, part, TRAIN, VALIDATION, SearchSettings(epochs=3, length=128), 0)
    assert {link.state for node in found.genotype.nodes for c in node for link in c.links} == {""}


def test_a_trial_adds_the_op_beside_what_is_there() -> None:
    base = Genotype(((Connection("conv3", 0),), (), (Connection("conv3", 1),)), 4, 1, (1,), (("return", "raw"),))
    trials = nominated(base)
    assert [[[c.op for c in node] for node in trial.nodes] for trial in trials] == [
        [["lead_lag", "conv3"], [], ["conv3"]],
        [["conv3"], [], ["lead_lag", "conv3"]],
    ]
    assert len(nominated(trials[0])) == 1  # where the op is already there it is not put again


@pytest.mark.parametrize(("worse", "wins"), [(0.0, True), (0.0009, True), (0.0011, False)])
def test_evidence_is_worth_one_standard_error_of_validation_and_no_more(
    monkeypatch: pytest.MonkeyPatch, worse: float, wins: bool
) -> None:
    returns, volatile = market(0.0, contagion=False, bars=2_520)
    base = Genotype(((Connection("ema12", 0),),), 4, 1, (1,), (MARKET_VOLATILITY, ("return", "raw")), ASSETS)
    trial = replace(base, nodes=((Connection("lead_lag", 0, 1.0, LINKS), *base.nodes[0]),))
    losses = itertools.cycle((0.4, 0.4 + worse))  # in the heat and again in the end
    # 4 blocks whose differences have a standard error of 0.001
    blocks = iter((torch.zeros(4).double(), worse + 0.002 * torch.tensor([1.0, -1.0, 1.0, -1.0]).double() * 0.75**0.5))

    class Outcome:
        train_losses = (0.4,)

        def __init__(self) -> None:
            self.validation_losses = (next(losses),)

    monkeypatch.setattr("nas.search.finalists.train", lambda *_: Outcome())
    monkeypatch.setattr("nas.search.finalists.loss_by_block", lambda *_: next(blocks))
    splits = ((TRAIN,), (VALIDATION,))
    won, _ = final([base, trial], SPACE, tensors(returns, volatile), splits, SearchSettings(parameter_cost=0.0), 0)
    assert (won == trial) == wins


def test_losses_by_block_are_those_of_the_validation_bars_in_order() -> None:
    returns, volatile = market(0.0, contagion=False, bars=2_520)
    made, whole = network(gated()), tensors(returns, volatile)
    blocks = loss_by_block(made, whole, (slice(1_930, 1_930 + 480),), int(made.receptive_field))
    assert blocks.shape == (10,)
    changed = replace(whole, y=whole.y.clone())
    changed.y[:, :, 1_930 + 96 : 1_930 + 144] += 5.0
    differs = (loss_by_block(made, changed, (slice(1_930, 1_930 + 480),), int(made.receptive_field)) != blocks).tolist()
    assert differs == [False, False, True] + [False] * 7
    assert standard_error(torch.tensor([1.0, 3.0])) == pytest.approx(1.0)
    assert standard_error(torch.tensor([1.0])) == float("inf")


def simulated(order: tuple[str, ...]) -> Panel:
    start, end = np.datetime64("2024-01-01", "ns"), np.datetime64("2024-02-20", "ns")
    return simulate(order, "60", start=start, end=end, seed=1_000, recipe=MarketRecipe())


def test_order_of_the_symbols_only_reorders_every_feature_and_the_forecasts_that_read_them() -> None:
    names = ("ETHUSDT", "SOLUSDT", "BTCUSDT")
    order = [2, 0, 1]
    turned = tuple(names[k] for k in order)
    one, other = (build_bank(simulated(symbols), "full") for symbols in (names, turned))
    np.testing.assert_allclose(other.values, one.values[order], rtol=1e-4, atol=1e-4)
    pipelines = (("leader_return", "raw"), MARKET_VOLATILITY, ("market_beta", "raw"), ("return", "raw"))
    for op in ACROSS_OPS:
        links = (Link("SOLUSDT", "BTCUSDT", 3, 0.9, "volatile"),) if op == "lead_lag" else ()
        both = Genotype(((Connection("conv3", 0), Connection(op, 0, 1.0, links)),), 4, 1, (1,), pipelines, names)
        plain, again = network(both), network_of(replace(both, assets=turned), 0)
        again.load_state_dict(plain.state_dict())
        made = [
            forecasts(net, np.nan_to_num(part), np.isfinite(part).all(1))
            for net, part in (
                (plain, build_bank(simulated(names), {n: (p,) for n, p in pipelines}).values),
                (again, build_bank(simulated(turned), {n: (p,) for n, p in pipelines}).values),
            )
        ]
        np.testing.assert_allclose(made[1], made[0][order], rtol=0, atol=1e-4)


def test_the_leader_of_leader_return_is_the_asset_of_largest_turnover() -> None:
    panel = simulated(("SOLUSDT", "ETHUSDT", "BTCUSDT"))
    got = build_bank(panel, {"leader_return": ("raw",)}).values[:, 0]
    turnover = panel.field("close") * panel.field("volume")
    seen = set()
    for t in range(200, len(panel), 37):
        leader = int(turnover[t - 167 : t + 1].sum(0).argmax())
        seen.add(leader)
        wanted = 100.0 * np.log(panel.field("close")[t, leader] / panel.field("close")[t - 1, leader])
        np.testing.assert_allclose(got[:, t], wanted, rtol=1e-5)
    assert 0 not in seen  # not the first of the list
