"""`lab pooled`: every coin that covers a stretch, bars that agree, and a verdict that follows from the figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data.panel import InputError
from lab import pooled
from lab.markets import unlinked
from lab.risk import stretch
from lab.units import Record
from nas.network.residual import Problem
from tests.nas.targets.test_targets import market

LONG = [replace(market(24 * 330, seed=k), assets=(f"S{k}",)) for k in range(2)]
LATE = LONG[0].cut(24 * 200, 24 * 330)  # listed too late for any stretch


def test_a_stretch_has_the_coins_that_cover_it() -> None:
    found = pooled.units([*LONG, replace(LATE, assets=("S2",))], "range", 6, 2)
    assert [unit.settings["symbols"] for unit in found] == [["S0", "S1"]] * len(found)
    with pytest.raises(InputError, match="covered by two files"):
        pooled.units(LONG[:1], "range", 6, 1)


def test_joined_coins_keep_their_own_base_and_label() -> None:
    unit = pooled.units(LONG, "range", 6, 1)[0]
    panels = [stretch(panel, unit)[0] for panel in LONG]
    every, alone = Problem.of(pooled.joined(panels), "range", 6), [Problem.of(p, "range", 6) for p in panels]
    for place, problem in enumerate(alone):
        np.testing.assert_array_equal(every.label[place], problem.label[0])
        np.testing.assert_array_equal(every.columns.values[place], problem.columns.values[0])
    with pytest.raises(InputError, match="other bars"):
        pooled.joined([panels[0], panels[1].cut(1, len(panels[1]))])


@pytest.mark.parametrize(("gap", "said"), [(0.01, "better than"), (-0.01, "worse than")])
def test_the_verdict_follows_the_paired_difference(gap: float, said: str) -> None:
    found = []
    for k in range(5):
        rng = np.random.default_rng(k)
        level, noise = rng.standard_normal(), 0.001 * rng.standard_normal()
        arms = {"harxl": level, "own": level, "pooled": level + gap + noise, "both": level}
        coins = {name: {arm: {"skill": v, "qlike": 0.1} for arm, v in arms.items()} for name in "AB"}
        settings = {"target": "range", "horizon": 6, "symbols": ["A", "B"]}
        result = {"coins": coins, "epochs": {"own": [[3, 4]], "pooled": [5, 6]}}
        found.append(Record(str(k), settings, result, 1.0, "2026-01-01", "", ""))
    assert f"one network for all coins is {said} own ones" in pooled.pooled_table(found)[0]


def test_markets_without_links_keep_each_coins_days_and_lose_their_order() -> None:
    panel = unlinked(LONG, 3, 24 * 100, seed=4)
    hours = np.diff(np.log(panel.field("close")[:, 0])).reshape(-1)
    assert panel.assets == ("U00USDT", "U01USDT", "U02USDT")
    moved = np.abs(np.diff(np.log(LONG[0].field("close")[:, 0])))
    assert np.isin(
        np.round(np.abs(np.expm1(hours[:23])), 9), np.round(moved, 9)
    ).all()  # a whole day of the coin itself
    assert not np.allclose(panel.field("close")[:, 0], panel.field("close")[:, 2])  # the same coin in another order
    with pytest.raises(InputError, match="give a longer file"):
        unlinked(LONG, 2, 24 * 400, seed=4)
