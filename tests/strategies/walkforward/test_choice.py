"""What may trade a window: chosen on stop stretches, held to its record on unseen ones, flat where luck explains that."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from data.panel import CANDLE_FIELDS, FloatArray, Panel
from lab.verdict import traded_share
from strategies.backtest.portfolio import book_of
from strategies.backtest.positions import PositionRule, PositionState, smoothed, step, target_positions
from strategies.backtest.terms import Account, Costs
from strategies.walkforward.choice import (
    EXACT,
    FLAT,
    Choice,
    Plan,
    Records,
    Tried,
    in_blocks,
    luck_of,
    net_returns,
    plans,
    scaled_rule,
    sharpe,
)
from strategies.walkforward.pipeline import flat_lines

HOUR = 3_600_000_000_000
EAGER, CALM = Plan(0.5), Plan(2.0, 2.0, 1.0)


def tried(plan: Plan, returns: FloatArray) -> Tried:
    return Tried(plan, returns, sharpe(returns, 8760))


def earning(standard_errors: float, bars: int = 400) -> FloatArray:
    """Returns whose mean is this many standard errors above zero."""
    values = np.where(np.arange(bars) % 2 == 0, 1.0, -1.0)
    result: FloatArray = values + standard_errors / np.sqrt(bars)
    return result


def offer(errors: float) -> list[tuple[str, str, list[Tried]]]:
    return [("a", "network", [tried(EAGER, earning(errors)), tried(CALM, earning(-1))])]


def test_the_best_on_validation_trades_only_on_an_unseen_record_beyond_luck() -> None:
    for errors, trades in ((1.2, False), (1.4, True)):  # 10% lies at 1.28 standard errors
        records = Records[str](0.1)
        first = records.choose(offer(8.0), 0)
        assert (first.plan, first.best, first.record) == (FLAT, EAGER, 0)  # however good validation looks
        assert "no unseen day of earlier windows tells yet" in first.why_flat
        records.learn(exactly(errors))
        choice = records.choose(offer(0.1), 400)
        told = f"earned {errors:.1f} standard errors on 400 earlier unseen days, luck shows 1.3 once in 10"
        assert (told in choice.why_flat) != trades
        assert bool(choice.why_flat) != trades
        assert choice.plan == (EAGER if trades else FLAT)
        assert choice.by_luck == pytest.approx(1 - NormalDist().cdf(errors), abs=0.01)


def exactly(errors: float, bars: int = 400) -> FloatArray:
    """Returns of one size whose sum is about this many standard errors."""
    wins = round((bars + errors * np.sqrt(bars)) / 2)
    result: FloatArray = np.where(np.arange(bars) < wins, 1.0, -1.0)
    return result


def test_losing_plans_leave_the_strategy_flat_however_lenient_it_is() -> None:
    assert Records[str](1.0).choose(offer(-0.5)).plan == FLAT
    nothing = [("a", "network", [tried(EAGER, np.zeros(50))])]
    assert Records[str](1.0).choose(nothing).plan == FLAT
    assert Records[str](1.0).choose(offer(0.1)).plan == EAGER


def test_overlapping_stop_stretches_count_each_bar_once() -> None:
    """Steps of 100 bars under stop stretches of 400: four windows hold 700 bars, not 1,600."""
    rng = np.random.default_rng(4)
    bars, records = rng.normal(0.05, 1.0, 700), Records[str](1.0)
    for start in (0, 100, 200, 300):
        records.choose([("a", "x", [tried(EAGER, bars[start : start + 400])])], start)
    assert np.array_equal(records._stop["a", EAGER][0], bars)
    records.choose([("a", "x", [tried(EAGER, bars[:100])])], 1000)  # a gap between two stretches takes nothing away
    assert len(records._stop["a", EAGER][0]) == 800


def test_luck_of_a_record_is_the_share_of_signs_that_do_as_well() -> None:
    rng = np.random.default_rng(5)
    for count in (5, EXACT, EXACT + 1, 200):
        blocks = rng.standard_t(3, count) + 0.2
        signs = rng.choice([-1.0, 1.0], (40_000, count))
        assert luck_of(blocks) == pytest.approx(np.mean(signs @ np.abs(blocks) >= blocks.sum() - 1e-12), abs=0.02)
    assert luck_of(np.zeros(9)) == 1.0
    assert luck_of(np.empty(0)) == 1.0
    assert in_blocks(np.arange(5.0), 2).tolist() == [1.0, 5.0, 4.0]


def test_a_tenth_of_worthless_windows_trades_at_any_step_and_number_of_plans() -> None:
    for step_days, count in ((7, 12), (30, 1), (30, 12)):
        assert traded_share(step_days, count, 80, days=360, first_seed=9) == pytest.approx(0.1, abs=0.06)


def test_a_choice_knows_nothing_of_later_windows() -> None:
    rng = np.random.default_rng(1)
    stretches = [rng.normal(0.05, 1, (3, 100)) for _ in range(6)]

    def run(count: int) -> list[tuple[Plan, float]]:
        records = Records[str](0.5)
        found = []
        for number, part in enumerate(stretches[:count]):
            choice = records.choose([("a", "x", [tried(EAGER, part[0]), tried(CALM, part[1])])], 100 * number)
            records.learn(part[2])
            found.append((choice.plan, choice.by_luck))
        return found

    assert run(6)[:3] == run(3)


def test_plans_are_every_combination_the_most_cautious_first() -> None:
    found = plans((0.5, 2.0), (0.0, 2.0), (0.0, 1.0))
    assert len(set(found)) == 8
    assert found[0] == CALM
    assert found[-1] == EAGER


def test_forecasts_must_beat_the_round_trip_to_enter_but_not_to_stay() -> None:
    rule = PositionRule(target_volatility=0.0, cost_hurdle=1.0, cost_bps=5.0, horizon_bars=4, exit_threshold=0.0)
    # a round trip costs 10 bps; forecast x volatility x sqrt(4) must reach that: forecast 0.5 at 10 bps does
    forecast = np.array([0.49, 0.5, 0.1, -0.1, -0.5, np.nan, 0.4, 0.4])
    volatility = np.array([0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.002])
    assert target_positions(forecast, volatility, rule, 8760).tolist() == [0, 1, 1, 0, -1, 0, 0, 1]


def test_hurdle_without_known_volatility_stays_flat() -> None:
    rule = PositionRule(target_volatility=0.0, cost_hurdle=1.0)
    assert step(PositionState(), 5.0, np.nan, rule, 8760).position == 0.0


def test_smoothing_is_an_exponential_average_that_skips_what_is_unknown() -> None:
    # span 3: weight 1/2
    assert smoothed(np.array([4.0, 0.0, np.nan, 1.0]), 3.0)[[0, 1, 3]].tolist() == [4.0, 2.0, 1.5]
    assert np.isnan(smoothed(np.array([4.0, np.nan]), 3.0)[1])
    rule = PositionRule(target_volatility=0.0, threshold=1.6, smoothing_bars=3.0)
    assert target_positions(np.array([4.0, 0.0, np.nan, 1.0]), np.ones(4), rule, 8760).tolist() == [1, 1, 0, 0]


def test_step_by_step_is_the_loop_with_smoothing_and_hurdle() -> None:
    rng = np.random.default_rng(3)
    forecast, volatility = rng.normal(0, 0.3, 300), rng.uniform(0.001, 0.02, 300)
    forecast[rng.random(300) < 0.1] = np.nan
    rule = PositionRule(threshold=0.1, exit_threshold=0.0, smoothing_bars=6, cost_hurdle=1.0, horizon_bars=6)
    state, path = PositionState(), []
    for f, v in zip(forecast, volatility, strict=True):
        state = step(state, f, v, rule, 8760)
        path.append(state.position)
    assert np.array_equal(path, target_positions(forecast, volatility, rule, 8760))
    assert len(set(path)) > 10


def noise(bars: int = 600) -> Panel:
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.005, bars)))
    opens = np.concatenate([[100.0], close[:-1]])
    candles = np.stack([opens, np.maximum(opens, close), np.minimum(opens, close), close, np.ones(bars)], 1)
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(bars) * np.timedelta64(HOUR, "ns")
    return Panel(stamps, ("A",), CANDLE_FIELDS, candles[:, None, :], HOUR, "test")


def test_worthless_forecasts_stay_flat_and_foresight_trades() -> None:
    panel = noise()
    rng = np.random.default_rng(7)
    base = PositionRule(horizon_bars=1)
    volatility = np.full((len(panel), 1), 0.005)
    opens = np.log(panel.column("open", "A"))
    coming = np.zeros(len(panel))
    coming[:-2] = (opens[2:] - opens[1:-1]) / 0.005  # what no strategy may know
    for forecast, trades in ((rng.normal(size=len(panel)), False), (coming, True)):
        column = forecast[:, None]
        tries = []
        for plan in plans((0.5, 1.0, 2.0), (0.0, 2.0), (0.0, 1.0)):
            book = book_of(panel, column, volatility, 0, scaled_rule(base, column, plan))
            tries.append(tried(plan, net_returns(panel, book, 0, Costs(), Account())))
        records = Records[str](0.1, 24)
        records.choose([("a", "x", tries)], 0)
        records.learn(tries[-1].returns)
        assert (records.choose([("a", "x", tries)], len(panel)).plan != FLAT) == trades
    assert scaled_rule(base, column, FLAT).threshold > 1e6


def test_the_console_says_which_windows_stay_flat_and_why_the_last_does() -> None:
    trading, unknown = Choice("n", EAGER, EAGER, 0.01, 0.1, 40), Choice("n", FLAT, EAGER, 1.0, 0.1, 0)
    unlucky = Choice("n", FLAT, EAGER, 1 - NormalDist().cdf(0.9), 0.1, 40)
    assert flat_lines([trading, trading]) == []
    assert flat_lines([unknown, trading]) == ["stayed flat in 1 of 2 windows (0)"]
    (line,) = flat_lines([unknown, trading, unlucky])
    assert line.startswith(
        "stayed flat in 2 of 3 windows (0, 2); the last: the window stays flat: plans chosen like its best one earned 0.9 "
    )
    assert line.endswith("on 40 earlier unseen days, luck shows 1.3 once in 10")
