from __future__ import annotations

import numpy as np
import pytest

import strategies.walkforward.run_files as run_files
from data.panel import Panel
from data.simulated import simulate


@pytest.fixture(scope="module")
def panel() -> Panel:
    start = np.datetime64("2024-01-01", "ns")
    return simulate(["BTCUSDT", "ETHUSDT"], "60", start=start, end=start + np.timedelta64(100, "h"))


def test_candles_are_the_traded_bars(panel: Panel) -> None:
    table = run_files._candles(panel, 10, 90)
    assert len(table) == 160
    eth = table[table["asset"] == "ETHUSDT"]
    assert eth["close"].to_numpy() == pytest.approx(panel.column("close", "ETHUSDT")[10:90])
    assert eth["timestamp"].iloc[0].tz_localize(None) == panel.timestamps[10]


def test_long_runs_keep_their_extremes_in_longer_candles(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "CANDLE_ROWS", 50)
    table = run_files._candles(panel, 10, 89)
    assert len(table) <= 50 + 2
    btc = table[table["asset"] == "BTCUSDT"]
    assert btc["high"].max() == panel.column("high", "BTCUSDT")[10:89].max()
    assert btc["low"].min() == panel.column("low", "BTCUSDT")[10:89].min()
    assert btc["close"].iloc[-1] == panel.column("close", "BTCUSDT")[88]
    assert btc["open"].iloc[1] == panel.column("open", "BTCUSDT")[14]
