"""`lab ranks`: its statistic on orders that are known, one unit from end to end, and that what it compares are the same cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab import ranks
from lab.tasks import TRAINING
from lab.units import Record


def record(scores: list[float], seed: int = 0) -> Record:
    plain, other = [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.4, 0.3]
    trained = {name: [(v, v + 1.0) for v in values] + [(0.0, 1.25)] for name, values in
               (("plain", plain), ("gentle", other), ("wide", plain))}  # fmt: skip
    settings = {"market": "planted", "seed": seed, "cells": 4, "variants": ["darts"], "search": {}}
    return Record("x", settings, {"trained": trained, "supernet": {"darts": scores}, "found": [""]}, 1.0, "", "", "")


def test_tau_of_known_orders_is_in_the_table() -> None:
    verdict, body = ranks.ranks_table([record([1.0, 2.0, 3.0, 4.0])])
    assert verdict.startswith("planted, `darts`: tau +1.00; planted, two trainings of one cell: +0.67")
    assert "| planted | supernet of `darts` | 1 | +1.000 (+1.000 to +1.000) | +0.667 (" in body
    # found at 1.25 beats those of test loss 1.3 and 1.4
    assert "| planted | `darts` | 50% | 50% | 50% |" in body
    backwards, _ = ranks.ranks_table([record([4.0, 3.0, 2.0, 1.0])])
    assert "tau -1.00" in backwards
    assert ranks.tau([1.0, 1.0], [1.0, 2.0]) == 0.0


def test_a_unit_trains_every_cell_under_every_setting_and_scores_the_same_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks, "SEARCH", {**ranks.SEARCH, "epochs": 2})
    monkeypatch.setattr(ranks, "TRAINING", replace(TRAINING, epochs=1))
    judged: list[Any] = []
    original = ranks.alone

    def watched(task: Any, cell: Any, seed: int, changes: dict[str, Any]) -> tuple[float, float]:
        judged.append(cell)
        return original(task, cell, seed, {**changes, "epochs": 1})

    monkeypatch.setattr(ranks, "alone", watched)
    (unit,) = ranks.units(1, 3, ["planted"], ["darts"])
    result = ranks.compute(unit, [])
    assert {len(values) for values in result["trained"].values()} == {4}
    assert len(result["supernet"]["darts"]) == 3
    assert len(judged) == 4 * len(ranks.TRAININGS)
    assert {cell.features for cell in judged} == {tuple((f"input{k}", "raw") for k in range(6))}
    assert result["trained"]["plain"] != result["trained"]["wide"]
    verdict, body = ranks.ranks_table([Record(unit.name, unit.settings, result, 1.0, "", "", "")])
    assert "tau" in verdict
    assert "beats" in body
