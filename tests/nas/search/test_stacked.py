"""A stack of searches is those searches, each as if alone: held to the ordinary loop on the same functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.errors import InputError
from nas.network.paths import torch_only
from nas.network.stretches import Tensors
from nas.search.loop import search
from nas.search.result import SearchResult
from nas.search.run import SearchRun
from nas.search.settings import SearchSettings
from nas.search.stack import Stack
from nas.search.stacked import Member, bytes_of, search_stacked, signature
from nas.search.variants import VARIANTS, get_variant
from nas.space.search_space import SearchSpace

BARS = 1_000
SPACE = SearchSpace(
    ops=("zero", "identity", "conv3", "ema4", "attention"), nodes=1, channels=4,
    features=(("price", ("raw", "diff")), ("volume", ("raw",))),
)  # fmt: skip
SETTINGS = SearchSettings(epochs=5, length=64, alpha_warmup_epochs=1, feature_steps=6, diagnostics_every=4)
STACKED = [
    "darts",
    "pc",
    "fair",
    "beta",
    "sdarts",
    "gdas",
    "drnas",
    "random-ws",
    "darts+parameters+extra-skip+l2",
    "latency",
]


@pytest.fixture
def double() -> Iterator[None]:
    """In double precision rounding is 1e-16, so that what is left of a difference of 1e-9 would be a difference of method."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def market(seed: int, bars: int = BARS, assets: int = 2) -> Tensors:
    """The label leans on the last move of the first column."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((assets, 3, bars))
    y = 0.6 * np.diff(x[:, :1], prepend=0.0) + rng.standard_normal((assets, 1, bars))
    weight = (rng.random((assets, 1, bars)) > 0.1).astype(float)
    return Tensors(*(torch.from_numpy(part).to(torch.get_default_dtype()) for part in (x, y, weight)))


def members(count: int = 3) -> list[Member]:
    """Seeds and windows: the first two share a window, the others have their own bars and their own scaling."""
    shared = market(0)
    found = [Member(shared, slice(100, 400), slice(470, 640), seed) for seed in (0, 1)]
    found += [
        Member(market(k), slice(100 + 90 * k, 400 + 90 * k), slice(470 + 90 * k, 640 + 90 * k), k) for k in (2, 3)
    ]
    return found[:count]


def alone(each: Member, settings: SearchSettings = SETTINGS, variant: str = "darts") -> SearchResult:
    with torch_only():
        return search(
            SPACE, each.tensors, each.train, each.validation, settings, each.seed, variant=variant, initial=each.initial
        )


def assert_same(found: SearchResult, wanted: SearchResult, tolerance: float) -> None:
    # its weights are compared below: a genotype holds them to the last bit
    assert (found.genotype.key(), found.genotype.features) == (wanted.genotype.key(), wanted.genotype.features)
    assert np.allclose(found.op_weights, wanted.op_weights, rtol=0.0, atol=tolerance)
    assert np.allclose(found.feature_weights, wanted.feature_weights, rtol=0.0, atol=tolerance)
    assert len(found.history) == len(wanted.history)
    for a, b in zip(found.history, wanted.history, strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            if isinstance(value, float):
                assert a[name] == pytest.approx(value, rel=10 * tolerance, abs=tolerance), name
            elif name == "forces" and value is not None:
                assert a[name] == pytest.approx(value, rel=10 * tolerance, abs=tolerance)
            elif name == "op_weights":  # rounded to five digits
                assert np.allclose(a[name], value, rtol=0.0, atol=1.1e-5)
            else:
                assert a[name] == value, name


@pytest.mark.parametrize("variant", STACKED)
@pytest.mark.usefixtures("double")
def test_every_search_of_a_stack_is_the_ordinary_search(variant: str) -> None:
    every = members(4)
    for each, found in zip(every, search_stacked(SPACE, every, SETTINGS, variant=variant), strict=True):
        assert_same(found, alone(each, variant=variant), 1e-9)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "changes",
    [{"blocks": 2, "length": 32}, {"repeats": 2}, {"loss": "sharpe"}, {"fraction": 0.5, "random_init": True}],
    ids=str,
)
def test_settings_mean_in_a_stack_what_they_mean_alone(changes: dict[str, object]) -> None:
    settings, every = replace(SETTINGS, **changes), members(3)  # type: ignore[arg-type]
    # blocks of one market are no windows of another's bars: the stretches must begin where the shortest purge allows
    every = [replace(each, train=slice(60, 500), validation=slice(500, 940)) for each in every]
    for each, found in zip(every, search_stacked(SPACE, every, settings), strict=True):
        assert_same(found, alone(each, settings), 1e-9)


@pytest.mark.usefixtures("double")
def test_a_warm_start_is_each_searchs_own() -> None:
    before = alone(members(1)[0])
    every = [replace(each, initial=(before.op_weights, before.feature_weights)) for each in members(1)] + members(2)[1:]
    for each, found in zip(every, search_stacked(SPACE, every, SETTINGS), strict=True):
        assert_same(found, alone(each), 1e-9)


@pytest.mark.usefixtures("double")
def test_bars_without_the_whole_context_before_them_are_forecast_as_alone() -> None:
    every = [Member(market(k), slice(300, 700), slice(5, 200), k) for k in (0, 1)]
    for each, found in zip(every, search_stacked(SPACE, every, SETTINGS), strict=True):
        assert_same(found, alone(each), 1e-9)


def test_in_single_precision_searches_differ_by_rounding() -> None:
    every = members(3)
    for each, found in zip(every, search_stacked(SPACE, every, SETTINGS), strict=True):
        assert_same(found, alone(each), 2e-5)


def same_bytes(a: Sequence[SearchResult], b: Sequence[SearchResult]) -> bool:
    return [each.to_json() for each in a] == [each.to_json() for each in b]


@pytest.mark.usefixtures("double")
def test_a_search_does_not_depend_on_its_neighbours() -> None:
    every = members(4)
    whole = search_stacked(SPACE, every, SETTINGS)
    order = [2, 0, 3, 1]
    for place, found in zip(order, search_stacked(SPACE, [every[k] for k in order], SETTINGS), strict=True):
        assert_same(found, whole[place], 1e-9)
    (lonely,) = search_stacked(SPACE, [every[2]], SETTINGS)
    assert_same(lonely, whole[2], 1e-9)


def test_bars_after_the_validation_stretch_change_nothing() -> None:
    every = members(4)

    def future(each: Member) -> Member:
        stop, other = each.validation.stop, market(77)  # type: ignore[union-attr]
        parts = []
        for mine, theirs in ((getattr(each.tensors, n), getattr(other, n)) for n in ("x", "y", "weight")):
            changed = mine.clone()
            changed[..., stop:] = 9.0 * theirs[..., stop:]
            parts.append(changed)
        return replace(each, tensors=Tensors(*parts))

    assert same_bytes(search_stacked(SPACE, every, SETTINGS), search_stacked(SPACE, [*map(future, every)], SETTINGS))


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - set(STACKED)))
def test_what_cannot_be_stacked_is_refused_with_the_reason(variant: str) -> None:
    with pytest.raises(InputError, match=rf"variant {variant} on this space cannot be stacked: .+; search one by one"):
        search_stacked(SPACE, members(2), SETTINGS, variant=variant)


def test_spaces_and_members_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="assets are read together"):
        search_stacked(replace(SPACE, ops=("zero", "market"), assets=("A", "B")), members(2), SETTINGS)
    longer = replace(members(1)[0], train=slice(80, 400))
    with pytest.raises(InputError, match="stack those of equal windows"):
        search_stacked(SPACE, [members(1)[0], longer], SETTINGS)
    one, another = (signature(SPACE, members(4)[k].train, members(4)[k].validation, SETTINGS) for k in (0, 3))
    assert one == another == ((300,), (170,))


def test_a_search_that_explodes_is_named() -> None:
    every = members(2)
    every[1] = replace(every[1], tensors=replace(every[1].tensors, y=1e30 * every[1].tensors.y.clone()))
    with pytest.raises(InputError, match="search 1 of the stack is not finite"):
        search_stacked(SPACE, every, replace(SETTINGS, loss="squared"))


def stack_of(count: int = 3, **changes: bool) -> Stack:
    darts = get_variant("darts")
    runs = [
        SearchRun(SPACE, m.tensors, ((m.train,), (m.validation,)), SETTINGS, m.seed, darts, darts.stages[0], None)  # type: ignore[arg-type]
        for m in members(count)
    ]
    return Stack(runs, **changes)


def test_mixed_precision_rounds_the_forecasts_and_nothing_else() -> None:
    plain, mixed = stack_of(), stack_of(mixed=True)
    batch = plain.batches([run.drawn()[1] for run in plain.runs])[0]
    exact, rounded = (each.losses(each.mixes(), batch) for each in (plain, mixed))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert torch.allclose(exact, rounded, rtol=2e-2)  # bfloat16 has eight bits


def test_memory_is_told_per_search() -> None:
    one, three = (bytes_of(stack_of(count)) for count in (1, 3))
    parameters = sum(p.numel() for p in stack_of(1).first.network.parameters())
    assert one["weights"] == three["weights"] == 4 * 4 * parameters
    assert three["step"] == pytest.approx(one["step"], rel=0.2)  # what all share is shared by more
