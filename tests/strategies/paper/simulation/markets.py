"""Markets and models that simulations trade: a few, made once a process; thousands of sessions share what a network forecasts of them."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.panel import FloatArray, Panel
from data.simulated import simulate
from strategies.paper import trader
from strategies.paper.decisions import decide as decisions
from strategies.paper.decisions.history import History
from strategies.paper.decisions.strategy import Strategy, load_strategy
from tests.strategies.paper.rig import START, save_model

BAR_S = 300
INTERVAL = "5"
HISTORY = 620  # bars before the first decision; the model needs fewer
SYMBOLS = ("BTCUSDT", "ETHUSDT")
#: of the journals, which are in memory
PATH = Path(tempfile.gettempdir()) / "simulated" / "journal.sqlite"


@dataclass(frozen=True)
class Scene:
    """A market of some symbols, with the model that trades it. tables: as a stand-in replays them."""

    symbols: tuple[str, ...]
    panel: Panel
    strategy: Strategy
    tables: dict[str, tuple[Any, Any]]

    @property
    def first_ms(self) -> int:
        return int(self.tables[self.symbols[0]][0][0])


@functools.cache
def scene(seed: int, count: int, bars: int) -> Scene:
    """bars: that can be traded after the history."""
    symbols, length = SYMBOLS[:count], np.timedelta64(BAR_S, "s")
    raw = simulate(symbols, INTERVAL, start=START, end=START + (HISTORY + bars + 40) * length, seed=seed)
    values = np.array(raw.values)
    values[:, :, :4] = np.round(values[:, :, :4], 1)
    values[:, :, 4] = np.round(values[:, :, 4], 3)
    panel = Panel(raw.timestamps, raw.assets, raw.fields, values, raw.interval_ns, "test", simulated=True)
    folder = Path(tempfile.mkdtemp(prefix="simulation-"))
    save_model(folder / "model", panel, seed=seed, symbols=symbols)
    times = panel.timestamps.astype("datetime64[ms]").astype(np.int64)
    fields = ("open", "high", "low", "close", "volume")
    tables = {s: (times, np.stack([panel.column(f, s) for f in fields], 1)) for s in symbols}
    # journals name the folder: the same name in every process
    strategy = replace(
        load_strategy(folder / "model", None, INTERVAL), folder=Path("simulated", f"model-{seed}-{count}")
    )
    return Scene(symbols, panel, strategy, tables)


_REAL = decisions.decide


class Decided:
    """`decide` with a memory: what a model says of the same rows, the same settlements and the same past is computed once. The key holds
    every number that `decide` reads, so a trader that was told something wrong is never given the right answer."""

    def __init__(self) -> None:
        self.known: dict[Any, list[decisions.Decision]] = {}
        self.asked = 0

    def __call__(
        self, strategy: Strategy, history: History, past: FloatArray, start: int, stop: int
    ) -> list[decisions.Decision]:
        self.asked += 1
        digest = hashlib.blake2b(history._rows[:stop].tobytes(), digest_size=16)
        digest.update(past.tobytes())
        rates = tuple(tuple(history.settlements.get(symbol, ())) for symbol in history.symbols)
        key = (strategy.name, history.first_ms, start, stop, digest.digest(), hash(rates))
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = _REAL(strategy, history, past, start, stop)
        return found


DECIDED = Decided()


@contextmanager
def remembered() -> Iterator[None]:
    """The trader asks `DECIDED` until the block ends."""
    trader.decide = DECIDED
    try:
        yield
    finally:
        trader.decide = _REAL
