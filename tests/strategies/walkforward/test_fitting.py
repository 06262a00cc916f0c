"""What looks back is counted in bars; on long bars it must not eat the history that is left to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data.panel import CANDLE_FIELDS, InputError, Panel, Settlements
from data.simulated import simulate
from nas.network.stretches import Samples, Scaler, Tensors
from nas.space.ops import DEFAULT_OPS
from nas.space.search_space import SearchSpace
from strategies.walkforward.config import resolve
from strategies.walkforward.fitting import Reach, fitting_space
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline

HOUR = 3_600_000_000_000


def bars(hours: int, count: int) -> Panel:
    hourly = simulate(["BTCUSDT"], "60", end=np.datetime64("2024-01-01"), start=np.datetime64("2023-11-01"))
    values = np.tile(hourly.values, (count // len(hourly) + 1, 1, 1))[:count, :, :5]
    stamps = np.datetime64("2015-01-01", "ns") + np.arange(count) * np.timedelta64(hours * HOUR, "ns")
    return Panel(stamps, ("BTCUSDT",), CANDLE_FIELDS, values, hours * HOUR, "test")


def planned(panel: Panel, **settings: Any) -> Pipeline:
    config = resolve("quick", None, {"baselines": ("none",), "account": "cash", **settings})
    return Pipeline(config, Options(quiet=True), panel, "", Console(quiet=True), {})


def test_hours_keep_all_ops_and_features_and_nothing_is_said() -> None:
    found = planned(bars(1, 9_000))
    assert found.space.ops == DEFAULT_OPS
    assert found.windows[0].purge_bars == 4 * 107 + 1 + 7
    assert not found.said
    assert not found.samples.bank.longer


FAR = {"ema36", "ema12", "attention"}


@pytest.mark.parametrize(("hours", "lost"), [(4, FAR), (8, FAR), (24, {*FAR, "ema4", "dilated3"})])
def test_longer_bars_lose_what_reaches_too_far_and_the_plan_says_so(hours: int, lost: set[str]) -> None:
    found = planned(bars(hours, 2_500))
    assert set(DEFAULT_OPS) - set(found.space.ops) == lost
    window, days = found.windows[0], hours / 24
    assert window.purge_bars * days <= max(14.0, 150 / 8)
    told = " ".join(found.said)
    assert "ema36" in told
    assert f"{window.purge_bars} bars" in told
    train = window.train.stop - window.train.start
    assert found.samples.bank.warmup_bars <= max(train, 30 / days)


def test_ops_of_ones_own_are_kept_or_refused_never_changed() -> None:
    panel = bars(4, 3_500)
    kept = planned(panel, ops=("zero", "identity", "ema36"))
    assert kept.space.ops == ("zero", "identity", "ema36")
    assert "72.7 days" in kept.said[0]
    with pytest.raises(InputError, match="--ops zero,identity,ema36 look so far back"):
        planned(bars(24, 2_500), ops=("zero", "identity", "ema36"))


def test_reach_counts_days_of_the_market() -> None:
    stamps = pd.bdate_range("2020-01-01", "2023-01-01").to_numpy().astype("datetime64[ns]")
    panel = Panel(stamps, ("A",), CANDLE_FIELDS, np.ones((len(stamps), 1, 5)), 24 * HOUR, "test", rests=True)
    reach = Reach.of(resolve("quick", None, {}), panel)
    assert reach.train_bars == pytest.approx(150 * 5 / 7, abs=2)
    space, said = fitting_space(resolve("quick", None, {}), SearchSpace(ops=DEFAULT_OPS, nodes=4), reach)
    assert "ema36" not in space.ops
    assert "107 bars" in said[0]


def test_latest_points_to_a_run_without_pages(tmp_path: Path) -> None:
    from commands.walkforward import run_job
    from tests.commands.small_run import CONFIG, market

    market(1_500).to_parquet(tmp_path / "market.parquet")
    (tmp_path / "small.toml").write_text(CONFIG)
    config = resolve(
        "quick", tmp_path / "small.toml", {"data": (str(tmp_path / "market.parquet"),), "baselines": ("none",)}
    )
    folder = run_job(config, Options(out=tmp_path / "reports", jobs=1, quiet=True, pages=False))
    assert (tmp_path / "reports/latest").resolve() == folder.resolve()
    assert (tmp_path / "reports/latest/run.json").is_file()


def funded(first: str | None) -> Panel:
    """Two symbols; the second has funding from `first` on, or none."""
    both = simulate(["BTCUSDT", "ETHUSDT"], "60", start=np.datetime64("2023-01-01"), end=np.datetime64("2024-01-01"))
    values, settlements = both.values.copy(), dict(both.settlements)
    rate = both.fields.index("funding_rate")
    late = both.timestamps < np.datetime64(first or "2100-01-01")
    values[late, 1, rate] = np.nan
    known = settlements["ETHUSDT"]
    kept = known.timestamps >= np.datetime64(first or "2100-01-01")
    settlements["ETHUSDT"] = Settlements(known.timestamps[kept], known.rates[kept])
    return Panel(both.timestamps, both.assets, both.fields, values, both.interval_ns, "test", settlements=settlements)


@pytest.mark.parametrize(("first", "words"), [(None, "all"), ("2023-10-01", "76%")])
def test_the_plan_says_what_an_asset_lacks_and_whose_forecasts_that_costs(first: str | None, words: str) -> None:
    found = planned(
        funded(first), symbol=("BTCUSDT", "ETHUSDT"), account="perpetual", train="100d", validation="40d", test="30d"
    )
    told = " | ".join(found.said)
    assert (
        f"ETHUSDT: funding_rate unknown in {words} of its bars: networks that read it do not forecast ETHUSDT" in told
    )
    assert "BTCUSDT: funding_rate" not in told
    assert found.funding.charged == "part"
    assert "ETHUSDT: funding" in told


def test_a_search_learns_from_an_asset_that_lacks_an_input_and_only_who_reads_it_is_silent() -> None:
    panel = funded(None)
    samples = Samples.of(panel, (6,))
    train = slice(400, 3_000)
    scaler = Scaler.fit(samples.bank.values, train)
    assert Tensors.of(samples, scaler).weight[1].sum() == 0.0
    assert Tensors.of(samples, scaler, spared=train).weight[1, 0, train].mean() > 0.99
    names = [name for name, _ in samples.bank.names]
    for chosen, heard in (([0, 1], True), ([0, names.index("funding_rate")], False)):
        columns = np.array(chosen)
        part = Scaler.fit(samples.bank.values[:, columns], train)
        weight = Tensors.of(samples, part, columns).weight[1, 0, train]
        assert (float(weight.sum()) > 0.0) is heard
    # bars in which it is not listed stay without weight
    gone = samples.bank.values.copy()
    gone[1, :, 1_000:1_100] = np.nan
    _, known = scaler.apply(gone, train)
    assert not known[1, 1_000:1_100].any()
