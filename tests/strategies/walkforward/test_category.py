"""`--category` of the main job: spot is traded as spot; what no account here can trade truly is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from data.panel import InputError
from data.standin import StandIn
from strategies.paper.decisions.strategy import load_strategy
from strategies.walkforward.config import resolve
from tests.commands.small_run import run
from tests.data.moment import HOUR, NOW
from tests.strategies.paper.rig import SYMBOL, market_panel, rewrite, save_model


def test_spot_brings_its_account_and_fees_unless_others_were_given() -> None:
    linear, spot = resolve("quick", None, {}), resolve("quick", None, {"category": "spot"})
    assert (linear.account, linear.taker_fee_bps) == ("perpetual", 5.5)
    assert (spot.account, spot.taker_fee_bps, spot.maker_fee_bps) == ("spot", 10.0, 10.0)
    cheap = resolve("quick", None, {"category": "spot", "taker_fee_bps": 2.0, "account": "cash"})
    assert (cheap.account, cheap.taker_fee_bps) == ("cash", 2.0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"category": "inverse"}, "inverse contract"),
        ({"category": "option"}, "no --category 'option'"),
        ({"category": "spot", "account": "perpetual"}, "perpetual account"),
    ],
)
def test_what_cannot_be_traded_truly_is_one_line(flags: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        resolve("quick", None, flags)
    assert "\n" not in str(told.value)


def test_paper_trading_refuses_a_spot_model(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", market_panel(700))
    rewrite(folder, "features.json", category="spot")
    with pytest.raises(InputError, match="made for --category spot"):
        load_strategy(folder, SYMBOL, "60")


def test_paper_trading_refuses_a_model_of_bundled_prices(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", market_panel(700))
    rewrite(folder, "features.json", category="bundled")
    with pytest.raises(
        InputError, match=f"made of bundled prices \\({SYMBOL}\\), which no exchange here lists; run python"
    ):
        load_strategy(folder, SYMBOL, "60")


@pytest.mark.slow
def test_the_command_trades_spot_history_long_only_without_funding(
    exchange: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIME_BYBIT_URL", exchange.url)
    monkeypatch.setenv("REGIME_CACHE", str(tmp_path / "cache"))
    day = 24 * HOUR
    start, end = (pd.Timestamp(t // day * day, unit="ms").isoformat() for t in (NOW - 1400 * HOUR, NOW - HOUR))
    done = run(
        tmp_path, "--category", "spot", "--source", "bybit", "--start", start, "--end", end,
        "--no-pages", "--jobs", "1", "--baselines", "none",
        "--out", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    asked = exchange.world.calls("/v5/market/kline")
    assert asked
    assert all(call.query["category"] == "spot" for call in asked)
    assert not exchange.world.calls("/v5/market/funding/history")
    (folder,) = (p.parent for p in (tmp_path / "out" / "runs").glob("*/run.json"))
    config = json.loads((folder / "run.json").read_text())["config"]
    assert (config["category"], config["account"]) == ("spot", "spot")
    trades = pd.read_parquet(folder / "trades.parquet")
    assert "funding" not in set(trades["kind"])
    held = trades.groupby(["strategy", "asset"])["size"].cumsum()
    assert len(trades)
    assert (held > -1e-9).all(), "nothing is sold that was not bought"
    told = json.loads((next((folder / "models").iterdir()) / "features.json").read_text())
    assert told["category"] == "spot"
