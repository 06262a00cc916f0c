from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.panel import InputError
from nas.network.lookback import (
    LEVELS,
    LOOKBACK_OPS,
    LookbackNetwork,
    LookbackSpace,
    lookback_network,
    lookback_tensors,
    moving_average,
    trailing_mean,
)
from nas.network.lookback_blocks import Doubly
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.search.supernet import supernet_of

HORIZON = 5
SPACE = LookbackSpace(
    lookback=48, period=12, horizons=tuple(range(1, HORIZON + 1)), features=(("level", tuple(LEVELS)),)
)


def waves(bars: int = 400, channels: int = 2) -> np.ndarray:
    random = np.random.default_rng(0)
    t = np.arange(bars)
    shift = random.uniform(0, 6, (channels, 1))
    return np.sin(t * 2 * np.pi / 12 + shift) + 0.1 * random.standard_normal((channels, bars)).cumsum(1)


def mix_of(space: LookbackSpace) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.softmax(torch.arange(float(len(space.ops))), 0), torch.softmax(torch.arange(float(len(LEVELS))), 0)


def test_forecast_at_t_ignores_bars_after_t() -> None:
    network, series = supernet_of(SPACE, 0).eval(), waves()
    changed = series.copy()
    changed[:, 200:] += 3.0
    out = [
        network(lookback_tensors(s, HORIZON, list(LEVELS.values())).x, *mix_of(SPACE)).detach()
        for s in (series, changed)
    ]
    assert torch.equal(out[0][..., :200], out[1][..., :200])
    assert not torch.allclose(out[0][..., 200:], out[1][..., 200:])


def test_forecast_at_t_reads_no_more_than_the_lookback() -> None:
    network, series = supernet_of(SPACE, 0).eval(), waves()
    changed = series.copy()
    changed[:, :100] += 3.0
    levels = [bars for bars in LEVELS.values() if bars <= SPACE.lookback]
    space = LookbackSpace(
        lookback=48, period=12, horizons=SPACE.horizons, features=(("level", tuple(list(LEVELS)[: len(levels)])),)
    )
    weights = (mix_of(space)[0], torch.ones(len(levels)))
    a, b = (network(lookback_tensors(s, HORIZON, levels).x, *weights).detach() for s in (series, changed))
    assert torch.allclose(a[..., 100 + 47 :], b[..., 100 + 47 :], atol=1e-5)


@pytest.mark.parametrize("op", LOOKBACK_OPS)
def test_a_shifted_series_has_the_shifted_forecast(op: str) -> None:
    """Reversible normalisation: the level is taken off and put back, whatever the map is."""
    network = LookbackNetwork(SPACE, [op], level=0)
    network.eval()
    a, b = (network(lookback_tensors(waves() + s, HORIZON, [1]).x).detach()[..., 48:] for s in (0.0, 7.0))
    assert torch.allclose(b - a, torch.full_like(a, 7.0), atol=1e-4)


@pytest.mark.parametrize("op", LOOKBACK_OPS)
def test_the_supernet_holds_every_discrete_network(op: str) -> None:
    """With one op at weight 1 and the others at 0 the folded supernet says what that op alone says."""
    whole = supernet_of(SPACE, 0).eval()
    assert isinstance(whole, LookbackNetwork)
    place, x = SPACE.ops.index(op), lookback_tensors(waves(), HORIZON, list(LEVELS.values())).x
    alone = LookbackNetwork(SPACE, [op], level=2).eval()
    for view in alone.views:
        ranks = torch.cat(
            [torch.full((rank,), k) for k, name in enumerate(SPACE.ops) for v, rank in LOOKBACK_OPS[name].ranks if v == view]
        )  # fmt: skip
        alone.into[view].data = whole.into[view][:, ranks == place].data
        alone.out[view].data = whole.out[view][ranks == place].data
    if alone.folding:
        alone.fold.data = whole.fold[[whole.folding.index(place)]].data
    if alone.blocks:
        alone.blocks["0"].load_state_dict(whole.blocks[str(place)].state_dict())
    mix, level = torch.zeros(len(SPACE.ops)), torch.zeros(len(LEVELS))
    mix[place], level[2] = 1.0, 1.0
    assert torch.allclose(whole(x, mix, level), alone(x), atol=1e-5)
    counted = LOOKBACK_OPS[op].parameters(48, 12, HORIZON)
    assert sum(p.numel() for p in alone.parameters()) == counted


@pytest.mark.parametrize("op", LOOKBACK_OPS)
def test_ops_build_on_the_base_and_the_last_bars_are_those_of_all(op: str) -> None:
    base = torch.rand(48, HORIZON)
    base /= base.sum(0)  # a shifted series has the shifted forecast
    x = lookback_tensors(waves(), HORIZON, [1, 24]).x
    plain, based = (LookbackNetwork(replace(SPACE, base=b), [op], level=1).eval() for b in (None, base))
    based.load_state_dict(plain.state_dict())
    window = torch.nn.functional.pad(x[:, 0], (47, 0)).unfold(-1, 48, 1)
    added = (window @ base).transpose(1, 2) - x[:, 1:]  # instead of the level itself
    assert torch.allclose(based(x), plain(x) + added, atol=1e-4)
    assert torch.allclose(based(x, last=30), based(x)[..., -30:], atol=1e-5)


def test_the_doubly_residual_block_gives_its_second_part_what_the_first_left() -> None:
    block = Doubly(48, 12, 20).eval()
    window = torch.randn(3, 48)
    levels = block.trend(window.reshape(3, 4, 12).mean(-1))
    left = window.reshape(3, 4, 12) - levels[:, :4, None]
    expected = [levels[:, 4 + h // 12] + block.season(left.mean(1))[:, h % 12] for h in range(20)]
    assert torch.allclose(block(window), torch.stack(expected, 1), atol=1e-6)


def test_the_folded_map_treats_all_phases_alike() -> None:
    network = LookbackNetwork(SPACE, ["folded"], level=0)
    x = lookback_tensors(waves(), HORIZON, [1]).x
    out = network(x).detach()
    t, h = 100, 3
    past = [float(x[0, 0, t - 47 + row * 12 + h] - x[0, 0, t]) for row in range(4)]
    expected = float(x[0, 0, t]) + sum(w * p for w, p in zip(network.fold[0, :, 0].tolist(), past, strict=True))
    assert out[0, h, t] == pytest.approx(expected, abs=1e-5)


def test_moving_average_is_centred_and_repeats_its_ends() -> None:
    window = np.random.default_rng(1).standard_normal(48)
    padded = np.concatenate([np.repeat(window[0], 12), window, np.repeat(window[-1], 12)])
    plain = [padded[k : k + 25].mean() for k in range(48)]
    assert np.allclose(window @ moving_average(48).numpy(), plain, atol=1e-6)


def test_trailing_mean_and_labels_by_hand() -> None:
    series = np.arange(10.0)[None]
    assert trailing_mean(series, 4)[0].tolist() == [0.0, 0.5, 1.0, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert trailing_mean(series, 0).tolist() == [[0.0] * 10]
    tensors = lookback_tensors(series, 3, [1])
    assert tensors.y[0, :, 2].tolist() == [3.0, 4.0, 5.0]
    assert tensors.y.shape == (1, 3, 7)


def test_the_search_loop_finds_and_trains_a_lookback_network() -> None:
    tensors = lookback_tensors(waves(700), HORIZON, list(LEVELS.values()))
    settings = SearchSettings(epochs=4, length=64, loss="squared", alpha_warmup_epochs=1, feature_cost=0.0)
    found = search(SPACE, tensors, slice(60, 400), slice(460, 690), settings, 0, variant="gdas")
    again = search(SPACE, tensors, slice(60, 400), slice(460, 690), settings, 0, variant="gdas")
    assert found.genotype == again.genotype
    assert found.genotype.nodes[0][0].op in LOOKBACK_OPS
    network = lookback_network(SPACE, found.genotype, 0)
    assert network(tensors.x).shape == tensors.y.shape


def test_what_a_lookback_space_refuses() -> None:
    with pytest.raises(InputError, match="no lookback op named 'conv3'"):
        LookbackSpace(ops=("conv3",))
    with pytest.raises(InputError, match="no multiple of the period"):
        LookbackSpace(lookback=50, period=12)
    with pytest.raises(InputError, match="choose another variant"):
        supernet_of(SPACE, 0, partial=4)
