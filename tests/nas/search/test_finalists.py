"""The last round of a search: likeliest architectures, trained apart."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.recovery import SAME, TRAIN, VALIDATION, planted
from data.panel import InputError
from nas.network.model import network_of
from nas.network.stretches import Tensors, alternating
from nas.network.training import Trained, train
from nas.search import finalists, scratch
from nas.search.finalists import final, likeliest
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture
from nas.search.variants import get_variant
from nas.space.discretisation import Rule
from nas.space.genotype import Connection, Genotype
from nas.space.search_space import SearchSpace

SPACE = SearchSpace(ops=("zero", "identity", "conv3", "ema4"), nodes=2, channels=4, features=(("close", ("raw",)),))


def picked(features: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, pipelines[0]) for name, pipelines in features)


def space_of(features: tuple[tuple[str, tuple[str, ...]], ...]) -> SearchSpace:
    return SearchSpace(features=features)


def architecture(rule: Rule = Rule()) -> Architecture:
    made = Architecture(SPACE, generator=torch.Generator().manual_seed(0), rule=rule)
    with torch.no_grad():
        made.ops.zero_()
        made.ops[0] = torch.tensor([5.0, 0.0, 3.0, 2.9])  # zero leads, but never wins
    return made


def test_the_first_finalist_is_what_the_relaxed_weights_choose_and_the_next_one_costs_them_least() -> None:
    made = architecture()
    first, second = likeliest(made, made.genotype(), 2)
    assert first == made.genotype()
    edge = {(c.source, node): c.op for node, row in enumerate(second.nodes) for c in row}
    source, node = SPACE.edges[0]
    # edges 1 and 2 have weights all equal: swapping there costs nothing, so it comes before conv3 -> ema4 on edge 0
    assert edge[source, node] == "conv3"
    everything = likeliest(made, made.genotype(), 100)
    assert len({g.key() for g in everything}) == len(everything)
    assert all(c.op != "zero" for g in everything for row in g.nodes for c in row)


def test_finalists_keep_the_limit_on_skips() -> None:
    made = architecture(Rule(skip_limit=1))
    for genotype in likeliest(made, made.genotype(), 100):
        assert sum(c.op == "identity" for row in genotype.nodes for c in row) <= 1


def test_the_last_round_finds_the_gate_that_the_mixture_gave_away() -> None:
    tensors, features = planted("gated", 1)
    candidates = [
        Genotype(((Connection(op, 0),),), 4, 1, (1,), picked(features)) for op in ("identity", "ema4", "gated")
    ]
    settings = SearchSettings(learning_rate=1e-2, finalist_epochs=8)
    won, scores = final(candidates, space_of(features), tensors, ((TRAIN,), (VALIDATION,)), settings, 1)
    assert won.nodes[0][0].op == "gated"
    assert scores[2] < min(scores[:2])


def test_every_late_learner_has_a_trial_where_it_weighs_most() -> None:
    space = replace(SPACE, ops=("zero", "identity", "conv3", "ema4", "attention", "gated"))
    made = Architecture(space, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.ops[:] = torch.tensor([0.0, 3.0, 2.0, 1.0, -4.0, -5.0])
        made.ops[1, 4] = -3.0
    found = likeliest(made, made.genotype(), 2)
    assert len(found) == 4
    assert [[c.op for row in g.nodes for c in row].count("attention") for g in found] == [0, 0, 1, 0]
    assert [[c.op for row in g.nodes for c in row].count("gated") for g in found] == [0, 0, 0, 1]
    source, node = space.edges[1]
    assert [c.op for c in found[2].nodes[node] if c.source == source] == ["attention"]
    assert likeliest(made, made.genotype(), 1) == [made.genotype()]


def test_a_start_is_chosen_by_its_training_loss_and_half_of_the_candidates_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors, features = planted("conv3", 0)
    ops = ("identity", "ema4", "ema12", "attention")
    candidates = [Genotype(((Connection(op, 0),),), 4, 1, (1,), picked(features)) for op in ops]
    trained: list[tuple[str, int, int]] = []
    # of the attention's starts the third learns best; the first only looks best on validation
    by_start = {0: (0.30, 0.20), 1: (0.29, 0.31), 2: (0.25, 0.29)}

    def build(genotype: Genotype, seed: int) -> tuple[str, int]:
        return genotype.nodes[0][0].op, seed // finalists.BETWEEN_STARTS

    def learn(network: tuple[str, int], tensors: Any, train_bars: Any, stop: Any, settings: Any, seed: int) -> Trained:
        trained.append((network[0], network[1], settings.epochs))
        loss, seen = (
            by_start[network[1]] if network[0] == "attention" else (0.4, {"identity": 0.5}.get(network[0], 0.4))
        )
        return Trained((loss,), (seen,), 0, 0.0)

    monkeypatch.setattr(finalists, "network_of", build)
    monkeypatch.setattr(finalists, "train", learn)
    settings = SearchSettings(finalist_starts=3, finalist_epochs=20)
    won, scores = final(candidates, space_of(features), tensors, ((TRAIN,), (VALIDATION,)), settings, 0)
    heat = [("identity", 0, 4), ("ema4", 0, 4), ("ema12", 0, 4), *(("attention", k, 4) for k in range(3))]
    assert trained == [*heat, ("ema4", 0, 20), ("attention", 2, 20)]
    assert won == candidates[3]
    assert scores[3] == pytest.approx(0.29, abs=0.02)


def test_a_price_of_parameters_moves_the_last_round_and_not_the_search() -> None:
    tensors, features = planted("identity", 0)
    space = SearchSpace(ops=("identity", "conv3"), nodes=1, channels=4, features=features)
    plain = SearchSettings(epochs=3, alpha_warmup_epochs=1, finalists=2, finalist_epochs=2, parameter_cost=0.0)
    free, dear = (
        search(space, tensors, TRAIN, VALIDATION, replace(plain, parameter_cost=cost), 0) for cost in (0.0, 500.0)
    )
    assert free.op_weights == dear.op_weights
    assert free.finalists != dear.finalists
    assert dear.text == "node1 = identity(input)"


def test_the_last_round_sees_no_bar_after_validation() -> None:
    tensors, features = planted("conv3", 0)
    candidates = [Genotype(((Connection(op, 0),),), 4, 1, (1,), picked(features)) for op in ("identity", "conv3")]
    settings = SearchSettings(finalist_epochs=1)
    splits = ((TRAIN,), (VALIDATION,))
    before = final(candidates, space_of(features), tensors, splits, settings, 0)[1]
    x, y = tensors.x.clone(), tensors.y.clone()
    x[:, :, VALIDATION.stop :] += 7.0
    y[:, :, VALIDATION.stop :] -= 7.0
    assert final(candidates, space_of(features), Tensors(x, y, tensors.weight), splits, settings, 0)[1] == before


def blocks() -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    return alternating(slice(TRAIN.start, TRAIN.start + 600), slice(TRAIN.start + 640, TRAIN.start + 1_000), 2, 40)


def trials_in_blocks(variant: str, changed: slice | None) -> list[float]:
    """Scores of architectures trained by themselves on alternating blocks, after the labels of `changed` bars are turned."""
    tensors, features = planted("gated", 1)
    if changed is not None:
        labels = tensors.y.clone()
        labels[..., changed] *= -1.0
        tensors = replace(tensors, y=labels)
    settings = SearchSettings(epochs=2, length=64, finalists=2, finalist_epochs=2)
    if variant == "random":
        space = replace(space_of(features), ops=("zero", "identity", "ema4"), nodes=1, channels=4)
        seen: list[float] = []

        def kept(*arguments: Any) -> Any:
            outcome = train(*arguments)
            seen.append(outcome.validation_losses[outcome.best_epoch])
            return outcome

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scratch, "train", kept)
            scratch.from_scratch(space, tensors, blocks(), settings, 0, get_variant("random"), lambda _: None)
        return seen
    candidates = [Genotype(((Connection(op, 0),),), 4, 1, (1,), picked(features)) for op in ("identity", "ema4")]
    return final(candidates, space_of(features), tensors, blocks(), settings, 0)[1]


@pytest.mark.parametrize("variant", ["darts", "random"])
def test_architectures_trained_by_themselves_see_every_block_and_nothing_between_them(variant: str) -> None:
    plain = trials_in_blocks(variant, None)
    training, validation = blocks()
    assert len(training) == len(validation) == 2
    for part in (*training, *validation):
        assert trials_in_blocks(variant, part) != plain
    parts = sorted((*training, *validation), key=lambda s: s.start)
    for one, other in itertools.pairwise(parts):
        assert trials_in_blocks(variant, slice(one.stop, other.start)) == plain


def test_a_search_tells_its_finalists_and_is_repeatable() -> None:
    tensors, features = planted("diff1", 0)
    space = SearchSpace(ops=("zero", "identity", "conv3", "diff1"), nodes=1, channels=4, features=features)
    settings = SearchSettings(epochs=1, finalists=3, finalist_epochs=1, diagnostics_every=0)
    first, second = (search(space, tensors, TRAIN, VALIDATION, settings, 0) for _ in range(2))
    assert len(first.finalists) == 3
    assert first.finalists == second.finalists
    assert first.genotype in [genotype for genotype, _ in first.finalists]
    assert "best of 3 finalists" in first.note


def test_no_finalists_is_refused() -> None:
    with pytest.raises(InputError, match="finalists must be at least 1"):
        SearchSettings(finalists=0)


@pytest.mark.parametrize("seed", range(3))
def test_behind_the_linear_stem_dense_and_identity_are_the_same_functions(seed: int) -> None:
    """Why `benchmarks.recovery` counts either as the other: a dense network *is* an identity network whose stem is (stem W).

    The other way round holds by W = 1. What looks back is another function, and no stem makes up for it.
    """
    features = (("a", ("raw",)), ("b", ("raw",)))
    dense, identity, other = (
        network_of(Genotype(((Connection(op, 0),),), 4, 1, (1,), features), seed)
        for op in ("dense", "identity", "ema4")
    )
    matrix = dense.cells[0].weights["matrix0"][0]
    with torch.no_grad():
        for network in (identity, other):
            network.stem.copy_(dense.stem @ matrix)
            network.stem_bias.copy_(dense.stem_bias @ matrix)
            network.head.copy_(dense.head)
        x = torch.randn(1, 2, 300, generator=torch.Generator().manual_seed(seed))
        assert float((dense(x) - identity(x)).abs().max()) < 1e-6 * float(dense(x).abs().max())
        assert float((dense(x) - other(x)).abs().max()) > 0.1 * float(dense(x).abs().max())
    assert SAME == {"dense": ("identity", "dense"), "identity": ("identity", "dense")}
