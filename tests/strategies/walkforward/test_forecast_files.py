"""Forecasts of others: read as meant, or refused in one line that says what to do; plans know nothing of the bars they trade."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import InputError
from data.panel import Panel
from data.simulated import simulate
from nas.features.bank import causal_volatility
from nas.network.stretches import Samples
from nas.tasks.windows import Window, WindowPlan
from strategies.walkforward.forecast_files import read_forecasts
from strategies.walkforward.judged import Judged, check_covered, distinct

FIRST = np.datetime64("2024-01-01", "ns")
BARS = 2_400


def market(*symbols: str, bars: int = BARS) -> Panel:
    return simulate(list(symbols or ["BTCUSDT"]), "60", start=FIRST, end=FIRST + np.timedelta64(bars, "h"))


def table(panel: Panel, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=len(panel))
    return pd.DataFrame({"timestamp": panel.timestamps, "symbol": "BTCUSDT", "forecast": values})


def saved(folder: Path, frame: pd.DataFrame, name: str = "mine.csv") -> str:
    path = folder / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    return str(path)


def refused(folder: Path, frame: pd.DataFrame, panel: Panel, **how: str) -> str:
    with pytest.raises(InputError) as found:
        read_forecasts([saved(folder, frame)], panel, **how)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet"])
def test_values_land_on_the_bars_they_are_stamped_with(tmp_path: Path, name: str) -> None:
    panel, frame = market(), table(market())
    ((given,), _) = read_forecasts([saved(tmp_path, frame, name)], panel)
    assert given.name == given.title == "mine"
    np.testing.assert_array_equal(given.values[:, 0], frame["forecast"])


def test_closing_stamps_are_the_bar_before(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    frame["timestamp"] += pd.Timedelta("1h")
    ((given,), notes) = read_forecasts([saved(tmp_path, frame)], panel, stamps="close")
    np.testing.assert_array_equal(given.values[:, 0], frame["forecast"])
    assert any("close of their bar" in note for note in notes)


def test_further_columns_are_further_models(tmp_path: Path) -> None:
    panel, frame = market(), table(market()).assign(other=1.0)
    frame["my model!"] = frame["forecast"] * 2
    found, _ = read_forecasts([saved(tmp_path, frame)], panel)
    assert [given.name for given in found] == ["mine", "other", "my_model"]


def test_a_runs_own_forecasts_are_read_by_strategy(tmp_path: Path) -> None:
    panel = market()
    parts = [table(panel, seed).assign(strategy=name, window=3) for seed, name in ((0, "searched"), (1, "tcn"))]
    frame = pd.concat(parts).rename(columns={"symbol": "asset"})
    found, _ = read_forecasts([saved(tmp_path, frame)], panel)
    assert [given.name for given in found] == ["searched", "tcn"]
    np.testing.assert_array_equal(found[1].values[:, 0], parts[1]["forecast"])


def test_zones_are_turned_into_utc(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    frame["timestamp"] = frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    ((given,), _) = read_forecasts([saved(tmp_path, frame)], panel)
    np.testing.assert_array_equal(given.values[:, 0], frame["forecast"])


def test_another_zone_over_a_clock_change_is_told(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    frame["timestamp"] = frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin").dt.tz_localize(None)
    assert "give --timezone Europe/Berlin" in refused(tmp_path, frame, panel)
    ((given,), _) = read_forecasts([saved(tmp_path, frame)], panel, timezone="Europe/Berlin")
    np.testing.assert_array_equal(given.values[:, 0], frame["forecast"])


def test_stamps_between_bars_are_told(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    frame["timestamp"] += pd.Timedelta("30min")
    assert "is no opening time of a bar" in refused(tmp_path, frame, panel)


def test_doubled_stamps_that_differ_are_told(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    frame = pd.concat([frame, frame.iloc[[700]].assign(forecast=9.0)])
    assert "two different forecasts of BTCUSDT for 2024-01-30 04:00 UTC" in refused(tmp_path, frame, panel)


def test_doubled_stamps_that_agree_are_one(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    ((given,), _) = read_forecasts([saved(tmp_path, pd.concat([frame, frame.iloc[[700]]]))], panel)
    np.testing.assert_array_equal(given.values[:, 0], frame["forecast"])


def test_unknown_symbols_are_told(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    assert "has no forecast of BTCUSDT: it holds XRPUSDT" in refused(tmp_path, frame.assign(symbol="XRPUSDT"), panel)
    assert "is no symbol" in refused(tmp_path, frame.assign(symbol="../../evil"), panel)
    assert "no column symbol" in refused(tmp_path, frame.drop(columns="symbol"), market("BTCUSDT", "ETHUSDT"))


def test_what_is_no_number_is_told(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    few = frame.assign(forecast=frame["forecast"].where(frame.index < 50))
    assert "50 known forecasts on these bars (2,350 rows are NaN" in refused(tmp_path, few, panel)
    frame.loc[7, "forecast"] = np.inf
    assert "in row 8 is infinite" in refused(tmp_path, frame, panel)
    words = frame.assign(forecast=frame["forecast"].astype(object))
    words.loc[1_000, "forecast"] = "up"
    assert "not a number" in refused(tmp_path, words, panel)


@pytest.mark.parametrize("symbols", [True, False])
def test_an_empty_column_is_told_as_one(tmp_path: Path, symbols: bool) -> None:
    panel, frame = market(), table(market())
    kept = frame if symbols else frame.drop(columns="symbol")
    assert "mine has 0 known forecasts on these bars (2,400 rows are NaN or empty)" in refused(
        tmp_path, kept.assign(forecast=np.nan), panel
    )
    assert "other has 0 known forecasts" in refused(tmp_path, kept.assign(other=np.nan), panel)
    assert "holds no forecast; give columns timestamp, symbol, forecast" in refused(
        tmp_path, kept.drop(columns="forecast"), panel
    )


def test_another_year_is_told(tmp_path: Path) -> None:
    panel, frame = market(), table(market())
    frame["timestamp"] += pd.Timedelta("700d")
    assert "no bar is in both" in refused(tmp_path, frame, panel)


def judged(panel: Panel, values: np.ndarray, unit: str = "score") -> Judged:
    from strategies.walkforward.forecast_files import Given

    return Judged.of(Given("mine", "mine", values), panel, 6, causal_volatility(panel), unit)  # type: ignore[arg-type]


def windows(bars: int = BARS) -> tuple[Window, ...]:
    return WindowPlan(500, 240, 240, 240).windows(bars, first=0, purge_bars=10)


def test_half_the_span_is_told_with_the_dates_to_type() -> None:
    panel = market()
    values = table(panel)[["forecast"]].to_numpy(copy=True)
    values[1_200:] = np.nan
    with pytest.raises(InputError, match="--start 2024-01-01 --end 2024-02-20"):
        check_covered(judged(panel, values), panel, windows(), ["mine.csv"])


def test_a_few_missing_bars_are_said_and_traded_around() -> None:
    panel = market()
    values = table(panel)[["forecast"]].to_numpy(copy=True)
    values[1_200:1_205] = np.nan
    assert "no forecast in 5 of the bars" in check_covered(judged(panel, values), panel, windows(), ["mine.csv"])


def test_windows_before_the_first_end_where_it_begins_and_go_back_as_far_as_the_file() -> None:
    panel = market()
    found = judged(panel, table(panel)[["forecast"]].to_numpy(copy=True)).before(windows())
    assert [w.number for w in found] == [-2, -1]
    assert found[-1].test.stop <= windows()[0].test.start
    late = table(panel)[["forecast"]].to_numpy(copy=True)
    late[:600] = np.nan
    assert judged(panel, late).before(windows()) == []


def test_what_a_window_knows_does_not_depend_on_the_bars_after_it() -> None:
    """Sizes are learned before the stop stretch: another future, of market and file, leaves earlier contenders as they are."""
    panel = market()
    values = table(panel)[["forecast"]].to_numpy(copy=True)
    window = windows()[1]
    cut = window.stop.stop
    other = values.copy()
    other[cut:] = 77.0
    samples = Samples.of(panel, (6,), {"return": ("raw",)})
    changed = Samples(panel, samples.bank, samples.labels.copy(), samples.horizons)
    changed.labels[:, :, window.stop.start - 7 :] = 3.0
    first = judged(panel, values).contenders(samples, windows(), 0)
    second = judged(panel, other).contenders(changed, windows(), 0)
    for a, b in zip(first, second, strict=True):
        if a.window.number <= window.number:
            np.testing.assert_array_equal(a.trained.stop_forecasts, b.trained.stop_forecasts)
    assert not np.array_equal(first[-1].trained.stop_forecasts, second[-1].trained.stop_forecasts)


def test_prices_and_probabilities_are_recognised() -> None:
    panel = market()
    close = panel.field("close")
    assert "price" in judged(panel, close * 1.01, "auto").description
    assert judged(panel, close * 1.01, "auto").claimed[100:].min() > 0
    chance = np.random.default_rng(0).uniform(0.3, 0.7, close.shape)
    assert "probability" in judged(panel, chance, "auto").description
    assert "score" in judged(panel, chance - 0.5, "auto").description
    with pytest.raises(InputError, match="0 or below"):
        judged(panel, chance - 0.5, "price")


def test_a_score_that_pointed_the_wrong_way_is_not_turned_round() -> None:
    panel = market()
    samples = Samples.of(panel, (6,), {"return": ("raw",)})
    wrong = -samples.labels[:, 0].T
    found = judged(panel, wrong).contenders(samples, windows(), 0)[-1]
    known = np.isfinite(found.trained.test_forecasts)
    assert (np.sign(found.trained.test_forecasts[known]) == np.sign(wrong[found.window.test][known])).all()


def test_a_name_that_the_run_has_gets_another() -> None:
    panel = market()
    (found,) = distinct([judged(panel, table(panel)[["forecast"]].to_numpy(copy=True))], ["mine"])
    assert (found.name, found.title) == ("given_mine", "mine")
