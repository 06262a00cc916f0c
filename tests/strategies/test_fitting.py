"""What looks back is counted in bars; on long bars it must not eat the history that is left to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data.panel import CANDLE_FIELDS, InputError, Panel
from data.simulated import simulate
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
    config = resolve("quick", None, {"baselines": ("none",), **settings})
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
    from tests.strategies.small_run import CONFIG, market

    market(1_500).to_parquet(tmp_path / "market.parquet")
    (tmp_path / "small.toml").write_text(CONFIG)
    config = resolve(
        "quick", tmp_path / "small.toml", {"data": (str(tmp_path / "market.parquet"),), "baselines": ("none",)}
    )
    folder = run_job(config, Options(out=tmp_path / "reports", jobs=1, quiet=True, pages=False))
    assert (tmp_path / "reports/latest").resolve() == folder.resolve()
    assert (tmp_path / "reports/latest/run.json").is_file()
