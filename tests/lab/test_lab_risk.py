"""Problems of `lab risk`: tests that do not overlap, files in turn, nothing later than the last label, errors a person can act on."""

from __future__ import annotations

import numpy as np
import pytest

from data.panel import InputError, Panel
from lab.risk import GAP_BARS, SHIPPED, places, stretch, targets_of, units
from lab.risk_table import GOALS, SEARCH_GOAL, risk_table
from lab.units import Record
from tests.nas.targets.test_targets import market

DAYS = (40, 10, 5)
HISTORIES = [market(4_000, seed=k) for k in range(3)]
HISTORIES = [
    Panel(p.timestamps, (f"S{k}",), p.fields, p.values, p.interval_ns, p.source) for k, p in enumerate(HISTORIES)
]


def test_tests_of_a_target_do_not_overlap_and_files_take_turns() -> None:
    found = places(HISTORIES, 6, 1, DAYS)
    starts = [place.test_start for place in found]
    assert len(found) == 6
    assert min(np.diff(starts)) >= DAYS[2] * 24
    assert sorted(place.symbol for place in found) == ["S0", "S0", "S1", "S1", "S2", "S2"]


def test_a_problem_ends_with_its_last_label_and_is_purged() -> None:
    unit = units(HISTORIES, 2, 1, (("range", 6),), DAYS)[0]
    panel, train, validation, test = stretch(HISTORIES[0], unit)
    assert len(panel) <= test.stop + 7
    assert validation.start - train.stop == GAP_BARS == test.start - validation.stop
    assert str(panel.timestamps[test.start])[:10] == unit.settings["test"]
    assert train.start >= 31 * 24


@pytest.mark.parametrize(
    ("text", "said"), [("range", "how many bars"), ("return:6", "no closed form"), ("", "names nothing")]
)
def test_targets_are_named_with_bars_ahead(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        targets_of(text)


def test_short_files_are_told() -> None:
    with pytest.raises(InputError, match="no file is long enough"):
        places([market(1_000)], 2, 1, DAYS)


def _record(gain: float, slot: int) -> Record:
    names = ("ewma", "harx", "harxl", "harx + tcn", SHIPPED, *SEARCH_GOAL[:2])
    skills = dict(zip(names, (0.0, 0.2, 0.22, 0.23, 0.2 + gain, 0.25, 0.25), strict=True))
    arms = {name: {"skill": skills[name] + 0.01 * slot, "qlike": 0.3, "correlation": 0.5} for name in names}
    networks = [[kind, 0.01 * k, 0.01 * k, 0.1 * k, 0.1 * k] for kind in ("stack", "small") for k in range(4)]
    settings = {"target": "range", "horizon": 6, "days": [150, 50, 30], "slot": slot, "symbol": "S0"}
    return Record(str(slot), settings, {"arms": arms, "networks": networks}, 1.0, "2026-01-01", "", "")


@pytest.mark.parametrize(("gain", "word"), [(0.06, "met"), (0.04, "missed")])
def test_a_goal_is_met_or_missed_by_its_figure(gain: float, word: str) -> None:
    verdict, text = risk_table([_record(gain, slot) for slot in range(4)])
    assert GOALS["range", 6][0] == ("harx", 0.045)
    first = verdict.split(";")[0]
    assert f"goal +0.045: {word}" in first
    assert "| all | +1.000" in text


def test_only_what_the_goals_compare_is_a_run_of_its_own() -> None:
    usual, few = (units(HISTORIES, 2, 1, (("range", 6),), DAYS, *given)[0] for given in ((), ("goals",)))
    assert "arms" not in usual.settings
    assert few.settings["arms"] == "goals"
    assert few.name != usual.name
    with pytest.raises(InputError, match="neither of all, goals"):
        units(HISTORIES, 2, 1, (("range", 6),), DAYS, "some")


def test_coins_of_a_stretch_count_once() -> None:
    one, other = _record(0.1, 0), _record(0.0, 0)
    verdict, _ = risk_table([one, other, _record(0.05, 1), _record(0.05, 2)])
    assert "over harx +0.050 (+0.050 to +0.050)" in verdict
