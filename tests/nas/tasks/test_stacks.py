"""Tasks as stacks: what can be stacked is, the rest goes where it went, and results are the ordinary ones to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data import load_panel
from nas.network.stretches import Samples
from nas.search.settings import SearchSettings
from nas.space.search_space import SearchSpace
from nas.tasks import stacks
from nas.tasks.engine import InProcess
from nas.tasks.stacks import Stacks
from nas.tasks.windows import Window
from nas.tasks.work import SearchTask, Task


def tasks_of() -> tuple[Samples, list[Task]]:
    panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-04-01")
    samples = Samples.of(panel, horizons=(6,), features={"return": ("raw",), "range": ("raw",)})
    space = SearchSpace(
        ops=("zero", "conv3", "ema4"), nodes=1, channels=4, features=(("return", ("raw",)), ("range", ("raw",)))
    )
    settings = SearchSettings(epochs=2, length=64)
    first = samples.bank.warmup_bars + 50
    windows = [
        Window(k, slice(a, a + 400), slice(a + 500, a + 700), slice(a + 800, a + 900), 60)
        for k, a in enumerate((first, first + 300))
    ]
    found: list[Task] = [SearchTask(w, "darts", s, space, settings) for w in windows for s in (0, 1)]
    return samples, [*found, SearchTask(windows[0], "darts-2nd", 0, space, settings)]


def test_stacked_tasks_have_the_ordinary_results(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, tasks = tasks_of()
    sizes = []
    real = stacks.search_stacked

    def counted(space: SearchSpace, members: list[object], *rest: object, **named: object) -> object:
        sizes.append(len(members))
        return real(space, members, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stacks, "search_stacked", counted)
    plain = dict(InProcess(samples).compute(tasks))
    found = dict(Stacks(samples, InProcess(samples), 3).compute(tasks))
    assert sizes == [3, 1]
    assert sorted(found) == sorted(plain) == list(range(5))
    for k, result in plain.items():
        assert found[k].report["architecture"] == result.report["architecture"]
        assert np.allclose(found[k].report["weights"]["values"], result.report["weights"]["values"], atol=1e-4)


def test_a_stack_that_memory_does_not_hold_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, tasks = tasks_of()
    sizes: list[int] = []
    real = stacks.search_stacked

    def small(space: object, members: list[object], *rest: object, **named: object) -> object:
        sizes.append(len(members))
        if len(members) > 1:
            raise torch.OutOfMemoryError("full")
        return real(space, members, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stacks, "search_stacked", small)
    assert len(dict(Stacks(samples, InProcess(samples), 4).compute(tasks[:2]))) == 2
    assert sizes == [2, 2, 1, 1]
