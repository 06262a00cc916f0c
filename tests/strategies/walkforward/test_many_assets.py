"""The chain of a run on several assets, from candles to equity: no asset's future reaches another's past; order and listing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data.assembly import build_panel
from data.panel import FloatArray, InputError, Panel
from data.simulated import simulate
from nas.features.bank import build_bank, causal_volatility
from nas.network.stretches import Samples
from nas.network.training import TrainingSettings
from nas.search.settings import SearchSettings
from nas.space.genotype import Genotype
from nas.space.ops import ACROSS_OPS
from nas.space.search_space import SearchSpace
from nas.tasks.windows import Window
from nas.tasks.work import SearchTask, TrainTask, run_task
from strategies.backtest.execution import backtest
from strategies.backtest.portfolio import Portfolio, book_of
from strategies.backtest.positions import PositionRule
from strategies.walkforward.config import RunConfig
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline, cost_of_share
from strategies.walkforward.trading import portfolio_of

NAMES = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FEATURES = {"return": ("raw",), "body": ("raw",)}
WINDOW = Window(0, slice(60, 500), slice(600, 800), slice(900, 1_100), 100)
HOUR = 3_600_000_000_000


def market() -> Panel:
    """SOLUSDT is listed while the training stretch runs."""
    start = np.datetime64("2024-01-01", "ns")
    panel = simulate(NAMES, "60", start=start, end=start + np.timedelta64(1_100, "h"))
    values = np.array(panel.values)
    values[:250, 2] = np.nan
    return changed(panel, values)


def changed(panel: Panel, values: FloatArray, assets: tuple[str, ...] | None = None) -> Panel:
    return Panel(
        panel.timestamps, assets or panel.assets, panel.fields, values, HOUR, "test", settlements=panel.settlements
    )


def chain(panel: Panel, share: str = "all") -> dict[str, Any]:
    """Search, train from scratch, forecast, weigh, trade."""
    space = SearchSpace(
        ops=("zero", "conv3", *ACROSS_OPS), nodes=1, channels=4, edges_per_node=1, assets=panel.assets, share=share
    ).with_features(FEATURES)
    samples = Samples.of(panel, (1,), FEATURES)
    found = run_task(SearchTask(WINDOW, "darts", 0, space, SearchSettings(epochs=2, length=64)), samples)
    genotype = Genotype.from_dict(found.report["genotype"])
    training = TrainingSettings(epochs=2, length=64)
    trained = run_task(TrainTask(WINDOW, "darts", 0, space, training, genotype), samples)
    rule = PositionRule(forecast_scale=0.1)
    weights = book_of(
        panel, trained.test_forecasts, causal_volatility(panel), 900, rule, Portfolio("volatility_target")
    )
    equity = backtest(panel, weights, start=900, stop=1_100, name="x").equity
    return {
        "genotype": found.report["genotype"],
        "forecasts": trained.test_forecasts,
        "weights": weights,
        "equity": equity,
    }


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return chain(market())


@pytest.mark.parametrize("asset", range(3))
def test_future_of_one_asset_changes_nothing_of_any_asset_before_it(plain: dict[str, Any], asset: int) -> None:
    panel, cut = market(), 1_000
    values = np.array(panel.values)
    dice = np.random.default_rng(asset)
    values[cut:, asset, [0, 2]] *= dice.uniform(
        0.5, 1.0, (100, 1)
    )  # open and low fall, high and close rise: whatever the
    values[cut:, asset, [1, 3]] *= dice.uniform(1.0, 2.0, (100, 1))  # search reads of a candle changes
    after = chain(changed(panel, values))
    assert after["genotype"] == plain["genotype"]
    for name in ("forecasts", "weights", "equity"):
        assert np.array_equal(after[name][: cut - 900], plain[name][: cut - 900], equal_nan=True)
        assert not np.array_equal(after[name][cut - 900 :], plain[name][cut - 900 :], equal_nan=True)


def test_order_of_the_symbols_only_reorders_what_comes_out(plain: dict[str, Any]) -> None:
    panel, order = market(), [2, 0, 1]
    turned = changed(panel, panel.values[:, order], tuple(NAMES[k] for k in order))
    got = chain(turned)
    # batches hold all assets of a stretch, so that training sees the same sums in another order
    np.testing.assert_allclose(got["forecasts"], plain["forecasts"][:, order], atol=1e-4)


def test_missing_close_gets_no_forecast_and_no_new_weight(plain: dict[str, Any]) -> None:
    panel = market()
    values = np.array(panel.values)
    values[950:960, 1] = np.nan
    got = chain(changed(panel, values))
    assert np.isnan(got["forecasts"][50:60, 1]).all()
    assert not got["weights"][50:60, 1].any()
    assert np.isfinite(got["forecasts"][50:60, [0, 2]]).all()


def test_features_of_the_market_and_the_clock_are_unknown_where_an_asset_is_not_listed() -> None:
    values = build_bank(market(), {"market_return": ("raw",), "day_sin": ("raw",)}).values
    assert np.isnan(values[2, :, :250]).all()
    assert np.isfinite(values[:2, :, 1:]).all()
    assert np.isfinite(values[2, :, 250:]).all()


def candles(first: str, bars: int) -> pd.DataFrame:
    index = pd.date_range(first, periods=bars, freq="h", name="timestamp")
    return pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), 100.0), index=index)


def test_assets_that_begin_and_end_apart_share_one_grid_and_odd_close_times_are_refused() -> None:
    panel = build_panel({"A": candles("2024-01-01", 10), "B": candles("2024-01-01 04:00", 10)}, HOUR, source="test")
    assert np.isfinite(panel.column("close", "A")).tolist() == [True] * 10 + [False] * 4
    assert np.isfinite(panel.column("close", "B")).tolist() == [False] * 4 + [True] * 10
    with pytest.raises(InputError, match="off the grid"):
        build_panel({"A": candles("2024-01-01", 10), "B": candles("2024-01-01 00:30", 10)}, HOUR, source="test")


def test_settings_that_need_several_assets_are_refused_for_one() -> None:
    with pytest.raises(InputError, match="several assets"):
        portfolio_of(RunConfig(weighting="hrp"))
    with pytest.raises(InputError, match="no weighting"):
        portfolio_of(RunConfig(symbol=("A", "B"), weighting="best"))


def test_weights_that_are_not_shared_say_that_they_cost_the_square_of_the_assets() -> None:
    """Where the plan is shown, before anything is searched; with ops of single assets every network reads its own asset only."""
    assets = tuple(f"COIN{k}USDT" for k in range(50))
    reading = SearchSpace(ops=("zero", "identity", "market"), assets=assets, share="none")
    assert "2,500 passes instead of 50" in cost_of_share(reading)
    assert cost_of_share(replace(reading, share="embedding")) == ""
    assert cost_of_share(replace(reading, ops=("zero", "identity"))) == ""
    assert cost_of_share(SearchSpace()) == ""
    config = RunConfig(symbol=NAMES, share="none", train=200, validation=120, test=60, step=300, horizon=(1,), nodes=1)
    console = Console(width=200, quiet=False)
    with console.capture() as said:
        Pipeline(config, Options(), market(), "code", console, {}).show_plan()
    assert "each of 3 assets has a network of its own that reads all 3, 9 passes" in said.get()
