"""Fills, costs and funding of the Backtrader account, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.panel import CANDLE_FIELDS, FloatArray, Panel, Settlements
from strategies.backtest.execution import TRADE_COLUMNS, Backtest, backtest
from strategies.backtest.terms import Account, Costs

HOUR = 3_600_000_000_000
FREE = Costs(taker_fee_bps=0.0, maker_fee_bps=0.0, slippage_bps=0.0)


def panel_of(
    *paths: list[tuple[float, float, float, float]], settlements: dict[str, Settlements] | None = None
) -> Panel:
    """One asset A0, A1, ... per path of (open, high, low, close)."""
    bars = len(paths[0])
    values = np.empty((bars, len(paths), 5))
    for a, path in enumerate(paths):
        values[:, a, :4] = path
    values[:, :, 4] = 1_000.0
    stamps = np.datetime64("2024-01-01T00:00", "ns") + np.arange(bars) * np.timedelta64(HOUR, "ns")
    names = tuple(f"A{i}" for i in range(len(paths)))
    return Panel(stamps, names, CANDLE_FIELDS, values, HOUR, "test", settlements=settlements or {})


def flat_bars(*prices: float) -> list[tuple[float, float, float, float]]:
    return [(p, p, p, p) for p in prices]


def run(
    panel: Panel, targets: list[float] | FloatArray, costs: Costs = FREE, account: Account = Account(1_000.0)
) -> Backtest:
    column = np.asarray(targets, dtype=float).reshape(len(panel), -1)
    return backtest(panel, column, start=0, stop=len(panel), name="test", costs=costs, account=account)


def test_order_decided_at_the_close_fills_at_the_next_open() -> None:
    panel = panel_of([(90, 101, 90, 100), (110, 130, 105, 120), (121, 121, 90, 99)])
    result = run(panel, [0.5, 0.5, 0.5])
    # close 100, equity 1000: 5 units ordered; bought at the open 110; marked at 120, then 99
    assert result.holdings[:, 0].tolist() == [0, 5, 5]
    assert result.equity.tolist() == [1000, 1050, 945]
    assert result.trades["price"].tolist() == [110]
    assert result.trades["timestamp"].tolist() == panel_times([panel.timestamps[1]])
    assert result.timestamps[0] == panel.close_times[0]


def test_taker_fee_and_slippage_are_paid_on_the_open() -> None:
    panel = panel_of(flat_bars(100, 100, 100))
    result = run(panel, [1.0, 0.0, 0.0], Costs(taker_fee_bps=10, slippage_bps=100))
    # buy 10 at 101 (fee 1.01), mark at 100; sell 10 at 99 (fee 0.99)
    assert result.equity == pytest.approx([1000, 1000 - 10 - 1.01, 1000 - 20 - 2.0], rel=1e-12)
    assert result.trades["fee"].tolist() == pytest.approx([1.01, 0.99])
    assert result.trades["slippage"].tolist() == pytest.approx([10, 10])


def test_short_gains_when_the_price_falls_and_a_flip_trades_both_sides() -> None:
    panel = panel_of(flat_bars(100, 100, 90, 90, 99))
    result = run(panel, [-1.0, -1.0, 1.0, 1.0, 1.0])
    # short 10 at 100; at 90 equity 1100, target 12.22 units long: buy 22.22 at 90; at 99 gains 9 x 12.22
    assert result.equity == pytest.approx([1000, 1000, 1100, 1100, 1100 + 9 * 1100 / 90], rel=1e-12)
    assert result.trades["size"].tolist() == pytest.approx([-10, 10 + 1100 / 90])


def test_partial_close_keeps_the_rest() -> None:
    panel = panel_of(flat_bars(100, 110, 110, 120))
    result = run(panel, [1.0, 0.5, 0.5, 0.5])
    # buy 10 at 110; target 0.5 x 1000 / 110 = 4.545 units
    assert result.holdings[:, 0] == pytest.approx([0, 10, 500 / 110, 500 / 110])
    assert result.equity == pytest.approx([1000, 1000, 1000, 1000 + 10 * 500 / 110])


def test_funding_is_paid_at_its_settlement_by_the_position_held_before_the_open() -> None:
    start = np.datetime64("2024-01-01T00:00", "ns")
    at = [start + np.timedelta64(int(h * 60), "m") for h in (1, 2, 2.5, 3)]
    settlements = {"A0": Settlements(np.array(at), np.array([0.01, 0.02, -0.03, 0.04]))}
    panel = panel_of(flat_bars(100, 100, 100, 100), settlements=settlements)
    result = run(panel, [1.0, 1.0, 0.0, 0.0])
    funding = result.trades[result.trades["kind"] == "funding"]
    # 01:00 is the fill's own open: nothing held before it; 02:00, 02:30, 03:00: held before the closing fill
    assert funding["funding"].tolist() == pytest.approx([-20, 30, -40])
    assert funding["timestamp"].tolist() == panel_times(at[1:])
    assert result.equity == pytest.approx([1000, 1000, 1010, 970])


def panel_times(stamps: list[np.datetime64]) -> list[object]:
    return list(pd.DatetimeIndex(np.array(stamps)).tz_localize("UTC"))


def test_short_receives_positive_funding() -> None:
    stamp = np.array([np.datetime64("2024-01-01T02:00", "ns")])
    panel = panel_of(flat_bars(100, 100, 100), settlements={"A0": Settlements(stamp, np.array([0.01]))})
    assert run(panel, [-1.0, -1.0, -1.0]).equity[-1] == pytest.approx(1010)


def test_two_assets_share_one_account() -> None:
    panel = panel_of(flat_bars(100, 100, 110), flat_bars(10, 10, 9))
    result = run(panel, np.array([[0.5, -0.5]] * 3))
    # 5 units of A0 gain 50; short 50 units of A1 gain 50
    assert result.equity.tolist() == [1000, 1000, 1100]
    assert result.cash == pytest.approx([1000, 1000, 1000])


def test_zero_trades_and_unknown_targets_give_a_valid_flat_result() -> None:
    panel = panel_of(flat_bars(100, 50, 200))
    for targets in ([0.0, 0.0, 0.0], [np.nan, np.nan, np.nan]):
        result = run(panel, targets)
        assert result.equity.tolist() == [1000, 1000, 1000]
        assert tuple(result.trades.columns) == TRADE_COLUMNS
        assert len(result.trades) == 0


def test_one_bar_gives_one_equity_point() -> None:
    result = run(panel_of(flat_bars(100)), [1.0])
    assert result.equity.tolist() == [1000]


def test_asset_without_bars_waits_for_its_first_one() -> None:
    nothing = (np.nan, np.nan, np.nan, np.nan)
    panel = panel_of([nothing, nothing, (10, 10, 10, 10), (10, 10, 10, 10), (12, 12, 12, 12)])
    result = run(panel, [1.0] * 5)
    assert result.holdings[:, 0].tolist() == [0, 0, 0, 100, 100]
    assert result.equity.tolist() == [1000, 1000, 1000, 1000, 1200]


def test_unchanged_target_is_not_traded_until_its_weight_drifts_past_the_band() -> None:
    panel = panel_of(flat_bars(100, 100, 101, 150, 150))
    result = run(panel, [-0.5] * 5)
    # at 150 the short of 5 weighs 750 / 750 = 1: traded back to 0.5 x 750 / 150 = 2.5 units
    assert result.trades["size"].tolist() == pytest.approx([-5, 2.5])


def test_changing_later_bars_changes_nothing_before() -> None:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, 60)))
    opens = np.concatenate([[100.0], close[:-1]])
    bars = [(o, max(o, c) * 1.01, min(o, c) * 0.99, c) for o, c in zip(opens, close, strict=True)]
    targets = rng.uniform(-1, 1, 60)
    whole = run(panel_of(bars), targets, Costs())
    for t in (5, 30, 58):
        changed = bars[: t + 1] + [(o * 3, h * 5, low * 2, c * 4) for o, h, low, c in bars[t + 1 :]]
        other = run(panel_of(changed), targets, Costs())
        assert np.array_equal(whole.equity[: t + 1], other.equity[: t + 1])
        assert np.array_equal(whole.holdings[: t + 1], other.holdings[: t + 1])
        assert not np.array_equal(whole.equity, other.equity)


def test_bar_by_bar_run_equals_the_preloaded_one() -> None:
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, 50)))
    panel = panel_of(flat_bars(*close))
    targets = rng.uniform(-1, 1, (50, 1))
    fast = run(panel, targets)
    slow = backtest(
        panel, targets, start=0, stop=50, name="x", costs=FREE, account=Account(1_000.0),
        cerebro_options={"runonce": False, "preload": False, "exactbars": 1},
    )  # fmt: skip
    assert np.array_equal(fast.equity, slow.equity)


def test_leverage_caps_the_position() -> None:
    panel = panel_of(flat_bars(100, 100, 100))
    result = run(panel, [5.0, 5.0, 5.0], account=Account(1_000.0, leverage=2.0))
    assert result.holdings[1, 0] == pytest.approx(20)
