"""Pooled evidence on kinds: what is planted is found, what is not there is rarely found, and nothing later is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.search.pooling import AVERAGED, NETWORKS, Decision, Score, decide, probe, records

KINDS = ("stack", "ladder", "small")


def scores(seed: int, windows: int, gap: float, noise: float = 0.02, assets: int = 2, members: int = 2) -> list[Score]:
    """`small` adds `gap` less than the others; every fold has a market of its own that all kinds share."""
    rng = np.random.default_rng(seed)
    found = []
    for window in range(windows):
        shared = 0.02 * rng.standard_normal(2)
        for fold in range(2):
            for asset in range(assets):
                for kind in KINDS:
                    for member in range(members):
                        gain, seen = shared[fold] + 0.03 - gap * (kind == "small") + noise * rng.standard_normal(2)
                        found.append(Score(window, fold, f"A{asset}", kind, member, gain, seen))
    return found


def kept(decision: Decision) -> dict[str, bool]:
    return {record.kind: record.kept for record in decision.records}


def test_a_planted_gap_is_found_from_the_fifth_window_on() -> None:
    judged = [decide(scores(seed, 12, 0.02), window) for seed in range(20) for window in range(4, 12)]
    dropped = np.mean([not kept(decision)["small"] for decision in judged])
    assert dropped >= 0.8


def test_kinds_that_are_alike_are_mostly_kept() -> None:
    """Against the leader of three by 80% intervals: each of the others is dropped in 10%, and more as the leader is the luckiest."""
    stayed = [r.kept for seed in range(60) for r in records(scores(seed, 8, 0.0)) if r.kind == "small"]
    assert np.mean(stayed) >= 0.65


def test_later_windows_never_change_an_earlier_decision() -> None:
    true = scores(0, 8, 0.02)
    other = [s if s.window <= 4 else replace(s, gain=-s.gain, seen=5.0, kind="another") for s in true]
    for window in range(5):
        assert decide(true, window) == decide(other, window)
    assert decide(true, 5) != decide(other, 5)


def test_evidence_turns_with_the_market() -> None:
    """Twenty windows in which small cells are worse, then twenty in which they are better."""
    before = scores(0, 20, 0.03)
    after = [replace(s, window=s.window + 20) for s in scores(1, 20, -0.03)]
    assert not kept(decide([*before, *after], 19))["small"]
    assert kept(decide([*before, *after], 39)) == {"stack": False, "ladder": False, "small": True}


def test_bars_that_were_validated_on_before_count_once() -> None:
    once = scores(0, 1, 0.02)
    again = [replace(s, window=1, weight=0.0) for s in once]
    one, two = records(once), records([*once, *again], forgetting=1.0)
    assert [r.gain for r in one] == pytest.approx([r.gain for r in two])
    assert [r.units for r in one] == pytest.approx([r.units for r in two])


def test_half_new_stretches_are_half_as_many_units() -> None:
    whole = scores(0, 8, 0.02)
    half = [replace(s, weight=0.5) for s in whole]
    for one, other in zip(records(whole), records(half), strict=True):
        assert other.units == pytest.approx(one.units / 2)
        assert other.gain == pytest.approx(one.gain)
        assert other.high - other.low > one.high - one.low


def test_assets_of_a_fold_are_one_unit() -> None:
    """They move together: ten copies of an asset are no more evidence than one."""
    single = scores(0, 4, 0.02, assets=1)
    copied = [replace(s, asset=f"copy{k}") for s in single for k in range(10)]
    for one, other in zip(records(single), records(copied), strict=True):
        assert one.behind_low == pytest.approx(other.behind_low)
        assert one.units == pytest.approx(other.units)


def test_where_the_past_does_not_foretell_all_kinds_are_averaged() -> None:
    rng = np.random.default_rng(3)
    drawn = []
    for score in scores(0, 12, 0.0):
        gain, seen = rng.standard_normal(2)
        drawn.append(replace(score, gain=float(gain), seen=float(seen)))
    for window in range(11, 2, -1):
        decision = decide(drawn, window)
        if decision.probe.helps is False:
            assert len(decision.kinds) == AVERAGED
            assert set(decision.kinds) == set(KINDS)
            assert "averaging 12" in decision.probe.sentence()
            break
    else:
        pytest.fail("the probe never says that choosing cannot help")


def test_where_one_kind_leads_the_probe_says_that_choosing_helps() -> None:
    found = probe(scores(0, 12, 0.05, noise=0.01))
    assert found.helps
    assert found.between > 0.5
    chosen = decide(scores(0, 12, 0.05, noise=0.01), 11).kinds
    assert len(chosen) == NETWORKS
    assert "small" not in chosen


def test_too_few_windows_decide_nothing_by_the_probe() -> None:
    decision = decide(scores(0, 2, 0.05, noise=0.001), 1)
    assert decision.probe.helps is None
    assert not kept(decision)["small"]
    assert set(decision.kinds) == set(KINDS)


def test_a_decision_is_plain_json() -> None:
    told = decide([s for s in scores(0, 1, 0.0) if s.fold == 0], 0).to_dict()
    assert told["records"][0]["low"] is None  # one unit has no interval
    assert len(told["networks"]) == NETWORKS


def test_without_scores_nothing_is_decided() -> None:
    with pytest.raises(ValueError, match="no scores"):
        decide(scores(0, 3, 0.0)[60:], 0)
