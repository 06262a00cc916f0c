from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nas.network.model import forecast_sequence, network_of
from nas.network.stretches import Tensors
from nas.network.training import TrainingSettings, train
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.discretisation import discretise
from nas.space.genotype import Connection, Genotype
from nas.space.search_space import SearchSpace

BARS = 6_000


def tensors_of(returns: np.ndarray, label: np.ndarray) -> Tensors:
    """One asset, one input column, one horizon; both scaled to unit variance."""
    x = (returns / returns.std()).astype(np.float32)[None, None]
    y = (label / label.std()).astype(np.float32)[None, None]
    return Tensors(torch.from_numpy(x), torch.from_numpy(y), torch.ones(1, 1, BARS))


def planted(seed: int, strength: float) -> Tensors:
    """The next return leans on an EMA (span 12) of past returns: `strength` is the share of its variance."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(BARS)
    decay = 1 - 2 / 13
    state, returns = 0.0, np.empty(BARS)
    label = np.empty(BARS)
    for t in range(BARS):
        returns[t] = noise[t]
        state = decay * state + (1 - decay) * returns[t]
        label[t] = state
    label = label / label.std() * np.sqrt(strength) + rng.standard_normal(BARS) * np.sqrt(1 - strength)
    return tensors_of(returns, label)


SPACE = SearchSpace(
    ops=("zero", "identity", "diff1", "ema4", "ema12", "ema36"), nodes=1, channels=4, features=(("return", ("raw",)),)
)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_search_finds_the_planted_op_on_the_decisive_edge(seed: int) -> None:
    found = search(
        SPACE, planted(seed, 0.2), slice(200, 3_500), slice(3_700, 5_900), SearchSettings(epochs=12), seed=seed
    )
    assert [c.op for c in found.genotype.nodes[0]] == ["ema12"]


def test_search_is_the_same_bytes_for_the_same_seed() -> None:
    runs = [
        search(SPACE, planted(0, 0.2), slice(200, 3_500), slice(3_700, 5_900), SearchSettings(epochs=2), seed=4)
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_on_pure_noise_the_out_of_sample_correlation_stays_in_its_null_band() -> None:
    correlations = []
    for seed in range(4):
        rng = np.random.default_rng(100 + seed)
        tensors = tensors_of(rng.standard_normal(BARS), rng.standard_normal(BARS))
        found = search(SPACE, tensors, slice(200, 2_500), slice(2_700, 3_700), SearchSettings(epochs=4), seed=seed)
        network = network_of(found.genotype, seed)
        train(network, tensors, slice(200, 3_000), slice(3_200, 3_700), TrainingSettings(epochs=6), seed)
        forecast = forecast_sequence(network, tensors.x.numpy(), 4_000, BARS)[0, 0]
        correlations.append(np.corrcoef(forecast, tensors.y[0, 0, 4_000:].numpy())[0, 1])
    # 2,000 independent bars: standard error 1/sqrt(2000); the mean of four is half of that
    assert abs(np.mean(correlations)) < 3 / np.sqrt(4 * 2_000)


def test_sequence_forecast_at_t_equals_the_forecast_of_the_window_ending_at_t() -> None:
    genotype = Genotype(
        ((Connection("ema12", 0), Connection("conv3", 0)), (Connection("attention", 0), Connection("diff1", 1))),
        8, 2, (1,), (("return", "raw"),),
    )  # fmt: skip
    network = network_of(genotype, 0)
    x = np.random.default_rng(0).standard_normal((1, 1, 500)).astype(np.float32)
    whole = forecast_sequence(network, x, 300, 500)[0, 0]
    for t in (300, 377, 499):
        window = x[:, :, t - genotype.receptive_field + 1 : t + 1]
        alone = forecast_sequence(network, window, window.shape[-1] - 1, window.shape[-1])[0, 0, 0]
        assert abs(alone - whole[t - 300]) < 1e-5


def test_forecasts_ignore_bars_after_t() -> None:
    genotype = Genotype(((Connection("ema36", 0), Connection("gated", 0)),), 8, 1, (1,), (("return", "raw"),))
    network = network_of(genotype, 0)
    x = np.random.default_rng(0).standard_normal((1, 1, 400)).astype(np.float32)
    changed = x.copy()
    changed[:, :, 350:] = 7.0
    before, after = forecast_sequence(network, x, 300, 400), forecast_sequence(network, changed, 300, 400)
    assert np.array_equal(before[:, :, :50], after[:, :, :50])
    assert not np.array_equal(before, after)


def test_discretise_keeps_the_two_strongest_edges_and_never_zero() -> None:
    edges = [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    ops = [("zero", "identity", "dense")] * 6
    weights = [
        np.array(w)
        for w in ([0.9, 0.05, 0.05], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3], [0, 0.4, 0.6])
    ]
    nodes = discretise(weights, edges, ops, nodes=3, edges_per_node=2)
    assert [[(c.op, c.source) for c in node] for node in nodes] == [
        [("identity", 0)], [("identity", 0), ("dense", 1)], [("identity", 0), ("dense", 2)],
    ]  # fmt: skip


def test_space_refuses_what_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="no op named 'ema13'"):
        SearchSpace(ops=("zero", "ema13"))
    with pytest.raises(ValueError, match="zero is the only op"):
        SearchSpace(ops=("zero",))
    assert SearchSpace.from_json(SPACE.to_json()) == SPACE


def test_order_of_features_survives_json_with_sorted_keys() -> None:
    genotype = Genotype(((Connection("conv3", 0),),), 4, 1, (1,), (("volume", "raw"), ("body", "raw")))
    again = Genotype.from_dict(json.loads(json.dumps(genotype.to_dict(), sort_keys=True)))
    assert again == genotype
    assert again.features == (("body", "raw"), ("volume", "raw"))
