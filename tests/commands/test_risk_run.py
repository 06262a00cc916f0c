"""Runs with risk targets: what is asked for, what positions are sized by, that nothing later is seen, that paper trading sizes alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data.panel import InputError
from nas.targets import Scale
from strategies.backtest.positions import PositionRule
from strategies.backtest.sizing import RiskForecast, Sizing, load_risk
from strategies.walkforward.auditing import Audit
from strategies.walkforward.choice import HOLD, Records, Tried, scaled_rule
from strategies.walkforward.config import RunConfig
from strategies.walkforward.risk import Wanted, sized_by, wanted_of
from tests.commands.small_run import market, run


def test_a_run_forecasts_what_it_is_asked_to() -> None:
    config = RunConfig(target=("return", "range", "volume:24"), horizon=(6,))
    assert wanted_of(config) == (Wanted("range", 6), Wanted("volume", 24))
    assert sized_by(config) == "range"
    assert wanted_of(RunConfig()) == ()
    assert sized_by(RunConfig()) is None


@pytest.mark.parametrize(("target", "said"), [
    (("rnage",), "did you mean 'range'"),
    (("range:x",), "number, e.g. range:6"),
    (("return:6",), "--horizon 6"),
    (("volume",), "neither a direction nor how much"),
    (("range", "range:24"), "twice"),
])  # fmt: skip
def test_what_cannot_be_forecast_is_told(target: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        wanted_of(RunConfig(target=target))


def test_holding_needs_no_record() -> None:
    lost = Tried(HOLD, np.full(100, -0.01) + np.linspace(0, 1e-3, 100), -5.0)
    assert Records[str](1.0).choose([("key", "it", [lost])]).plan == HOLD
    rule = scaled_rule(PositionRule(threshold=1.0, forecast_scale=2.0), np.ones((50, 1)), HOLD)
    assert (rule.threshold, rule.forecast_scale) == (0.0, 0.0)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that forecasts range and volume only."""
    folder = tmp_path_factory.mktemp("held")
    market().to_parquet(folder / "BTCUSDT.parquet")
    done = run(
        folder,
        "--data",
        "BTCUSDT.parquet",
        "--target",
        "range,volume",
        "--volatility",
        "harx",
        "--stop-loss",
        "1",
        "--jobs",
        "1",
        "--quiet",
    )
    assert done.returncode == 0, done.stderr
    return folder / "reports" / "latest"


def test_a_run_without_a_direction_holds_by_the_size_that_its_forecast_says(held: Path) -> None:
    positions = pd.read_parquet(held / "positions.parquet")
    mine = positions[positions["strategy"] == "searched"]["position"]
    assert (mine >= 0.0).all()
    assert mine.max() > 0.0
    assert {"hold_ewma", "hold_harx"} <= set(positions["strategy"])
    assert all(window["plan"] == "hold" for window in json.loads((held / "windows.json").read_text()))


def test_stops_are_placed_by_the_forecast_that_sizes_and_the_audit_finds_them_again(
    held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(held.parents[1])
    audit = Audit.open(held, Console(quiet=True))
    assert "stop" in set(pd.read_parquet(held / "trades.parquet")["kind"])
    assert not [check.name for check in audit._trades() if not check.passed]
    audit.stretch["volatility"] = None  # by EWMA(48), as where nothing is said: other stops
    assert [check.name for check in audit._trades() if not check.passed]


def test_every_method_is_told_beside_what_came(held: Path) -> None:
    table, numbers = pd.read_parquet(held / "risk.parquet"), json.loads((held / "risk.json").read_text())
    assert set(table["target"]) == {"range", "volume"} == set(numbers)
    for target, mine in table.groupby("target"):
        known = mine.dropna(subset=["realised", "forecast"])
        assert len(known) > 100, target
        assert (known["low"] < known["high"]).all()
        assert set(numbers[target]["windows"][0]["factors"]) <= set(mine.columns)


def test_the_page_shows_risk_forecasts(held: Path) -> None:
    text = (held / "index.html").read_text()
    assert 'id="risk"' in text
    assert "Range volatility" in text
    assert "Diebold" in text


def test_saved_risk_forecasts_are_those_of_the_run(held: Path) -> None:
    """From the model folder alone, on the market of the run: the very forecasts of the files."""
    from data.sources import load_panel

    panel = load_panel(("BTCUSDT",), files=(held.parents[1] / "BTCUSDT.parquet",))
    last = sorted((held / "models").iterdir(), key=lambda p: int(p.name))[-1]
    found = load_risk(last)
    assert set(found) == {"range", "volume"}
    table = pd.read_parquet(held / "risk.parquet")
    for target, forecast in found.items():
        mine = table[(table["target"] == target) & (table["window"] == int(last.name))]
        stamps = pd.DatetimeIndex(mine["timestamp"]).tz_convert(None).values
        at = np.searchsorted(panel.timestamps, stamps.astype("datetime64[ns]"))
        again = forecast.model.forecast(forecast.problem(panel), slice(0, len(panel)))[0, at]
        np.testing.assert_allclose(again, mine["forecast"].to_numpy(), rtol=1e-6)


def test_sizes_come_from_the_scale_where_the_forecast_is_not_known(held: Path) -> None:
    from tests.nas.targets.test_targets import PANEL

    found: dict[str, RiskForecast] = load_risk(held / "models" / "0")
    sized = Sizing(Scale(), found["range"]).volatility(PANEL)
    plain = Scale().volatility(PANEL)
    early = slice(30, 60)
    np.testing.assert_array_equal(sized[early], plain[early])
    assert (sized[2_000:] != plain[2_000:]).all()


def test_a_model_whose_forecast_is_missing_is_told(held: Path) -> None:
    with pytest.raises(InputError, match="rerun the walk-forward"):
        Sizing.of(held, {"sized_by": "range"}, {})


def test_every_window_tells_the_record_of_kinds_that_its_forecast_used(held: Path) -> None:
    windows = json.loads((held / "windows.json").read_text())
    for window in windows:
        for target in ("range", "volume"):
            told = window["kinds"][target]
            assert {r["kind"] for r in told["records"]} >= set(told["networks"])
            assert "sentence" in told["probe"]
    forecast = load_risk(held / "models" / "0")["range"].model
    assert len(forecast.members) == len(windows[0]["kinds"]["range"]["networks"])
    assert "which kinds of networks" in (held / "index.html").read_text()


def test_quantiles_of_the_return_are_on_page_in_files_and_in_the_model(held: Path) -> None:
    numbers = json.loads((held / "risk.json").read_text())
    told = [window["quantiles"] for window in numbers["range"]["windows"]]
    assert not any(window["quantiles"] for window in numbers["volume"]["windows"])
    assert [q["level"] for q in told[0]["forecast"]] == [0.01, 0.05, 0.95, 0.99]
    assert {"forecast", "ewma"} <= set(told[0])
    assert "How far the price may move in" in (held / "index.html").read_text()
    ahead = load_risk(held / "models" / "0")["range"].returns(0.01)
    assert ahead[0.05] == pytest.approx(np.expm1(0.01 * told[0]["forecast"][1]["factor"]))
    assert ahead[0.05] < 0.0 < ahead[0.95]
