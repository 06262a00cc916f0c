"""A decision is a claim: tested on validation, by several searches where there are, and told as none where nothing was shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.network.stretches import Tensors
from nas.search.decisions import (
    DECIDED,
    DECIDED_ALONE,
    FORECASTS,
    Claim,
    Decisions,
    in_errors,
    merged,
    resolved,
    simpler,
)
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.genotype import Connection, Genotype
from nas.space.search_space import SearchSpace

BARS, TRAIN, VALIDATION = 3_000, slice(150, 1_800), slice(1_960, 2_980)
SPACE = SearchSpace(ops=("zero", "identity", "ema12", "diff1"), nodes=1, channels=4, features=(("return", ("raw",)),))
SETTINGS = SearchSettings(epochs=12, length=256, alpha_learning_rate=0.1, learning_rate=1e-2, diagnostics_every=0)


def tensors(signal: float) -> Tensors:
    """The label is a slow average of the input and noise; signal: its share."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal(BARS).astype(np.float32)
    slow = np.convolve(x, 0.85 ** np.arange(60))[:BARS]
    label = slow / slow.std() * signal**0.5 + rng.standard_normal(BARS) * (1.0 - signal) ** 0.5
    return Tensors(
        torch.from_numpy(x)[None, None], torch.from_numpy(label.astype(np.float32))[None, None], torch.ones(1, 1, BARS)
    )


@pytest.mark.parametrize("variant", ["darts", "pt"])
def test_a_strong_signal_is_decided_and_noise_is_not(variant: str) -> None:
    found = search(SPACE, tensors(0.8), TRAIN, VALIDATION, SETTINGS, 0, variant=variant).decisions
    assert found is not None
    assert [claim.first for claim in found.decided] == ["ema12"]
    assert found.text.startswith("Decided on 1 of 1 edges by the search: ema12")
    nothing = search(SPACE, tensors(0.0), TRAIN, VALIDATION, SETTINGS, 0, variant=variant).decisions
    assert nothing is not None
    assert not nothing.decided
    assert nothing.text.startswith("Nothing was decided")


def test_repeats_are_searches_from_other_weights_whose_claims_are_told_together() -> None:
    one = search(SPACE, tensors(0.8), TRAIN, VALIDATION, SETTINGS, 0)
    three = search(SPACE, tensors(0.8), TRAIN, VALIDATION, replace(SETTINGS, repeats=3), 0)
    assert three.decisions is not None
    assert three.decisions.searches == 3
    assert three.decisions.decided[0].first == "ema12"
    losses = [one.history[-1]["validation_loss"], three.history[-1]["validation_loss"]]
    assert losses[1] <= losses[0]  # the best of three, of which the first is the one
    assert three == search(SPACE, tensors(0.8), TRAIN, VALIDATION, replace(SETTINGS, repeats=3), 0)


def claim(first: str, margin: float, second: str = "dense", **rest: object) -> Claim:
    return Claim(0, 0, first, second, margin, **rest)  # type: ignore[arg-type]


def test_several_searches_must_name_the_same_op_and_one_must_clear_a_higher_bar() -> None:
    assert not Decisions(9.0, (claim("ema4", DECIDED_ALONE - 0.1),)).decided
    assert Decisions(9.0, (claim("ema4", DECIDED_ALONE),)).decided
    same = [Decisions(9.0, (claim("ema4", DECIDED + d),)) for d in (-1.0, 0.0, 1.0)]
    assert merged(same).decided == (replace(claim("ema4", DECIDED)),)
    other = [*same[:2], Decisions(9.0, (claim("diff1", 9.0),))]
    assert not merged(other).decided
    assert merged(other).claims[0].agree == pytest.approx(2 / 3)
    assert not merged([Decisions(FORECASTS - 1.0, each.claims) for each in same]).decided
    assert merged(same[:1]) == same[0]


def test_claims_survive_their_file() -> None:
    found = merged([Decisions(5.0, (claim("ema4", 3.0),)), Decisions(4.0, (claim("ema4", 2.0, kept=False),))])
    assert Decisions.from_dict(found.to_dict()) == found


def test_an_undecided_edge_takes_the_simpler_op_and_a_decided_one_keeps_its_own() -> None:
    nodes = ((Connection("conv3", 0), Connection("attention", 1)), (Connection("dense", 0),))
    genotype = Genotype(nodes, 4, 1, (1,), (("return", "raw"),), inputs=2)
    claims = (
        Claim(0, 0, "conv3", "identity", 9.0),
        Claim(1, 0, "attention", "ema4", 0.3),
        Claim(0, 1, "dense", "conv5", -0.2),
        Claim(1, 1, "conv3", "identity", 0.0, kept=False),
    )
    after = resolved(genotype, Decisions(9.0, claims))
    assert str(after) == "node1 = conv3(before) + ema4(last); node2 = dense(before)"
    nothing = resolved(genotype, Decisions(0.0, claims))
    assert str(nothing) == "node1 = identity(before) + ema4(last); node2 = dense(before)"
    assert resolved(genotype, Decisions(0.0, claims), skip_limit=0).skips == 0


def test_the_simpler_of_two_ops_has_fewer_parameters_then_the_shorter_memory() -> None:
    assert simpler("conv3", "dense") == "dense"
    assert simpler("ema36", "ema4") == "ema4"
    assert simpler("ema4", "attention") == "ema4"


def test_differences_in_standard_errors() -> None:
    assert in_errors(torch.tensor([1.0, 3.0], dtype=torch.float64)) == pytest.approx(2.0)
    assert in_errors(torch.zeros(5)) == 0.0
    assert in_errors(torch.ones(5)) == float("inf")
