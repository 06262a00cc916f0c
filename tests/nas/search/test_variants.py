"""Every variant on the one loop: runs, repeats itself to the bit, and does what it is named for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.panel import InputError
from nas.network.reference import reference_forward
from nas.network.stretches import Tensors, alternating
from nas.search.diagnostics import EigenvalueStop
from nas.search.loop import search
from nas.search.parts import Stage
from nas.search.run import SearchRun
from nas.search.selection import random_genotype
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture, supernet_of
from nas.search.variants import VARIANTS, get_variant
from nas.space.ops import DEFAULT_OPS, SKIPS
from nas.space.search_space import SearchSpace

BARS = 1_200
SPACE = SearchSpace(
    ops=("zero", "identity", "conv3", "ema4", "diff1"), nodes=2, channels=8, horizons=(1, 4), edges_per_node=1,
    features=(("return", ("raw", "rank")), ("volume", ("raw",))),
)  # fmt: skip
SETTINGS = SearchSettings(epochs=4, length=128, alpha_warmup_epochs=1)
TRAIN, VALIDATION = slice(60, 700), slice(760, 1_150)


def noise(seed: int = 0, horizons: int = 2) -> Tensors:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((1, 3, BARS)).astype(np.float32))
    y = torch.from_numpy(rng.standard_normal((1, horizons, BARS)).astype(np.float32))
    return Tensors(x, y, torch.ones(1, 1, BARS))


def find(name: str, space: SearchSpace = SPACE, settings: SearchSettings = SETTINGS, seed: int = 0):  # type: ignore[no-untyped-def]
    return search(space, noise(), TRAIN, VALIDATION, settings, seed, variant=name)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_finds_a_cell_that_can_be_built_and_repeats_itself(name: str) -> None:
    found = find(name)
    assert found == find(name)
    assert found.variant == name
    assert all(node for node in found.genotype.nodes)  # no node without input
    assert all(c.op != "zero" for node in found.genotype.nodes for c in node)
    assert found.genotype.features
    for row in found.history:
        assert {"train_loss", "validation_loss", "entropy", "feature_entropy", "temperature", "eigenvalue", "gap",
                "gradient_norm", "op_weights", "op_histogram"} <= set(row)  # fmt: skip
        assert np.isfinite([row["train_loss"], row["validation_loss"]]).all()
    if found.history:
        assert np.isfinite(found.history[-1]["gap"])
    if get_variant(name).order > 0:
        assert any(row["gradient_norm"] for row in found.history)
        assert any(row["eigenvalue"] for row in found.history)


def test_an_unknown_variant_is_named_with_what_there_is() -> None:
    with pytest.raises(InputError, match="no search variant 'dart'; there are darts, darts-2nd"):
        find("dart")


@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if v.selection != "random"])
def test_the_mix_of_every_variant_folds_to_the_reference(name: str) -> None:
    variant = get_variant(name)
    run = SearchRun(SPACE, noise(), ((TRAIN,), (VALIDATION,)), SETTINGS, 0, variant, Stage(), None)
    run.architecture.auxiliary_weight = 0.7 * (variant.auxiliary > 0)
    noisy = variant.weight_relaxation(0.5) if variant.weight_relaxation else None
    mix = run.architecture.mix(run.draw, noisy)
    cell = run.network.cells[0].double()
    x = torch.randn(60, 2, 8, dtype=torch.float64)
    ops, bypass = mix.ops.double(), None if mix.bypass is None else mix.bypass.double()
    assert torch.allclose(cell(x, ops, bypass), reference_forward(cell, x, ops, bypass), atol=1e-5)


def test_second_order_moves_alpha_elsewhere_than_first_order() -> None:
    first, finite, exact = (np.array(find(n).op_weights) for n in ("darts", "darts-2nd", "darts-2nd-exact"))
    assert np.abs(finite - exact).max() < 2e-3  # float32 differences against autograd
    assert np.abs(first - exact).max() > 1e-4


def test_pc_darts_keeps_fewer_activations_for_the_backward_pass() -> None:
    def kept_bytes(partial: int) -> int:
        space = replace(SPACE, channels=16, ops=DEFAULT_OPS)
        architecture = Architecture(space, generator=torch.Generator().manual_seed(0), normalised=partial > 1)
        network, seen = supernet_of(space, 0, partial=partial), {}
        network.cells[0].fused = None  # compiled kernels keep theirs in arrays of their own

        def pack(value: torch.Tensor) -> torch.Tensor:
            seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            network(torch.randn(2, 3, 4_000), *architecture.mix())
        return sum(seen.values())

    assert kept_bytes(4) < 0.6 * kept_bytes(1)


def test_eigenvalue_stop_rolls_back_to_an_earlier_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    rising = iter([1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    monkeypatch.setattr(SearchRun, "eigenvalue", lambda self: next(rising))
    monkeypatch.setitem(
        VARIANTS, "plus", replace(VARIANTS["plus"], eigenvalue_stop=EigenvalueStop(window=1, delta=1, every=50 / 8))
    )
    found = find("plus", settings=replace(SETTINGS, epochs=8))
    assert len(found.history) == 4
    assert "back to epoch 2" in found.note
    assert np.allclose(np.array(found.op_weights), np.array(found.history[2]["op_weights"]), atol=1e-5)


def test_skip_count_stops_before_the_cell_fills_with_skips() -> None:
    space = replace(SPACE, ops=("identity", "skip"))
    found = find("plus-skips", space)
    assert len(found.history) == 2
    assert "2 skips" in found.note


def test_progressive_search_narrows_the_ops_and_deepens_the_network() -> None:
    space = replace(SPACE, cells=3)
    found = find("progressive", space, replace(SETTINGS, epochs=6))
    alive = [sum(w > 0 for w in row["op_weights"][0]) for row in found.history]
    assert alive == [5, 5, 3, 3, 2, 2]
    runs = [SearchRun(space, noise(), ((TRAIN,), (VALIDATION,)), SETTINGS, 0, get_variant("progressive"), s, None)
            for s in get_variant("progressive").stages]  # fmt: skip
    assert [len(r.network.cells) for r in runs] == [1, 2, 3]
    assert sum(c.op in SKIPS for node in found.genotype.nodes for c in node) <= 2


@pytest.mark.parametrize("epochs", [1, 2])
def test_progressive_search_of_fewer_epochs_than_stages_learns_in_the_last(epochs: int) -> None:
    found = find("progressive", settings=replace(SETTINGS, epochs=epochs))
    assert [row["epoch"] for row in found.history] == list(range(epochs))


def test_random_genotypes_use_all_ops_and_are_drawn_by_their_seed() -> None:
    drawn = [random_genotype(SPACE, torch.Generator().manual_seed(s)) for s in range(40)]
    assert {c.op for g in drawn for node in g.nodes for c in node} == set(SPACE.ops) - {"zero"}
    assert drawn[3] == random_genotype(SPACE, torch.Generator().manual_seed(3))


def test_alternating_blocks_never_touch_within_the_purge() -> None:
    weights, alphas = alternating(slice(100, 2_000), slice(2_050, 3_000), 3, 40)
    parts = sorted([*weights, *alphas], key=lambda s: s.start)
    assert (parts[0].start, parts[-1].stop, len(parts)) == (100, 3_000, 6)
    assert all(b.start - a.stop >= 40 for a, b in itertools.pairwise(parts))
    with pytest.raises(InputError, match="use fewer blocks"):
        alternating(slice(0, 100), slice(120, 200), 10, 40)
    assert find("darts", settings=replace(SETTINGS, blocks=2)).history


def broken(**changes: torch.Tensor) -> Tensors:
    values = noise()
    return Tensors(changes.get("x", values.x), changes.get("y", values.y), changes.get("weight", values.weight))


@pytest.mark.parametrize(
    ("tensors", "train", "message"),
    [
        (broken(), slice(60, 61), "the training stretch has 1 bar, a search needs at least 16; make it longer"),
        (broken(x=noise().x * float("nan")), TRAIN, "the inputs hold NaN or infinite values"),
        (broken(x=noise().x[:, :2]), TRAIN, "3 candidate pipelines, the inputs have 2 columns"),
        (broken(weight=torch.zeros(1, 1, BARS)), TRAIN, "no bar of the training stretch has all inputs"),
        (broken(y=noise().y[:, :1]), TRAIN, "2 horizons, the labels have 1"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_what_to_change(tensors: Tensors, train: slice, message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(SPACE, tensors, train, VALIDATION, SETTINGS, 0)


def test_one_channel_and_one_op_are_small_but_searchable() -> None:
    assert find("darts", replace(SPACE, channels=1)).genotype.channels == 1
    found = find("darts", replace(SPACE, ops=("ema4",)))
    assert found.history[-1]["entropy"] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(InputError, match="1 channels are no multiple of 4"):
        find("pc", replace(SPACE, channels=1))


def test_an_exploding_loss_names_the_learning_rate() -> None:
    with pytest.raises(InputError, match=r"the weights exploded; lower learning_rate \(1e\+30\)"):
        find("darts", settings=replace(SETTINGS, learning_rate=1e30, epochs=8))


@pytest.mark.parametrize("loss", ["huber", "direction", "sharpe"])
def test_every_loss_can_be_searched_by(loss: str) -> None:
    assert find("darts", settings=replace(SETTINGS, loss=loss)).history[-1]["train_loss"] != 0.0


def test_of_two_ops_that_forecast_alike_the_one_without_parameters_wins() -> None:
    """A convolution imitates a difference; only its price tells them apart (benchmarks.recovery plants every op)."""
    from benchmarks.recovery import Trial, run

    assert run(Trial(0, "darts", "diff1"))["chosen"] == ["diff1"]


def test_weights_at_their_ends_are_counted_among_those_that_took_part() -> None:
    from types import SimpleNamespace

    from benchmarks.long_search import at_the_ends

    found = SimpleNamespace(op_weights=((0.0, 0.1, 0.9), (0.5, 0.86, 0.0)))  # 0: out of the race
    assert at_the_ends(found) == 0.75  # type: ignore[arg-type]


def test_an_epoch_may_look_at_a_sample_of_the_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    original = SearchRun.weight_step
    monkeypatch.setattr(SearchRun, "weight_step", lambda self, batch: steps.append(1) or original(self, batch))
    whole = len(find("darts", settings=replace(SETTINGS, epochs=1, batch=1)).history and steps)
    steps.clear()
    find("darts", settings=replace(SETTINGS, epochs=1, batch=1, fraction=0.5))
    assert (whole, len(steps)) == (6, 3)


def test_the_search_runs_on_a_proxy_and_the_genotype_is_built_larger() -> None:
    space = replace(SPACE, search_channels=4, channels=12, cells=2, search_cells=1)
    network = supernet_of(space, 0)
    assert (len(network.cells), network.stem.shape[1]) == (1, 4)
    found = find("darts", space)
    assert (found.genotype.channels, found.genotype.cells) == (12, 2)


def test_skip_dropout_acts_in_both_steps_and_never_where_the_search_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: dict[str, list[float]] = {"alpha_step": [], "weight_step": [], "validation": []}
    for name in rates:
        original = getattr(SearchRun, name)

        def watched(self, *given, name=name, original=original):  # type: ignore[no-untyped-def]
            dropout = self.network.cells[0].skip_dropout
            rates[name].append(0.0 if dropout is None else dropout[0])
            return original(self, *given)

        monkeypatch.setattr(SearchRun, name, watched)
    find("progressive", settings=replace(SETTINGS, epochs=9, alpha_warmup_epochs=0))
    assert set(rates["validation"]) == {0.0}
    for name in ("alpha_step", "weight_step"):
        assert max(rates[name]) == 0.7
        assert min(rates[name]) == 0.0
