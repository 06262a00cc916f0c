"""Where and when the tests of the stand-in take place: an exchange that stands still at NOW, with a client and store against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data.bybit import Bybit, Patience
from data.history import History
from data.standin import Clock, Market, StandIn, World
from data.store import Store

NOW = 1_704_100_000_000  # 2024-01-01 09:06:40 UTC
HOUR = 3_600_000
#: no pause worth waiting for, but as many attempts as a user gets
EAGER = Patience(
    first_pause_s=0.001, longest_pause_s=0.01, requests_per_s=5000, ban_pause_s=0.01, crowd_pause_s=0.01, timeout_s=3.0
)


def stored(root: Path) -> dict[str, bytes]:
    """Every file of a store but the locks, by name."""
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and p.name != ".lock"
    }


#: candles are made once: making a year of minutes costs more than a test
MARKET = Market(first_ms=NOW - 9000 * HOUR, last_ms=NOW + 100 * HOUR)


@pytest.fixture
def exchange() -> Iterator[StandIn]:
    MARKET.base("BTCUSDT"), MARKET.base("ETHUSDT")
    market = replace(MARKET, instruments=dict(MARKET.instruments), holes={}, _candles=dict(MARKET._candles))
    world = World(market, Clock(NOW, speed=0))
    with StandIn(world, tick_s=0.02) as running:
        yield running


@pytest.fixture
def history(exchange: StandIn, tmp_path: Path) -> Callable[..., History]:
    """history(folder="store", parallel=8): a History of its own store under tmp_path; `.said` collects its lines."""

    def make(folder: str = "store", parallel: int = 8, patience: Patience = EAGER) -> History:
        said: list[str] = []
        made = History(Store(tmp_path / folder), Bybit(exchange.url, patience, said.append), said.append, parallel)
        made.said = said  # type: ignore[attr-defined]
        return made

    return make
