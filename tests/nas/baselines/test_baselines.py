"""Hand-designed rivals: causal, time-invariant, deterministic, trained by the same task as searched networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.panel import Panel
from data.simulated import simulate
from nas.baselines import BASELINES, build_baseline
from nas.baselines.linear import NLinear
from nas.baselines.registry import check_baseline
from nas.network.model import forecast_sequence
from nas.network.stretches import Samples
from nas.network.training import TrainingSettings
from nas.space.search_space import SearchSpace
from nas.tasks.windows import Window
from nas.tasks.work import TaskResult, TrainTask, run_task

NETWORKS = sorted(name for name, entry in BASELINES.items() if entry.build is not None)
FITTED = sorted(name for name, entry in BASELINES.items() if entry.fit is not None)
HORIZON = 6


def market(bars: int = 2_400) -> Panel:
    start = np.datetime64("2024-01-01", "ns")
    return simulate(["BTCUSDT"], "60", start=start, end=start + bars * np.timedelta64(3_600_000_000_000, "ns"))


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples.of(market(), (HORIZON,))


def task(samples: Samples, name: str, seed: int = 0) -> TrainTask:
    bank = samples.bank
    window = Window(0, slice(700, 1500), slice(1600, 1900), slice(2000, 2300), 50)
    space = SearchSpace(horizons=(HORIZON,)).with_features(dict(zip(bank.inputs, bank.pipelines, strict=True)))
    return TrainTask(window, name, seed, space, TrainingSettings(epochs=3, length=200))


def test_the_rivals_of_the_issue_are_there() -> None:
    wanted = {"linear", "dlinear", "nlinear", "mlp", "lstm", "gru", "tcn", "transformer", "patchtst", "boosting"}
    assert wanted | {"last_value"} <= set(BASELINES)
    for entry in BASELINES.values():
        assert entry.title
        assert entry.description


@pytest.mark.parametrize("name", NETWORKS)
def test_network_ignores_later_bars(name: str) -> None:
    network = build_baseline(name, 5, 2, seed=0)
    x = torch.randn(2, 5, 160, generator=torch.Generator().manual_seed(1))
    whole = network(x)
    assert whole.shape == (2, 2, 160)
    for t in (0, 60, 158):
        changed = x.clone()
        changed[:, :, t + 1 :] = 50.0 * torch.randn(2, 5, 159 - t, generator=torch.Generator().manual_seed(2))
        assert torch.equal(network(changed)[:, :, : t + 1], whole[:, :, : t + 1])
        assert not torch.equal(network(changed), whole)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_house_pass_the_door_of_networks_from_outside(name: str) -> None:
    build = BASELINES[name].build
    assert build is not None
    check_baseline(name, build)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_pass_gives_the_forecasts_of_windows_as_long_as_the_receptive_field(name: str) -> None:
    network = build_baseline(name, 4, 1, seed=3)
    reach = network.receptive_field
    x = np.random.default_rng(0).normal(size=(1, 4, reach + 40)).astype(np.float32)
    whole = forecast_sequence(network, x, reach, reach + 40)[0, 0]
    for t in (reach, reach + 17, reach + 39):
        alone = forecast_sequence(network, x[:, :, t + 1 - reach : t + 1], reach - 1, reach)[0, 0, 0]
        # the memory of recurrent layers fades but has no sharp end
        assert alone == pytest.approx(whole[t - reach], rel=1e-5, abs=1e-4 if name in ("lstm", "gru") else 1e-6)


def test_nlinear_does_not_see_the_level_but_through_its_last_value() -> None:
    network = NLinear(2, 1)
    torch.nn.init.zeros_(network.last.conv.weight)
    x = torch.randn(1, 2, 60, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network(x)[..., 30:], network(x + 7.0)[..., 30:], atol=1e-5)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_task_is_deterministic_and_survives_the_disk(samples: Samples, name: str) -> None:
    result = run_task(task(samples, name), samples)
    again = run_task(task(samples, name), samples)
    assert result.to_bytes() == again.to_bytes()
    stored = TaskResult.from_bytes(result.to_bytes())
    assert np.array_equal(stored.test_forecasts, result.test_forecasts)
    assert result.stop_forecasts.shape[1] == 1
    assert result.test_forecasts.shape == (300, 1)
    assert np.isfinite(result.test_forecasts).all()
    assert result.report["parameters"] >= 0
    assert np.isfinite(result.report["validation_loss"])


@pytest.mark.parametrize("name", [*FITTED, "tcn", "dlinear"])
def test_neither_training_nor_forecasts_read_what_comes_later(samples: Samples, name: str) -> None:
    panel = samples.panel
    cut = 2_150  # inside the test stretch
    values = np.array(panel.values)
    values[cut:] *= np.random.default_rng(0).uniform(0.5, 2.0, (len(panel) - cut, 1, 1))
    changed = Panel(
        panel.timestamps, panel.assets, panel.fields, values, panel.interval_ns, "test", settlements=panel.settlements
    )
    before = run_task(task(samples, name), samples)
    after = run_task(task(samples, name), Samples.of(changed, (HORIZON,)))
    assert np.array_equal(before.stop_forecasts, after.stop_forecasts)
    assert np.array_equal(before.test_forecasts[: cut - 2000], after.test_forecasts[: cut - 2000])
    assert not np.array_equal(before.test_forecasts, after.test_forecasts)
    for key, weight in before.weights.items():
        assert np.array_equal(weight, after.weights[key])


def test_last_value_is_the_scaled_return_of_the_last_horizon(samples: Samples) -> None:
    from nas.features.bank import causal_volatility

    result = run_task(task(samples, "last_value"), samples)
    close = samples.panel.column("close", "BTCUSDT")
    volatility = causal_volatility(samples.panel)[:, 0]
    expected = np.log(close[2100] / close[2100 - HORIZON]) / (volatility[2100] * np.sqrt(HORIZON))
    assert result.test_forecasts[100, 0] == pytest.approx(expected, rel=1e-9)


def test_boosting_learns_what_lies_in_the_inputs(samples: Samples) -> None:
    import dataclasses

    first = samples.columns(tuple((name, choices[0]) for name, choices in task(samples, "boosting").space.features))[0]
    told = np.nan_to_num(samples.bank.values[:, first])[:, None, :]  # the label is one of the inputs
    scale = told.std()
    taught = dataclasses.replace(samples, labels=np.where(np.isfinite(samples.labels), told / scale, np.nan))
    report = run_task(
        dataclasses.replace(task(samples, "boosting"), settings=TrainingSettings(epochs=25)), taught
    ).report
    assert report["validation_correlation"] > 0.8
