"""Claims about the bundled market."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data.panel import InputError
from data.simulated import DEMO, TREND, VOLATILE, MarketRecipe, planted_in, simulate
from data.sources import load_panel

START, END = np.datetime64("2022-01-01", "ns"), np.datetime64("2024-06-01", "ns")


def log_returns(panel, asset: str) -> np.ndarray:
    close = np.log(panel.column("close", asset))
    return np.diff(close, prepend=close[0])


def test_default_is_a_year_of_sane_hourly_bars() -> None:
    panel = simulate(["BTCUSDT", "ETHUSDT"])
    assert len(panel) == 366 * 24
    assert panel.simulated
    assert panel.regimes is not None
    assert len(panel.regimes) == len(panel)
    assert set(np.unique(panel.regimes)) == {0, 1, 2}
    candles = panel.values[:, :, :5]
    assert np.isfinite(candles).all()
    assert (candles > 0).all()
    assert (panel.field("high") >= np.maximum(panel.field("open"), panel.field("close"))).all()
    assert (panel.field("low") <= np.minimum(panel.field("open"), panel.field("close"))).all()
    assert np.array_equal(panel.field("open")[1:], panel.field("close")[:-1])


def test_a_shorter_end_gives_identical_earlier_bars() -> None:
    whole = simulate(["ETHUSDT"], start=START, end=END, seed=3)
    for end in ("2022-01-05T07:00", "2023-02-01", "2024-05-31T23:00"):
        part = simulate(["ETHUSDT"], start=START, end=np.datetime64(end, "ns"), seed=3)
        assert part.fingerprint() == whole.cut(0, len(part)).fingerprint()
        assert np.array_equal(part.regimes, whole.regimes[: len(part)])


def test_start_and_company_only_cut() -> None:
    whole = simulate(["BTCUSDT", "ETHUSDT", "DOGEUSDT"], start=START, end=END)
    later = simulate(["ETHUSDT"], start=np.datetime64("2023-01-01T05:30", "ns"), end=END)
    at = len(whole) - len(later)
    assert whole.timestamps[at] == later.timestamps[0] == np.datetime64("2023-01-01T06:00")
    assert np.array_equal(whole.column("close", "ETHUSDT")[at:], later.column("close", "ETHUSDT"))
    assert np.array_equal(whole.regimes[at:], later.regimes)


def test_seed_and_interval_change_the_market_and_repeat_it() -> None:
    again = [simulate(["BTCUSDT"], seed=s).fingerprint() for s in (0, 0, 1, -1)]
    assert again[0] == again[1]
    assert len(set(again)) == 3
    four_hours = simulate(["BTCUSDT"], "240")
    assert len(four_hours) == 366 * 6


def test_volatility_clusters_and_tails_are_fat() -> None:
    panel = simulate(["BTCUSDT"], start=START, end=END)
    returns = log_returns(panel, "BTCUSDT")
    assert ((returns - returns.mean()) ** 4).mean() / returns.var() ** 2 > 5
    size = np.abs(returns)
    assert np.corrcoef(size[:-1], size[1:])[0, 1] > 0.1
    assert np.corrcoef(size, np.log(panel.column("volume", "BTCUSDT")))[0, 1] > 0.3
    assert size[panel.regimes == VOLATILE].mean() > 1.3 * size[panel.regimes == TREND].mean()


def test_funding_follows_past_returns_every_eight_hours() -> None:
    panel = simulate(["BTCUSDT"], start=START, end=END)
    settled = panel.settlements["BTCUSDT"]
    assert set(np.diff(settled.timestamps)) == {np.timedelta64(8, "h")}
    close = np.log(panel.column("close", "BTCUSDT"))
    at = np.searchsorted(panel.close_times, settled.timestamps, side="right") - 1
    past = at >= 24
    change = close[at[past]] - close[at[past] - 24]
    assert np.corrcoef(change, settled.rates[past])[0, 1] > 0.8
    assert settled.rates.mean() > 0


def lagged(panel, lag: int, mask: np.ndarray | None = None) -> float:
    lead, follow = log_returns(panel, "BTCUSDT")[:-lag], log_returns(panel, "ETHUSDT")[lag:]
    keep = slice(None) if mask is None else mask[lag:]
    return float(np.corrcoef(lead[keep], follow[keep])[0, 1])


def test_the_leader_leads_by_the_planted_bars_only() -> None:
    plain = replace(MarketRecipe(), trend_drift=0.0, reversion_rate=0.0)
    panel = simulate(["BTCUSDT", "ETHUSDT"], start=START, end=END, recipe=plain)
    noise = 4 / np.sqrt(len(panel))
    assert lagged(panel, 3) > 0.06
    assert all(abs(lagged(panel, lag)) < noise for lag in (1, 2, 4, 5))
    moved = simulate(["BTCUSDT", "ETHUSDT"], start=START, end=END, recipe=replace(plain, lead_lag_bars=5))
    assert lagged(moved, 5) > 0.06
    assert abs(lagged(moved, 3)) < noise


def test_contagion_can_be_kept_to_the_volatile_regime() -> None:
    plain = replace(
        MarketRecipe(), trend_drift=0.0, reversion_rate=0.0, contagion_only_volatile=True, lead_lag_strength=0.3
    )
    panel = simulate(["BTCUSDT", "ETHUSDT"], start=START, end=END, recipe=plain)
    volatile = panel.regimes == VOLATILE
    assert lagged(panel, 3, volatile) > 0.15
    assert abs(lagged(panel, 3, ~volatile)) < 4 / np.sqrt((~volatile).sum())


def test_nothing_is_planted_when_the_recipe_says_so() -> None:
    empty = replace(MarketRecipe(), trend_drift=0.0, reversion_rate=0.0, lead_lag_strength=0.0)
    panel = simulate(["BTCUSDT", "ETHUSDT"], start=START, end=END, recipe=empty)
    for lag in (1, 2, 3, 6):
        assert abs(lagged(panel, lag)) < 4 / np.sqrt(len(panel))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"symbols": ["FOO"]}, "unknown symbol 'FOO'"),
        ({"symbols": ["btcusdt"]}, "unknown symbol 'btcusdt'"),
        ({"symbols": []}, "no symbol given"),
        ({"symbols": ["BTCUSDT", "BTCUSDT"]}, "given twice"),
        ({"interval": "61"}, "unknown interval '61'; expected one of 1, 3, 5"),
        ({"interval": "M"}, "no fixed length"),
        ({"start": "2024-02-30"}, "is no date"),
        ({"start": "2024-03-01", "end": "2024-02-01"}, "--start 2024-03-01 is not before --end 2024-02-01"),
        ({"start": "2019-12-31"}, "before the simulated market begins"),
        ({"end": "2119-12-31", "interval": "1"}, "choose an earlier --end"),
        ({"source": "binance"}, "unknown --source"),
    ],
)
def test_wrong_wishes_give_one_clear_line(wrong: dict, expected: str) -> None:
    asked = {"symbols": ["BTCUSDT"], "source": "simulated", **wrong}
    with pytest.raises(InputError, match=expected) as caught:
        load_panel(**asked)
    assert "\n" not in str(caught.value)


def test_the_demo_market_moves_as_planted_and_only_there() -> None:
    panel = load_panel(["BTCUSDT"], source="demo", start="2020-06-01", end="2024-06-01")
    assert panel.source == "demo"
    assert panel.simulated
    planted = {each["regime"]: each for each in planted_in(panel)}
    assert tuple(planted) == panel.regime_names
    assert planted_in(simulate(["BTCUSDT"])) == []
    returns = log_returns(panel, "BTCUSDT")
    turns = panel.timestamps[np.flatnonzero(np.diff(panel.regimes)) + 1]
    assert set((turns - np.datetime64("2020-01-01")) % np.timedelta64(13_140, "h")) == {np.timedelta64(0, "ns")}
    for k, each in enumerate(DEMO.planted):
        values = pd.Series(returns if each.of == "return" else np.log(panel.column("volume", "BTCUSDT")))
        if each.of == "volume":
            values = (values - values.rolling(168).mean()) / values.rolling(168).std()
        average = values.ewm(span=each.average, adjust=False).mean().to_numpy()
        known = np.isfinite(average[:-1])
        there, elsewhere = (known & (panel.regimes[1:] == r) for r in (k, 1 - k))
        here, other = (np.corrcoef(average[:-1][m], returns[1:][m])[0, 1] for m in (there, elsewhere))
        assert here > 0.1
        assert here > other + 0.05


def test_what_is_planted_reads_no_later_bar() -> None:
    spans = {"start": START, "seed": 3, "recipe": DEMO}
    whole, part = (simulate(["ETHUSDT"], end=end, **spans) for end in (END, np.datetime64("2023-02-01", "ns")))
    assert part.fingerprint() == whole.cut(0, len(part)).fingerprint()


def test_the_demo_market_keeps_clusters_and_tails() -> None:
    returns = log_returns(load_panel(["BTCUSDT"], source="demo"), "BTCUSDT")
    assert ((returns - returns.mean()) ** 4).mean() / returns.var() ** 2 > 4
    size = np.abs(returns)
    assert np.corrcoef(size[:-1], size[1:])[0, 1] > 0.1
