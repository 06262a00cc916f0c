"""The found network is trained in several sizes; validation chooses, and none looks back further than stretches are purged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.panel import InputError
from data.simulated import simulate
from nas.network.stretches import Samples, Scaler, Tensors
from nas.network.training import TrainingSettings
from nas.search.loop import search
from nas.search.run import SearchRun
from nas.search.settings import SearchSettings
from nas.space.genotype import Connection, Genotype
from nas.space.search_space import SearchSpace
from nas.tasks.windows import Window
from nas.tasks.work import TrainTask, run_task, sized

SPACE = SearchSpace(ops=("zero", "identity", "conv3"), nodes=2, channels=4, sizes=((1, 2), (2, 6)))


@pytest.fixture(scope="module")
def samples() -> Samples:
    start = np.datetime64("2024-01-01", "ns")
    return Samples.of(simulate(["BTCUSDT"], "60", start=start, end=start + np.timedelta64(1_800, "h")), (1,))


def task_of(samples: Samples, space: SearchSpace = SPACE, op: str = "identity") -> TrainTask:
    bank = samples.bank
    space = space.with_features(dict(zip(bank.inputs, bank.pipelines, strict=True)))
    first = bank.warmup_bars
    window = Window(0, slice(first, first + 400), slice(first + 410, first + 610), slice(first + 620, first + 700), 10)
    genotype = space.genotype(((Connection(op, 0),), (Connection(op, 1),)), (("return", "raw"),))
    return TrainTask(window, "darts", 0, space, TrainingSettings(epochs=2, length=64), genotype)


def test_the_size_of_least_validation_loss_is_kept_and_every_size_is_told(samples: Samples) -> None:
    task = task_of(samples)
    report = run_task(task, samples).report
    tried = report["sizes"]
    assert [(size["cells"], size["channels"]) for size in tried] == [(1, 2), (2, 6)]
    best = min(tried, key=lambda size: size["validation_loss"])
    chosen = Genotype.from_dict(report["genotype"])
    assert (chosen.cells, chosen.channels) == (best["cells"], best["channels"])
    assert report["validation_loss"] == best["validation_loss"]
    assert report["parameters"] == best["parameters"]


def test_sizes_that_look_back_further_than_the_purge_are_not_built(samples: Samples) -> None:
    task = task_of(samples, op="conv3")  # 5 bars in one cell, which is all that the space allows; 9 in two
    columns = samples.columns(task.genotype.features)
    tensors = Tensors.of(samples, Scaler.fit(samples.bank.values[:, columns], task.window.fit), columns)
    assert task.space.receptive_field == 5
    genotype, network, _, tried = sized(task, task.genotype, tensors)
    assert (genotype.cells, len(tried), int(network.receptive_field)) == (1, 1, 5)


def test_a_size_is_two_counts() -> None:
    with pytest.raises(InputError, match="cells and channels"):
        SearchSpace(sizes=((0, 8),))


def test_the_progressive_variant_deepens_towards_the_deepest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    space = replace(SPACE, sizes=((1, 4), (3, 8)), features=(("return", ("raw",)),))
    depths = []
    original = SearchRun.epoch

    def epoch(self, *arguments):  # type: ignore[no-untyped-def]
        depths.append(len(self.network.cells))
        return original(self, *arguments)

    monkeypatch.setattr(SearchRun, "epoch", epoch)
    tensors = Tensors(torch.randn(1, 1, 600), torch.randn(1, 1, 600), torch.ones(1, 1, 600))
    settings = SearchSettings(epochs=3, length=64, diagnostics_every=0)
    search(space, tensors, slice(50, 300), slice(320, 500), settings, 0, variant="progressive")
    assert depths == [1, 2, 3]
