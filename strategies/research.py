"""Searching again while trading: a second process runs the walk-forward on recent candles; its last model takes over between bars.

weekly: seven days (of bars) after the last search began. drift: when the detectors of `nas.drift` raise an alarm on the
volatility or the errors since the model took over.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from data.atomic import write_atomically, write_text
from data.panel import CANDLE_FIELDS, InputError
from nas.drift import BLOCK_BARS, alarms, volatility_stream
from strategies.config import bars_of, to_toml
from strategies.decide import Candle, History, Strategy, load_strategy
from strategies.journal import Journal
from strategies.provenance import ROOT

WEEK_MS = 7 * 86_400_000
LEAST_BARS_BETWEEN = 48  # between drift alarms that may start a search
TEST_BARS = 24  # a new model must not wait for a long unseen stretch: the bars to come are its test
SPARE_BARS = 1_600  # warm-up of features, purge and embargo


class _Trader(Protocol):
    history: History
    journal: Journal
    symbol: str
    strategy: Strategy

    def recent(self, bars: int) -> list[Candle]:
        """The last closed candles from the exchange."""
        ...


class Research:
    """`poll()` is called between bars: starts a search when it is due, and returns the new strategy once it is there."""

    def __init__(self, run: Path, mode: str, folder: Path, trader: _Trader, any_code: bool) -> None:
        self._run, self._mode, self._folder, self._trader = run, mode, folder, trader
        self._any_code = any_code
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._looked = 0

    def poll(self) -> Strategy | None:
        if self._process is not None:
            return self._collect()
        trader = self._trader
        if trader.history.count == self._looked:
            return None
        self._looked = trader.history.count
        if self._due():
            self._start()
        return None

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def _due(self) -> bool:
        journal, history = self._trader.journal, self._trader.history
        if not history.count:
            return False
        began = int(journal.get("searched_ms", "0"))
        if not began:
            journal.set(searched_ms=str(history.last_ms))
            return False
        if self._mode == "weekly":
            return history.last_ms - began >= WEEK_MS
        if history.last_ms - began < LEAST_BARS_BETWEEN * history.interval_ms:
            return False
        closes = history.panel().field("close")
        returns = np.diff(np.log(closes), axis=0, prepend=np.nan)
        since = history.bar(began)
        split = since // BLOCK_BARS
        stream = volatility_stream(returns)
        if split < 10 or len(stream) <= split:
            return False
        found = alarms("volatility", stream[:split], stream[split:], split * BLOCK_BARS)
        if found:
            said = ", ".join(f"{alarm.detector} on {alarm.stream}" for alarm in found)
            journal.event("research", f"the market has drifted since the last search ({said}): searching again")
        return bool(found)

    def _start(self) -> None:
        trader = self._trader
        trader.journal.set(searched_ms=str(trader.history.last_ms))
        folder = self._folder / "research" / str(trader.history.last_ms)
        candles = folder / "candles.parquet"
        text, bars = _plan(self._run, trader.strategy.model.interval_ns)
        frame = _frame(trader.recent(bars))
        write_atomically(candles, lambda file: frame.to_parquet(file))
        config = folder / "config.toml"
        write_text(config, text)
        command = [
            sys.executable, "-m", "strategies.walkforward", "--symbol", trader.symbol, "--data", str(candles.resolve()),
            "--config", str(config.resolve()), "--out", str(folder.resolve()), "--no-pages", "--quiet", "--jobs", "1",
        ]  # fmt: skip
        self._log = (folder / "log.txt").open("wb")
        self._process = subprocess.Popen(["nice", "-n", "10", *command], cwd=ROOT, stdout=self._log, stderr=self._log)
        trader.journal.event("research", "a search began in a second process")

    def _collect(self) -> Strategy | None:
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return None
        self._process = None
        if self._log is not None:
            self._log.close()
        journal = self._trader.journal
        folder = self._folder / "research" / journal.get("searched_ms")
        models = sorted((folder / "runs").glob("*/models/*"), key=lambda p: int(p.name))
        if code != 0 or not models:
            journal.event("research", f"the search failed (exit {code}); the old model goes on; see research/*/log.txt")
            return None
        try:
            new = load_strategy(models[-1], self._trader.symbol, None, self._any_code)
        except InputError as error:
            journal.event("research", f"the new model does not fit: {error}; the old one goes on")
            return None
        return None if new.name == self._trader.strategy.name else new


def _frame(candles: Sequence[Candle]) -> Any:
    import pandas as pd

    table = pd.DataFrame(candles, columns=["timestamp", *CANDLE_FIELDS])
    return table.assign(timestamp=pd.to_datetime(table["timestamp"], unit="ms", utc=True)).set_index("timestamp")


def bars_needed(run: Path, interval_ns: int) -> int:
    """Closed bars that a new search reads."""
    return _plan(run, interval_ns)[1]


def _plan(run: Path, interval_ns: int) -> tuple[str, int]:
    """The settings of the run whose model trades, for one window that ends now, and the bars it needs."""
    config = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    config |= {"test": str(TEST_BARS), "step": None, "policy": ["every"], "baselines": [], "rules": []}
    drop = ("symbol", "interval", "start", "end", "source", "data", "funding", "preset")
    text = to_toml({name: value for name, value in config.items() if name not in drop})
    length = sum(bars_of(config[name], interval_ns, name) for name in ("train", "validation"))
    return text, length + TEST_BARS + SPARE_BARS
