"""The statistics against published numbers, against other libraries, and on data where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.overfitting import mean_pbo, needed_sharpe
from reports.statistics import (
    Moments,
    against_benchmark,
    control,
    deflated_sharpe,
    expected_best,
    luck,
    minimum_track_record,
    moments,
    overfitting,
    probabilistic_sharpe,
    resample,
    sharpes,
    sign_flips,
)

BAILEY_2014 = Moments(sharpe=2.5 / math.sqrt(250), observations=1250, skew=-3.0, kurtosis=10.0)


def half_unit(published: float, digits: int) -> object:
    return pytest.approx(published, abs=0.5 * 10.0**-digits)


def test_deflated_sharpe_of_bailey_and_lopez_de_prado_2014() -> None:
    assert expected_best(100, 0.5 / 250) == half_unit(0.1132, 4)
    assert deflated_sharpe(BAILEY_2014, 100, 0.5 / 250) == half_unit(0.9004, 4)
    assert deflated_sharpe(BAILEY_2014, 46, 0.5 / 250) == half_unit(0.9505, 4)


def test_probabilistic_sharpe_of_bailey_and_lopez_de_prado_2012() -> None:
    of = Moments(sharpe=1.59 / math.sqrt(12), observations=24, skew=0.0, kurtosis=3.0)
    assert probabilistic_sharpe(of) == half_unit(0.982, 3)


@pytest.mark.parametrize(("periods", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_minimum_track_record_of_bailey_and_lopez_de_prado_2012(periods: int, years: float) -> None:
    of = Moments(sharpe=2.0 / math.sqrt(periods), observations=0, skew=0.0, kurtosis=3.0)
    assert minimum_track_record(of, 1.0 / math.sqrt(periods)) / periods == half_unit(years, 2)


@pytest.mark.parametrize("seed", range(3))
def test_minimum_track_record_agrees_with_purgedcv(seed: int) -> None:
    from purgedcv import min_track_record_length

    of = moments(0.01 * (np.random.default_rng(seed).standard_t(5, 300) + 0.3))
    needed = min_track_record_length(of.sharpe, 0.01, 0.05, of.skew, of.kurtosis)
    assert math.ceil(minimum_track_record(of, 0.01)) == needed


@pytest.mark.parametrize("seed", range(5))
def test_own_formulas_agree_with_skfolio(seed: int) -> None:
    from skfolio import measures

    random = np.random.default_rng(seed)
    returns = 0.01 * random.standard_t(4, 400) + 0.0005
    trials = random.normal(0.0, 0.05, 30)
    of = moments(returns)
    assert probabilistic_sharpe(of, 0.02) == pytest.approx(measures.probabilistic_sharpe_ratio(returns, 0.02), abs=1e-5)
    spread = float(np.var(trials, ddof=1))
    assert deflated_sharpe(of, 30, spread) == pytest.approx(measures.deflated_sharpe_ratio(returns, trials), abs=1e-5)


@pytest.mark.parametrize(("seed", "configurations", "blocks"), [(0, 8, 8), (1, 20, 10), (2, 40, 8)])
def test_overfitting_agrees_with_purgedcv_and_phacker(seed: int, configurations: int, blocks: int) -> None:
    from phacker.cscv import cscv_reference
    from purgedcv import probability_of_backtest_overfitting

    matrix = np.random.default_rng(seed).normal(0.0, 0.01, (blocks * 30, configurations))
    found = overfitting(matrix, blocks)
    assert found is not None
    # purgedcv wants (configurations, observations), phacker the transpose
    assert found.pbo == probability_of_backtest_overfitting(matrix.T, n_splits=blocks).pbo
    # phacker's compiled kernel (used) against its plain reference
    assert found.pbo == cscv_reference(matrix, blocks)[0]


def test_overfitting_of_noise_is_a_coin_and_of_skill_is_small() -> None:
    random = np.random.default_rng(7)
    noise = [overfitting(random.normal(0.0, 0.01, (800, 40))) for _ in range(40)]
    values = [found.pbo for found in noise if found is not None]
    assert len(values) == 40
    assert np.mean(values) == pytest.approx(0.5, abs=0.1)
    planted = []
    for _ in range(20):
        skilled = random.normal(0.0, 0.01, (800, 40))
        skilled[:, 5] += 0.002  # an annual Sharpe ratio of 3.8 among 39 without any
        found = overfitting(skilled)
        assert found is not None
        planted.append(found.pbo)
    assert np.mean(planted) < 0.1


@pytest.mark.parametrize(("days", "configurations", "correlation"), [(730, 40, 0.0), (2920, 40, 0.0), (730, 40, 0.9)])
def test_skill_needed_for_a_small_pbo_is_what_the_length_and_the_rivals_say(
    days: int, configurations: int, correlation: float
) -> None:
    needed = needed_sharpe(days, configurations, correlation)
    below, above = (mean_pbo(days, configurations, correlation, 8, factor * needed, 25) for factor in (0.6, 1.4))
    assert above < 0.1 < below


def test_deflated_test_passes_a_skilled_strategy_among_noise() -> None:
    random = np.random.default_rng(12)
    trials = 0.01 * random.normal(size=(800, 50))
    trials[:, 7] += 0.002
    assert luck("skilled", trials[:, 7], 50, trials).dsr > 0.95


def test_overfitting_counts_the_same_configuration_once_and_needs_two() -> None:
    matrix = np.random.default_rng(0).normal(size=(400, 1))
    assert overfitting(np.repeat(matrix, 5, axis=1)) is None
    assert overfitting(np.random.default_rng(0).normal(size=(5, 4))) is None


def test_best_of_fifty_noise_strategies_seldom_passes_the_deflated_test() -> None:
    random = np.random.default_rng(11)
    plain = deflated = 0
    for _ in range(200):
        trials = 0.01 * random.standard_t(5, (500, 50))
        best = trials[:, int(np.argmax(sharpes(trials)))]
        found = luck("best", best, 50, trials)
        plain += found.psr >= 0.95
        deflated += found.dsr >= 0.95
    assert deflated / 200 <= 0.05
    assert plain / 200 > 0.5  # the test without deflation is fooled: the simulation has something to catch


def frame(values: np.ndarray) -> pd.DataFrame:
    days = pd.date_range("2023-01-01", periods=len(values), tz="UTC")
    return pd.DataFrame(values, index=days, columns=[f"s{k}" for k in range(values.shape[1])])


def test_interval_holds_the_true_sharpe_ratio_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    true = 0.1 * math.sqrt(365)
    draws = resample(frame(0.01 * (random.normal(size=(400, 60)) + 0.1)))
    assert draws is not None
    inside = [draws.interval(name).low <= true <= draws.interval(name).high for name in draws.names]
    assert 0.85 <= np.mean(inside) <= 1.0


def test_difference_of_a_strategy_with_itself_is_zero_and_paired() -> None:
    random = np.random.default_rng(4)
    market = 0.03 * random.normal(size=400)
    table = frame(np.stack([market, market + 0.003 + 0.001 * random.normal(size=400)], 1))
    draws = resample(table)
    assert draws is not None
    same = draws.difference("s0", "s0")
    assert (same.low, same.high) == (0.0, 0.0)
    assert draws.difference("s1", "s0").low > 0.0
    wide = draws.interval("s1")
    paired = draws.difference("s1", "s0")
    assert paired.high - paired.low < 0.5 * (wide.high - wide.low)


def test_spa_finds_skill_and_not_noise() -> None:
    random = np.random.default_rng(5)
    table = frame(0.01 * random.normal(size=(500, 4)))
    table["s0"] -= table["s0"].mean()
    none = against_benchmark(table, "s0")
    assert none is not None
    assert none.consistent > 0.05
    table["s2"] += 0.003
    some = against_benchmark(table, "s0")
    assert some is not None
    assert some.consistent < 0.01
    assert "s2" in some.superior


def test_all_rivals_may_be_superior_one_after_the_other() -> None:
    """The second is only found once the first is taken out; then none is left to test. Found by the null test of the lab."""
    table = frame(0.01 * np.random.default_rng(3).normal(size=(300, 3)))
    table -= table.mean()
    table["s0"] *= 0.01
    table["s1"] += 0.004
    table["s2"] += 0.00105
    found = against_benchmark(table, "s0")
    assert found is not None
    assert set(found.superior) == {"s1", "s2"}


def test_strategies_that_do_not_move_break_nothing() -> None:
    table = frame(np.stack([np.zeros(60), 0.01 * np.random.default_rng(0).normal(size=60)], 1))
    assert resample(table) is not None
    assert against_benchmark(table, "s1") is None
    still = luck("s0", np.zeros(60), 10, np.zeros((60, 3)))
    assert math.isnan(still.psr)
    assert math.isnan(still.min_track_days)
    assert control("s0", np.zeros(60), 10, np.zeros((60, 3))) is None


def test_control_has_no_drift_and_calls_real_skill_rare() -> None:
    random = np.random.default_rng(6)
    trials = 0.01 * random.normal(size=(400, 10))
    skilled = 0.01 * (random.normal(size=400) + 0.25)
    found = control("s", skilled, 10, trials)
    assert found is not None
    assert abs(float(np.mean(found.sharpe))) < 0.3
    assert found.share_above < 0.01
    assert found.dsr_hits <= 0.05
    assert 0.3 < found.pbo < 0.7
    signs = next(sign_flips(12, 1))
    assert len(signs) == 12
    assert len(set(signs[:5])) == 1
