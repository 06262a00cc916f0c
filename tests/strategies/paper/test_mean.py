"""The mean of several networks trades on paper as it did in the backtest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.panel import InputError
from data.simulated import simulate
from nas.network.model import ENSEMBLE_FILE
from strategies.paper.decisions.strategy import load_strategy
from tests.strategies.paper.rig import SYMBOL, save_model

START = np.datetime64("2024-01-01", "ns")
PANEL = simulate([SYMBOL], "60", start=START, end=START + np.timedelta64(900, "h"))


def test_the_forecast_of_a_mean_is_the_mean_of_its_members(tmp_path: Path) -> None:
    for k in (0, 1):
        save_model(tmp_path / "members" / str(k), PANEL, seed=k)
    (tmp_path / ENSEMBLE_FILE).write_text(json.dumps({"members": 2, "forecast": "mean"}))
    both = load_strategy(tmp_path, None, None)
    singles = [load_strategy(tmp_path / "members" / str(k), None, None) for k in (0, 1)]
    told = [single.forecasts(PANEL, 700, 900) for single in singles]
    assert np.abs(told[0] - told[1]).max() > 1e-6
    np.testing.assert_array_equal(both.forecasts(PANEL, 700, 900), np.mean(told, axis=0))
    np.testing.assert_array_equal(both.forecasts(PANEL, 700, 900, both.model.bank(PANEL)), np.mean(told, axis=0))
    assert both.name not in {single.name for single in singles}
    assert both.history_bars == max(single.history_bars for single in singles)


@pytest.mark.parametrize("text", ['{"members": "2"}', '{"members": 0}', '{"members": 10000000000}', "[]", "{"])
def test_a_damaged_mean_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / ENSEMBLE_FILE).write_text(text)
    with pytest.raises(InputError, match="rerun the walk-forward"):
        load_strategy(tmp_path, None, None)
