"""The troubleshooting page shows the messages that the code really gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.panel import InputError
from data.sources import load_panel
from nas.search.single import search
from nas.search.variants import get_variant
from nas.tasks.windows import WindowPlan, separation
from reports.run_folder import load_run
from strategies.paper.orders.keys import load_keys
from strategies.paper.session import last_model
from strategies.paper.settings import PaperSettings
from strategies.walkforward.config import resolve

PAGE = Path(__file__).resolve().parents[2] / "docs/troubleshooting.md"
HOURS = pd.date_range("2024-01-01", periods=6, freq="h", name="timestamp")


def candles(**columns: object) -> pd.DataFrame:
    flat = {"open": 100.0, "high": 101.0, "low": 99.0, "close": 100.0, "volume": 1.0}
    return pd.DataFrame({**flat, **columns}, index=HOURS)


def heikin_ashi() -> pd.DataFrame:
    """Of a walk; each candle opens in the middle of the body before."""
    closes = 100 + np.random.default_rng(0).normal(size=50).cumsum()
    opens = [closes[0]]
    for close in closes[:-1]:
        opens.append((opens[-1] + close) / 2)
    low, high = np.minimum(opens, closes), np.maximum(opens, closes)
    hours = pd.date_range("2024-01-01", periods=50, freq="h", name="timestamp")
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": closes, "volume": 1.0}, index=hours)


def read(table: pd.DataFrame, name: str = "candles.csv", **settings: object) -> None:
    table.to_csv(name)
    load_panel(["BTCUSDT"], files=[Path(name)], **settings)  # type: ignore[arg-type]


def wrong_key() -> None:
    Path("my.toml").write_text("trian = '150d'\n")
    resolve("quick", Path("my.toml"), {})


SITUATIONS: dict[str, Callable[[], object]] = {
    "gap": lambda: read(candles().drop(HOURS[2:4])),
    "twice": lambda: read(candles(close=[100.0, 100.5, 99.5, 100.0, 100.0, 100.0]).set_axis(HOURS[[0, 1, 1, 2, 3, 4]])),
    "trades": lambda: read(pd.DataFrame({"price": 100.0, "size": 1.0, "side": "Buy"}, index=HOURS)),
    "local": lambda: read(
        candles().set_axis(pd.date_range("2024-03-31", periods=7, freq="h", name="timestamp").delete(2))
    ),
    "smoothed": lambda: read(heikin_ashi()),
    "column": lambda: read(candles().drop(columns="volume")),
    "not a number": lambda: read(candles(close=[100.0, 100.0, float("nan"), 100.0, 100.0, 100.0])),
    "impossible": lambda: read(candles(high=98.0)),
    "interval": lambda: read(candles(), interval="90"),
    "no file": lambda: load_panel(["BTCUSDT"], files=[Path("candels.csv")]),
    "files": lambda: load_panel(["BTCUSDT", "ETHUSDT"], files=[Path("candles.csv")]),
    "source": lambda: load_panel(["BTCUSDT"], source="binance"),
    "key": wrong_key,
    "variant": lambda: get_variant("drats"),
    "windows": lambda: WindowPlan(3600, 1200, 1440, 1440).windows(2000, first=500, purge_bars=222),
    "purge": lambda: separation("purge", 10, 222),
    "short": lambda: search(load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-01-20", source="simulated")),
    "mainnet": lambda: PaperSettings.read({"venue": "mainnet"}),
    "model": lambda: last_model(Path("reports/latest")),
    "keys": lambda: load_keys(None, "testnet"),
    "page": lambda: load_run(Path("reports/latest")),
}


def message(situation: str) -> str:
    with pytest.raises(InputError) as found:
        SITUATIONS[situation]()
    return f"error: {found.value}"


@pytest.mark.parametrize("situation", SITUATIONS)
def test_page_shows_the_message(situation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    shown = re.findall(r"^```text\n(error: .*?)\n```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    # the list of what there is grows; the page need not
    assert message(situation).split("; there are")[0] in [text.split("; there are")[0] for text in shown]


def test_every_message_on_the_page_has_its_situation() -> None:
    assert PAGE.read_text().count("```text\nerror: ") == len(SITUATIONS)
