"""The verdict's sentences against its figures, on a grid of cases; what a proof asks for; what a run could have shown."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.luck import look_of, luck_section
from reports.performance import performance
from reports.run_folder import Run, load_run
from reports.statistics import (
    after_looks,
    detectable_sharpe,
    difference_probability,
    overfitting,
    proof,
)
from reports.tearsheets import honest_rows
from reports.verdict import Verdict, chance_of, verdict
from strategies.walkforward.looks import Register
from tests.reports.run_builder import build_run

BARS = 24 * 60
rng = np.random.default_rng(0)
NOISE = rng.normal(0.0, 0.003, BARS)


def path(drift: float, noise: float = 1.0) -> np.ndarray:
    return 10_000 * np.exp(np.cumsum(drift + noise * (NOISE - NOISE.mean())))


FLAT = np.full(BARS, 10_000.0)
ONE_TRADE = np.where(np.arange(BARS) < BARS // 2, 10_000.0, 9_950.0)
BANKRUPT = np.where(np.arange(BARS) < BARS // 2, path(-1e-4), -50.0)
CURVES = {
    "wins": path(3e-5), "sure": path(2e-3, 0.2), "loses": path(-4e-4), "loses more": path(-8e-4, 1.5), "flat": FLAT,
    "one trade": ONE_TRADE, "bankrupt": BANKRUPT,
}  # fmt: skip


def judged(folder: Path, own: np.ndarray, rival: np.ndarray) -> tuple[Run, Verdict, dict[str, float]]:
    curves = {"searched": own, "sma_cross": rival, "buy_and_hold": path(1e-4)}
    run = load_run(build_run(folder, bars=BARS, strategies=tuple(curves), equity=curves, trials=3))
    rows = [performance(run, name) for name in run.strategies]
    said = verdict(run, rows, luck_section(run, look_of(run, "page")))
    return run, said, {row.strategy: row.total_return for row in rows}


@pytest.mark.parametrize(("own", "rival"), list(itertools.product(CURVES, ("wins", "loses", "flat", "bankrupt"))))
def test_every_sentence_agrees_with_the_figures(tmp_path: Path, own: str, rival: str) -> None:
    _, said, returned = judged(tmp_path, CURVES[own], CURVES[rival])
    headline, text = said.headline, " ".join((said.headline, *said.details))
    mine, other = returned["searched"], returned["sma_cross"]
    assert "nan" not in text
    assert "%%" not in text
    if own == "flat":
        assert "made no trade" in headline
        assert ("staying flat did better" in headline) == (other < 0)
        assert ("did not beat" in headline) == (other > 0)
    if own == "bankrupt":
        assert "lost everything" in headline
    if mine <= 0:
        assert "ahead of" not in headline
        assert " network beat" not in headline
        assert "strategy beat" not in headline
        assert said.tone != "good"
    if "strategy beat" in headline:
        assert own == "sure"
        assert said.tone == "good"
    if "more than luck explains" in headline:
        assert mine > 0
        shown = re.search(r"above zero with (more than )?(\d+(?:\.\d+)?)% and", text)
        assert shown is not None
        assert float(shown[2]) >= 95
        assert "strategy beat" not in headline
    assert "regardless" not in text
    if mine < 0:
        assert "staying flat would have been better" in text
    if "earned nothing" in headline and own != "flat":
        assert mine <= 0 > other
    for share in re.findall(r"(\d+(?:\.\d+)?)% \((?:not )?enough", text):
        assert 0 <= float(share) <= 100


def test_a_sure_winner_beats_and_the_page_counts_its_looks(tmp_path: Path) -> None:
    run, said, _ = judged(tmp_path, CURVES["sure"], CURVES["loses"])
    assert said.headline.startswith("The searched strategy beat the best hand-designed one (sma cross)")
    assert "This is look 1 at 2023-01-01 to 2023-03-02" in " ".join(said.details)
    stretch = look_of(run, "page").stretch
    for number in range(5):
        Register().enter("run", f"other-{number}", stretch, "", "", {})
    assert look_of(run, "page").told.startswith("look 1 at 2023-01-01 to 2023-03-02 (6 by now)")


def test_what_passes_at_the_first_look_does_not_at_the_hundredth(tmp_path: Path) -> None:
    run, said, _ = judged(tmp_path, path(1.8e-4), CURVES["loses more"])
    assert "strategy beat" in said.headline
    stretch = look_of(run, "page").stretch
    for number in range(99):
        Register().enter("run", f"other-{number}", stretch, "", "", {})
    rows = [performance(run, name) for name in run.strategies]
    later = verdict(run, rows, luck_section(run, look_of(run, "page")))
    assert "did not provably beat" in later.headline
    assert "the best of 100 looks without skill" in " ".join(later.details)


def test_nothing_is_proven_where_looks_are_not_counted(tmp_path: Path) -> None:
    run, _, _ = judged(tmp_path, CURVES["sure"], CURVES["loses"])
    register = Register().path
    register.write_bytes(register.read_bytes().replace(b"synthetic", b"synthetik"))
    rows = [performance(run, name) for name in run.strategies]
    said = verdict(run, rows, luck_section(run, look_of(run, "page")))
    assert "did not provably beat" in said.headline
    assert "was changed: row 1 is not what was written" in " ".join(said.details)


def test_looks_hold_the_size_where_deflation_would_waste_it() -> None:
    best = np.random.default_rng(1).normal(size=(20_000, 20)).max(axis=1)
    bar = 2.7955  # where after_looks(P, 20) is 95%
    from scipy.stats import norm

    assert after_looks(float(norm.cdf(bar)), 20) == pytest.approx(0.95, abs=1e-3)
    assert np.mean(best > bar) == pytest.approx(0.05, abs=0.005)
    assert math.isnan(after_looks(0.99, None))


def test_the_difference_is_uncertain_as_simulated() -> None:
    """Under equal skill its probability is uniform: 5% of pairs lie above 95%, correlated or not."""
    draw = np.random.default_rng(2)
    for correlation in (0.0, 0.8):
        both = draw.normal(size=(800, 2, 300))
        rival = correlation * both[:, 0] + math.sqrt(1 - correlation**2) * both[:, 1]
        found = np.array([difference_probability(a, b) for a, b in zip(both[:, 0], rival, strict=True)])
        assert np.mean(found > 0.95) == pytest.approx(0.05, abs=0.025)
        assert found.mean() == pytest.approx(0.5, abs=0.04)
    still = np.zeros(300)
    assert difference_probability(both[0, 0] + 1.0, still) > 0.99
    assert math.isnan(difference_probability(still, still))


def test_detectable_sharpe_is_found_in_four_of_five_simulations() -> None:
    draw, days = np.random.default_rng(3), 226
    for looks in (1, 20):
        daily = draw.normal(size=(1500, days)) + detectable_sharpe(days, looks)
        found = [proof(own, np.zeros(days), looks) for own in daily]
        assert np.mean([after_looks(each.positive, looks) >= 0.95 for each in found]) == pytest.approx(0.8, abs=0.04)
    assert found[0].detectable > found[0].detectable_two_years


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.9496, "94.9%"), (0.95, "95.0%"), (0.5, "50%"), (0.9999, "more than 99.9%"), (0.0, "less than 0.1%")],
)
def test_no_probability_is_rounded_over_the_bar(value: float, words: str) -> None:
    assert chance_of(value) == words


def test_pbo_says_nothing_where_costs_rank_the_configurations() -> None:
    draw = np.random.default_rng(4)
    active = draw.random((320, 20)) < np.linspace(0.1, 1.0, 20)
    charged = np.where(active, draw.normal(-0.2, 1.0, (320, 20)), 0.0)
    found = overfitting(charged)
    assert found is not None
    assert found.activity_rank < -0.5
    assert not found.telling
    skilled = overfitting(draw.normal(np.linspace(-0.1, 0.3, 20), 1.0, (320, 20)))
    assert skilled is not None
    assert skilled.telling
    assert skilled.loss < 0.1


def test_what_trading_regardless_would_have_brought_is_told_and_judges_nothing(tmp_path: Path) -> None:
    curves = {"searched": FLAT, "regardless": path(2e-3, 0.2), "sma_cross": CURVES["loses"], "buy_and_hold": path(1e-4)}
    run = load_run(build_run(tmp_path, bars=BARS, strategies=tuple(curves), equity=curves, trials=3))
    info = {**run.info, "strategies": {"regardless": {"kind": "policy", "title": "Searched, regardless of its record"}}}
    run = replace(run, info=info)
    rows = [performance(run, name) for name in run.strategies]
    said = verdict(run, rows, luck_section(run, look_of(run, "page")))
    assert said.headline.startswith("The searched strategy made no trade")
    (told,) = [detail for detail in said.details if "regardless" in detail]
    (row,) = [row for row in rows if row.strategy == "regardless"]
    assert told == f"Traded regardless of its record it would have returned {row.total_return:+.1%}."


def test_tearsheets_tell_no_years_that_were_not_traded() -> None:
    rows = "".join(f"<tr><td>{name}</td><td>1%</td></tr>" for name in ("Max Drawdown", "3M", "1Y", "3Y (ann.)", "YTD"))
    assert re.findall("<td>([^<]*)</td><td>", honest_rows(rows, 225)) == ["Max Drawdown, by day", "3M", "YTD"]
    assert "3Y (ann.)" in honest_rows(rows, 1200)
