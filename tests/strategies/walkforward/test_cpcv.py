"""`--policy cpcv`: what is held out is never read; every path is traded; without skill paths earn nothing before costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.panel import InputError
from data.simulated import simulate
from lab.cpcv import SETTINGS, fewer, validation_of
from lab.markets import garch
from nas.network.stretches import Samples
from nas.tasks.engine import Engine, InProcess, Store
from nas.tasks.splits import paths_of
from nas.tasks.work import SearchTask, TrainTask, run_task
from strategies.walkforward.config import RunConfig
from strategies.walkforward.cpcv import CrossValidation, genotype_of
from strategies.walkforward.policies import Competition

BARS = 3_000


def test_nothing_that_is_held_out_reaches_the_search_the_weights_or_the_choice() -> None:
    crossed = validation_of(garch(BARS, 5), 0)
    split = crossed.splits[17]
    assert len(split.train) > 1
    search, training = Competition.settings_of(crossed.config)

    def learnt(samples: Samples) -> tuple[str, dict[str, np.ndarray], np.ndarray]:
        found = run_task(SearchTask(split, "darts", 0, crossed.space, search), samples)
        trained = run_task(TrainTask(split, "darts", 0, crossed.space, training, genotype_of(found)), samples)
        return str(found.report["weights"]), trained.weights, trained.stop_forecasts

    samples = crossed.samples
    values, labels = samples.bank.values.copy(), samples.labels.copy()
    for group in split.held:
        values[:, :, group] = 7.0
        labels[:, :, group.start - split.reach : group.stop] *= -3.0
    before = learnt(samples)
    after = learnt(replace(samples, bank=replace(samples.bank, values=values), labels=labels))
    assert before[0] == after[0]
    assert all(np.array_equal(before[1][name], after[1][name]) for name in before[1])
    assert np.array_equal(before[2], after[2], equal_nan=True)
    # and what is trained on does reach it: the test can fail
    values = samples.bank.values.copy()
    values[:, :, split.train[0]] = -values[:, :, split.train[0]]
    assert learnt(replace(samples, bank=replace(samples.bank, values=values)))[0] != before[0]


def test_every_path_trades_every_group_once(tmp_path: Path) -> None:
    crossed = validation_of(garch(BARS, 6), 0)
    done = []
    with Engine(InProcess(crossed.samples), Store(tmp_path, "", "test")) as engine:
        told = crossed.run(engine, lambda: done.append(1))
    assert len(done) == crossed.tasks == 90
    assert told["splits"] == 45
    assert len(told["groups"]) == 10
    assert len(told["paths"]) == 9
    for path in told["paths"]:
        assert len(path["splits"]) == 10
        assert path["sharpe"] <= path["sharpe_before_costs"]
        assert path["bars_in_market"] > 0


def test_fewer_paths_are_whole_ones_of_five_splits_each() -> None:
    whole = validation_of(garch(BARS, 6), 0)
    for count in range(1, 10):
        part = fewer(whole, count)
        assert len(part.splits) == 5 * count
        for group in part.groups:
            assert sum(group in split.held for split in part.splits) == count
        assert len(paths_of(part.splits, part.groups)) == count


def test_several_symbols_are_refused() -> None:
    start = np.datetime64("2024-01-01", "ns")
    panel = simulate(["BTCUSDT", "ETHUSDT"], "60", start=start, end=start + np.timedelta64(BARS, "h"))
    config = RunConfig(**{**SETTINGS, "symbol": panel.assets})
    samples = Samples.of(panel, config.horizon)
    with pytest.raises(InputError, match="holds bars of one symbol out"):
        CrossValidation.of(config, validation_of(garch(BARS, 6), 0).space, samples, np.ones((BARS, 2)), 50)
