"""Which bars count when symbols close them apart (strategies.paper.decisions.feed), on markets made for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from data.series import SeriesKey
from strategies.paper.decisions.feed import Feed
from strategies.paper.decisions.history import History
from strategies.paper.records.journal import Journal
from tests.strategies.paper.rig import SYMBOL

ETH = "ETHUSDT"


def test_what_was_known_of_a_symbol_between_missing_bars_is_read_all_the_same(tmp_path: Path) -> None:
    """Five-minute bars over a full hour; one symbol lacks the bar that crosses it, and the newest one."""
    step, hour = 300_000, 1_700_002_800_000
    opens = [hour + k * step for k in (-2, -1, 0, 1, 2)]
    shown = {SYMBOL: opens, ETH: [opens[0], opens[2], opens[4]]}  # the last one is forming
    asked: list[tuple[str, str, int]] = []

    class Market:
        def klines(self, symbol: str, *_: Any, **__: Any) -> list[Any]:
            return [(t, 1.0, 1.0, 1.0, 1.0, 1.0) for t in shown[symbol]]

        def settlements(self, symbol: str, end_ms: int) -> list[Any]:
            asked.append((symbol, "funding", end_ms))
            return []

    class Companions:
        def news(self, keys: Any, _first: int, moment_ms: int) -> dict[Any, Any]:
            asked.extend((key.symbol, "premium", moment_ms) for key in keys)
            return {}

        def take(self, _news: Any) -> None:
            pass

    history = History(
        (SYMBOL, ETH), step, [(opens[0], dict.fromkeys((SYMBOL, ETH), (opens[0], 1.0, 1.0, 1.0, 1.0, 1.0)))]
    )
    keys = tuple(SeriesKey("linear", symbol, "premium-index", "5") for symbol in (SYMBOL, ETH))
    journal = Journal(tmp_path / "journal.sqlite")
    feed = Feed(Market(), journal, history, Companions(), "5", late_s=0.0)  # type: ignore[arg-type]
    feed.fetch(SimpleNamespace(companions=keys))  # type: ignore[arg-type]
    assert history.count == 4
    assert [c[4] > 0 for c in journal.candles(ETH)] == [False, True, False]
    newest, between = (
        opens[4],
        opens[3],
    )  # closes of the newest bar, and of the newest one that is known of the other symbol
    assert set(asked) == {
        (SYMBOL, "funding", newest), (SYMBOL, "premium", newest), (ETH, "funding", between), (ETH, "premium", between),
    }  # fmt: skip
