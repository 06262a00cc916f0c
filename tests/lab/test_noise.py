"""What `python -m lab noise` counts: the page's own words about a file, here of one that is no noise at all."""

from __future__ import annotations

import numpy as np
import pytest

from data.panel import FloatArray
from lab import noise
from lab.markets import garch
from lab.units import Record, Unit


def test_a_file_that_knows_the_future_trades_and_is_convicted_by_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    (unit,) = noise.units([3], 60, [1], False)
    close = np.log(garch(unit.settings["bars"], 3).field("close")[:, 0])

    def known(bars: int, _rng: np.random.Generator) -> FloatArray:
        return np.append(close[6:], np.full(6, close[-1])) - close

    monkeypatch.setattr(noise, "noise", known)
    found = noise.compute(unit, [])
    for arm in noise.ARMS:
        assert (found[arm]["traded"], found[arm]["convicted"], found[arm]["beat"]) == (True, True, False), arm


def test_rows_count_each_arm_by_models() -> None:
    said = {"traded": True, "beat": False, "earned": False, "convicted": False}
    records = []
    for number, beat in enumerate([True, False, False]):
        unit = Unit(f"u{number}", {"models": 1 + number // 2})
        result = {"shipped": said, "bare": {**said, "beat": beat}}
        records.append(Record(unit.name, unit.settings, result, 0.0, "", "", ""))
    assert [(row["models"], row["arm"], row["files"], row["beat"]) for row in noise.rows(records)] == [
        (1, "shipped", 2, 0), (1, "bare", 2, 1), (2, "shipped", 1, 0), (2, "bare", 1, 0),
    ]  # fmt: skip


def test_noise_of_a_seed_is_the_same_and_as_wide_as_was_said() -> None:
    one, two = (noise.noise(4_000, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, two)
    assert float(one.std()) == pytest.approx(1.0)
