"""A stand-in exchange that stands still at NOW, with a client and store against it; and rigs that are always taken down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from moment import EAGER, HOUR, NOW

from data.bybit import Bybit, Patience
from data.history import History
from data.standin import Clock, Market, StandIn, World
from data.store import Store

if TYPE_CHECKING:
    from tests.exchange.rig import Rig

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


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """rig(**options) -> a trader on a stand-in exchange that has traded its first bar."""
    import torch

    from tests.exchange.rig import Rig

    torch.set_num_threads(1)
    made: list[Rig] = []

    def make(first: bool = True, **options: Any) -> Rig:
        made.append(Rig(tmp_path / str(len(made)), **options))
        if first:
            made[-1].act()
        return made[-1]

    yield make
    for one in made:
        one.close()
