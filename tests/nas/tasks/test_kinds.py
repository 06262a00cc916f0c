"""The cheap evidence on kinds reads no bar after validation, and no label that reaches from one fold into the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.network.residual import Problem
from nas.network.training import TrainingSettings
from nas.tasks.kinds import KindsTask, folds_of, scores_of
from nas.tasks.windows import Window
from tests.nas.targets.test_targets import PANEL, market, replaced

WINDOW = Window(3, slice(1_000, 2_600), slice(2_700, 3_600), slice(3_700, 4_200), 100)
TASK = KindsTask(
    WINDOW, "range", 6, 0, "harx", ("stack", "small"), 1, TrainingSettings(epochs=3, learning_rate=1e-2, length=256)
)


def test_scores_ignore_what_comes_after_validation() -> None:
    """The label of the last validation bars reaches into the embargo, not into the test."""
    one, other = (
        scores_of(Problem.of(panel, "range", 6, "harx"), TASK)
        for panel in (PANEL, replaced(PANEL, WINDOW.validation.stop + 6))
    )
    assert one == other
    assert one != scores_of(Problem.of(replaced(PANEL, WINDOW.validation.stop - 100), "range", 6, "harx"), TASK)


def test_folds_share_no_label() -> None:
    early, late = folds_of(slice(100, 300), 6)
    assert early == slice(100, 194)
    assert late == slice(200, 300)


def test_every_kind_fold_and_asset_has_a_score() -> None:
    found = scores_of(Problem.of(market(4_300, 2), "range", 6, "harx"), TASK)
    assert {(s.kind, s.fold, s.asset) for s in found} == {
        (kind, fold, asset) for kind in TASK.kinds for fold in (0, 1) for asset in ("A0USDT", "A1USDT")
    }
    assert all(np.isfinite([s.gain, s.seen]).all() and s.window == 3 and s.weight == 1.0 for s in found)


def test_what_an_earlier_window_validated_on_weighs_less() -> None:
    """Up to the middle of the late fold: nothing of the early one counts, half of the late one."""
    middle = 3_150 + 225
    found = scores_of(Problem.of(PANEL, "range", 6, "harx"), replace(TASK, validated=middle, kinds=("small",)))
    assert [s.weight for s in found] == pytest.approx([0.0, 0.5])


def test_kinds_of_inputs_are_scored_too() -> None:
    """On half of the inputs, and with the base's columns: what comes after validation changes neither."""
    task = replace(TASK, kinds=("half", "columns"))
    one, other = (
        scores_of(Problem.of(panel, "range", 6, "harx", columns=True), task)
        for panel in (PANEL, replaced(PANEL, WINDOW.validation.stop + 6))
    )
    assert one == other
    assert len({s.gain for s in one}) == len(one)
