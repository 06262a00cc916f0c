"""The search over pipelines finds what made the labels, and drops an input that says nothing. 20 seeds: benchmarks.planted_features."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.planted_features import CANDIDATES, NOISE, TRAIN, TRUTH, VALIDATION, found, planted, verdict
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_search_picks_the_planted_pipelines_and_drops_the_noise(seed: int) -> None:
    genotype = found(seed, 0.1, SearchSettings(epochs=20))
    assert dict(genotype.features) == TRUTH


def test_verdict_tells_a_wrong_pipeline_a_dropped_input_and_kept_noise() -> None:
    wrong = Genotype(((),), 8, 1, (1,), (("volume", "raw"), (NOISE, "diff")))
    assert verdict(wrong) == {"volume": False, "funding_rate": False, NOISE: False}


def test_an_input_stays_even_where_nothing_is_worth_its_price() -> None:
    space = SearchSpace(ops=("identity", "dense"), nodes=1, channels=4).with_features(CANDIDATES)
    settings = SearchSettings(epochs=8, feature_cost=1e6)
    result = search(space, planted(0, 0.1), TRAIN, VALIDATION, settings, 0)
    assert len(result.genotype.features) == 1
    for (_, pipelines), weights in zip(space.features, result.feature_weights, strict=True):
        assert np.argmax(weights[: len(pipelines) + 1]) == len(pipelines)  # `none` is the strongest choice everywhere
