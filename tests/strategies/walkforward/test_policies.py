"""Policies on a small market: who searches when, what is shared, what drift may know, warm starts and ensembles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.panel import InputError, Panel
from data.simulated import simulate
from nas.network.model import load_model
from nas.network.stretches import Samples
from nas.space.search_space import SearchSpace
from nas.tasks.engine import Engine, InProcess, Store
from nas.tasks.windows import Window, WindowPlan, rehearsals
from nas.tasks.work import SearchTask
from strategies.walkforward.config import RunConfig
from strategies.walkforward.contenders import Candidate, PolicyOutcome, parse_policy
from strategies.walkforward.policies import Competition, drift_alarms
from strategies.walkforward.run_files import _save_models

SETTINGS = {"search_epochs": 2, "training_epochs": 2, "horizon": (3,), "variant": ("darts",), "thresholds": (0.5,)}


class Recording(InProcess):
    """Counts what is really computed."""

    def __init__(self, samples: Samples) -> None:
        super().__init__(samples)
        self.done: list[object] = []

    def compute(self, tasks):  # type: ignore[no-untyped-def]
        self.done += tasks
        return super().compute(tasks)


@pytest.fixture(scope="module")
def panel() -> Panel:
    start = np.datetime64("2024-01-01", "ns")
    return simulate(["BTCUSDT"], "60", start=start, end=start + np.timedelta64(2_200, "h"))


def compete(
    panel: Panel, folder: Path, **changes: object
) -> tuple[list[PolicyOutcome], Recording, tuple[Window, ...], Samples]:
    config = RunConfig(**{**SETTINGS, **changes})
    samples = Samples.of(panel, config.horizon)
    space = SearchSpace(ops=("zero", "identity", "conv3"), nodes=1, channels=4, horizons=(3,)).with_features(
        dict(zip(samples.bank.inputs, samples.bank.pipelines, strict=True))
    )
    windows = WindowPlan(500, 240, 240, 240).windows(len(panel), first=samples.bank.warmup_bars, purge_bars=10)
    workers = Recording(samples)
    with Engine(workers, Store(folder, panel.fingerprint(), "test")) as engine:
        outcomes, _ = Competition(config, space, windows, samples, engine, lambda: None).run([])
    return outcomes, workers, windows, samples


def test_each_policy_searches_where_it_says(panel: Panel, tmp_path: Path) -> None:
    outcomes, workers, windows, _ = compete(panel, tmp_path, policy=("every", "period:2", "never", "frozen"))
    searched = {o.policy.name: [d.window for d in o.decisions if d.searched] for o in outcomes}
    numbers = [w.number for w in windows]
    assert len(numbers) >= 4
    assert searched == {"every": numbers, "period:2": numbers[::2], "never": [0], "frozen": [0]}
    assert [o.strategy for o in outcomes] == ["searched", "policy:period:2", "policy:never", "policy:frozen"]
    assert sum(isinstance(task, SearchTask) for task in workers.done) == len(numbers)  # the others' are among them
    never = outcomes[2].contenders
    assert len({c.trained.report["architecture"] for c in never}) == 1
    assert len({c.trained.arrays["weights.stem"].tobytes() for c in never}) == len(numbers)
    assert len({c.trained.arrays["weights.stem"].tobytes() for c in outcomes[3].contenders}) == 1


def test_drift_alarms_read_nothing_beyond_what_is_known(panel: Panel, tmp_path: Path) -> None:
    outcomes, _, windows, samples = compete(panel, tmp_path)
    chosen = [Candidate(contender, ()) for contender in outcomes[0].contenders]
    until = windows[2].validation.stop

    def disturbed_from(bar: int) -> Samples:
        """The same market, three times as wild from `bar` on."""
        values = panel.values.copy()
        close = panel.field("close")[:, 0]
        wild = np.concatenate([close[:bar], close[bar - 1] * np.exp(3 * np.cumsum(np.diff(np.log(close[bar - 1 :]))))])
        values[:, :, :4] *= (wild / close)[:, None, None]
        changed = Panel(panel.timestamps, panel.assets, panel.fields, values, panel.interval_ns, panel.source)
        return Samples.of(changed, samples.horizons)

    assert drift_alarms(disturbed_from(until), chosen[:2], until) == drift_alarms(samples, chosen[:2], until)
    heard = drift_alarms(disturbed_from(windows[0].test.start + 48), chosen[:2], until)
    assert "volatility" in {alarm.stream for alarm in heard}
    assert all(alarm.bar < until for alarm in heard)


def test_a_warm_start_begins_where_the_last_window_ended_and_changes_the_search(panel: Panel, tmp_path: Path) -> None:
    cold, _, _, _ = compete(panel, tmp_path / "cold")
    warm, workers, _, _ = compete(panel, tmp_path / "warm", warm_start=True)
    tasks = [task for task in workers.done if isinstance(task, SearchTask)]
    assert tasks[0].initial is None
    assert all(task.initial is not None for task in tasks[1:])
    weights = [[c.found.report["weights"]["values"] for c in o[0].contenders if c.found] for o in (cold, warm)]
    assert weights[0][0] == weights[1][0]
    assert weights[0][1] != weights[1][1]


def test_an_ensemble_trades_the_mean_of_its_seeds_and_is_not_mistaken_for_one_network(
    panel: Panel, tmp_path: Path
) -> None:
    singles, _, _, _ = compete(panel, tmp_path / "tasks", seeds=2)
    mean, _, _, _ = compete(panel, tmp_path / "tasks", seeds=2, ensemble=True, policy=("every", "frozen"))
    first = [c.trained.test_forecasts for c in singles[0].contenders[:2]]
    ensemble = mean[0].contenders[0]
    np.testing.assert_allclose(ensemble.trained.test_forecasts, np.mean(first, axis=0))
    assert len(ensemble.members) == 2
    assert len(mean[1].contenders) == len(mean[0].contenders)
    _save_models(tmp_path / "model", ensemble, panel.interval_ns, 1.0, {})
    with pytest.raises(InputError, match="holds an ensemble"):
        load_model(tmp_path / "model")
    assert load_model(tmp_path / "model" / "members" / "1").genotype.features


@pytest.mark.parametrize("text", ["sometimes", "period", "period:0", "never:2"])
def test_unknown_policies_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="polic"):
        parse_policy(text)


def test_every_policy_rehearses_before_the_first_window_and_shares_its_tasks(panel: Panel, tmp_path: Path) -> None:
    config = RunConfig(**{**SETTINGS, "policy": ("every", "drift", "random")})
    samples = Samples.of(panel, config.horizon)
    space = SearchSpace(ops=("zero", "identity", "conv3"), nodes=1, channels=4, horizons=(3,)).with_features(
        dict(zip(samples.bank.inputs, samples.bank.pipelines, strict=True))
    )
    windows = WindowPlan(700, 300, 240, 240).windows(len(panel), first=samples.bank.warmup_bars, purge_bars=10)
    before = rehearsals(windows[0], 1)

    def rehearsed(market: Samples) -> list[PolicyOutcome]:
        with Engine(Recording(market), Store(tmp_path / str(id(market)), "", "test")) as engine:
            competition = Competition(
                config, space, windows[:1], market, engine, lambda: None, np.ones((len(panel), 1)), before
            )
            return competition.run([])[0]

    found = rehearsed(samples)
    assert [[c.window.number for c in outcome.rehearsed] for outcome in found] == [[-1], [-1], [-1]]
    assert all(c.window.number == 0 for outcome in found for c in outcome.contenders)
    first, drift, other = (outcome.rehearsed[0].trained for outcome in found)
    assert first.to_bytes() == drift.to_bytes()
    assert first.to_bytes() != other.to_bytes()
    # the future of the rehearsal: labels and features from its test stretch on say nothing to it
    values, labels = samples.bank.values.copy(), samples.labels.copy()
    values[:, :, before[0].test.start + 1 :] += 3.0
    labels[:, :, before[0].test.start :] *= -2.0
    changed = rehearsed(replace(samples, bank=replace(samples.bank, values=values), labels=labels))
    weights = [outcomes[0].rehearsed[0].trained.weights for outcomes in (found, changed)]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert np.array_equal(*(o[0].rehearsed[0].trained.stop_forecasts for o in (found, changed)), equal_nan=True)
