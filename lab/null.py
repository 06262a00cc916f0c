"""The whole walk-forward where there is nothing to find: how often does it believe that it found something?

Every market is run once and traded twice from the same searches and trainings: `shipped` with the settings a user gets (costs, the bar of
evidence before anything trades), and `bare` without costs and without that bar, where every leak of the future would show as profit.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.stats import spearmanr

from data.panel import FloatArray, Panel
from lab.markets import garch, permuted
from lab.units import Result, Unit
from reports.luck import trial_matrix
from reports.performance import daily_frame, sharpe_ratio
from reports.run_folder import BENCHMARK, SEARCHED, load_run
from reports.statistics import against_benchmark, luck, overfitting, sharpes
from strategies.walkforward.config import RunConfig
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline
from strategies.walkforward.provenance import code_version
from strategies.walkforward.trading import daily_net_returns, trading_terms

MARKETS = ("garch", "permuted")
HORIZON = 6  # bars, as the presets forecast
#: the quick preset on a shorter history: 60 days to learn from, 20 + 20 to validate, seven unseen stretches of 30 days
SETTINGS: dict[str, Any] = {
    "train": "60d", "validation": "40d", "test": "30d", "search_epochs": 12, "training_epochs": 25, "channels": 8,
    "horizon": [HORIZON],
    "baselines": ["linear"], "rules": ["sma_cross"],
}  # fmt: skip
#: what tells units apart from those of an earlier definition of the market
DRAWN = {"permuted": {"signs": "bar"}}
BARS = 8_200  # seven windows behind the warm-up of the features


def units(seeds: int, markets: tuple[str, ...] = MARKETS, changes: dict[str, Any] | None = None) -> list[Unit]:
    """Seed by seed, so that a table stopped early has few seeds and no holes."""
    settings = {**SETTINGS, **(changes or {})}
    return [
        Unit(
            f"{market}-{seed:03d}", {"market": market, "seed": seed, "bars": BARS, **settings, **DRAWN.get(market, {})}
        )
        for seed in range(seeds)
        for market in markets
    ]


def market_of(unit: Unit, histories: list[Panel]) -> Panel:
    """The market of a unit; permuted ones take the histories in turn."""
    settings = unit.settings
    if settings["market"] == "garch":
        return garch(settings["bars"], settings["seed"])
    return permuted(histories[settings["seed"] % len(histories)], settings["bars"], settings["seed"])


def compute(unit: Unit, histories: list[Panel]) -> Result:
    """One market through the walk-forward: figures of `shipped` and `bare`."""
    panel = market_of(unit, histories)
    given = {k: v for k, v in unit.settings.items() if k not in ("market", "bars", "signs")}
    config = RunConfig(symbol=panel.assets, **given)
    free = {"taker_fee_bps": 0.0, "maker_fee_bps": 0.0, "slippage_bps": 0.0}
    found: Result = {"source": panel.source}
    quiet = Console(quiet=True)
    with tempfile.TemporaryDirectory() as text:
        folder, code = Path(text), code_version()
        options = Options(out=folder, jobs=1, quiet=True, pages=False)
        for name, changes in (("shipped", {}), ("bare", {**free, "evidence": 1.0})):
            if (folder / "shipped" / "tasks").is_dir():  # the same searches and trainings, traded on other terms
                shutil.copytree(folder / "shipped" / "tasks", folder / name / "tasks")
            traded = config.model_copy(update=changes)
            pipeline = Pipeline(traded, options, panel, code, quiet, {})
            pipeline.run(folder / name)
            terms = trading_terms(traded.model_copy(update=free))
            start = pipeline.windows[0].test.start
            gross = daily_net_returns(panel, pipeline.book.trial_targets, start, **terms)
            found[name] = figures(folder / name, gross)
    return found


def figures(folder: Path, gross: pd.DataFrame) -> dict[str, float | int | None]:
    """What the page of a run says about luck, from the files of the run.

    gross: daily returns of the same configurations, holding the same, without costs.
    """
    run = load_run(folder)
    daily = daily_frame(run.equity)[list(run.strategies)]
    trials = trial_matrix(run, daily.index)
    chance = luck(SEARCHED, daily[SEARCHED].to_numpy(), len(run.trials), trials)
    overfit, against = overfitting(trials), against_benchmark(daily, BENCHMARK)
    forecasts = run.forecasts
    mine = forecasts[forecasts["strategy"] == SEARCHED]
    plans = [window["plan"] for window in run.windows]
    numbers: dict[str, float | int | None] = {
        "sharpe": sharpe_ratio(daily[SEARCHED].to_numpy()),
        "return": float(np.prod(1.0 + daily[SEARCHED].to_numpy()) - 1.0),
        "psr": chance.psr,
        "dsr": chance.dsr,
        "dsr_configurations": chance.dsr_configurations,
        "pbo": overfit.pbo if overfit is not None else math.nan,
        **cost_figures(trials, gross.reindex(daily.index).fillna(0.0).to_numpy(dtype="float64")),
        "spa": against.consistent if against is not None else math.nan,
        "superior": len(against.superior) if against is not None else 0,
        "days": len(daily),
        "windows": len(plans),
        "flat_windows": sum(plan == "flat" for plan in plans),
        "trials": len(run.trials),
        "forecast_correlation": forecast_correlation(run, mine),
    }
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in numbers.items()}


def cost_figures(net: FloatArray, gross: FloatArray) -> dict[str, float]:
    """What costs do to the PBO of configurations, by their daily returns after and before costs: [T, N] each.

    pbo_gross: before costs. pbo_equal_cost: where each pays, day by day, what all pay on average: costs as high, but no longer telling
    the configurations apart. cost_rank: Spearman correlation of a configuration's costs with its net Sharpe ratio, mean of both
    halves of the days; NaN where nothing is charged.
    """
    cost = (gross - net).mean(0)
    equal = gross - (gross - net).mean(1, keepdims=True)
    found = {name: overfitting(each) for name, each in (("pbo_gross", gross), ("pbo_equal_cost", equal))}
    half, ranks = len(net) // 2, [math.nan]
    if cost.std() > 1e-9:
        ranks = [float(spearmanr(cost, sharpes(part)).statistic) for part in (net[:half], net[half:])]
    return {
        **{name: each.pbo if each is not None else math.nan for name, each in found.items()},
        "cost_rank": float(np.mean(ranks)),
    }


def forecast_correlation(run: Any, mine: Any) -> float:
    """Of the out-of-sample forecasts with the returns they are about: the most direct sign of a leak."""
    close = np.log(run.candles.set_index("timestamp")["close"])
    # a bar opens where the last one closed in these markets: what the forecast at a close is about runs from that very close
    after = close.shift(-HORIZON) - close
    joined = mine.set_index("timestamp")["forecast"].to_frame().join(after.rename("after")).dropna()
    if len(joined) < 3 or joined["forecast"].std() < 1e-12:
        return math.nan
    return float(np.corrcoef(joined["forecast"], joined["after"])[0, 1])
