"""`lab kinds`: the error of a mean from its moments, decisions window by window, only windows that all files of a group have finished."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data.panel import InputError
from lab.kinds import against, kinds_table, saved, units
from lab.units import Record
from tests.nas.targets.test_targets import market


def moments(seed: int, kinds: tuple[str, ...]) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    left, moved = rng.standard_normal(200), 0.2 * rng.standard_normal((len(kinds), 200))
    raw = {
        "kinds": list(kinds), "base": float(np.mean(left**2)),
        "cross": (moved @ left / 200).tolist(), "gram": (moved @ moved.T / 200).tolist(),
    }  # fmt: skip
    return raw, left, moved


def test_the_error_of_a_mean_follows_from_its_moments() -> None:
    raw, left, moved = moments(0, ("small", "stack", "small"))
    whole = 1.0 - np.mean((left - 0.75 * moved[[0, 2]].mean(0)) ** 2) / np.mean(left**2)
    assert saved(raw, [0, 2], 0.75) == pytest.approx(whole)
    kept, drawn, all_of_them = against(raw, ["small"], 0.75)
    assert kept == pytest.approx(whole)
    assert drawn == pytest.approx(np.mean([saved(raw, m, 0.75) for m in ([0, 1], [0, 2], [1, 2])]))
    assert all_of_them == pytest.approx(saved(raw, [0, 1, 2], 0.75))


def record(symbol: str, window: int, gap: float) -> Record:
    rng = np.random.default_rng([window, ord(symbol)])
    scores = [
        {"window": window, "fold": fold, "asset": symbol, "kind": kind, "member": m, "gain": gain, "seen": gain}
        for kind in ("stack", "small") for m in range(2) for fold in range(2)
        for gain in [0.02 - gap * (kind == "small") + 0.002 * rng.standard_normal()]
    ]  # fmt: skip
    settings = {"target": "range", "horizon": 6, "group": 0, "symbol": symbol, "window": window, "share": 0.75}
    return Record(f"{symbol}{window}", settings, {"scores": scores}, 1.0, "2026-01-01", "", "")


@pytest.mark.parametrize(
    ("gap", "said"), [(0.02, "in 2 of 2 windows"), (-0.02, "in 0 of 2 windows from the fifth on, for small cells in 2")]
)
def test_what_is_decided_is_what_was_planted(gap: float, said: str) -> None:
    found = [record(symbol, window, gap) for window in range(6) for symbol in "AB"]
    assert said in kinds_table(found)[0]
    half = record("A", 6, -50 * gap)  # its partner is not finished: it does not count
    assert kinds_table([*found, half]) == kinds_table(found)


def test_families_are_what_the_run_says() -> None:
    found = [record(symbol, window, 0.02) for window in range(6) for symbol in "AB"]
    named = [replace(r, settings={**r.settings, "kinds": ["stack", "small"], "lesser": ["stack"]}) for r in found]
    assert "for the others in 0 of 2 windows from the fifth on, for stack in 2" in kinds_table(named)[0]


def test_units_of_other_kinds_are_others_and_unknown_ones_are_refused() -> None:
    panel = market(24 * 300, 1)
    usual, other = (units([panel], "range", 6, 1, 0, *given)[0] for given in ((), (("half", "tcn"), ("half",))))
    assert usual.name != other.name
    assert other.settings["kinds"] == ["half", "tcn"]
    with pytest.raises(InputError, match="no kind of architectures 'none'"):
        units([panel], "range", 6, 1, 0, ("none", "tcn"), ("none",))
    with pytest.raises(InputError, match="must be some, not all"):
        units([panel], "range", 6, 1, 0, ("half", "tcn"), ("half", "tcn"))
