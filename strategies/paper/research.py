"""Searching again while trading: a second process runs the walk-forward on recent history; its last model takes over between bars.

weekly: seven days (of bars) after the last search began. drift: when the detectors of `nas.tasks.drift` raise an alarm: on volatility
since the last search (against the history before it), or on the errors of the model's forecasts (against those of its first
REFERENCE_BLOCKS blocks, which no search had seen).

The second process loads its history where the trader's public data come from, with every input that the run could choose from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from data.atomic import write_text
from data.bybit import ENDPOINT_VARIABLE, MAINNET, Bybit
from data.intervals import interval_name
from data.panel import InputError
from data.place import ROOT
from data.settings_file import to_toml
from nas.network.stretches import labels
from nas.tasks.drift import BLOCK_BARS, Alarm, alarms, error_stream, volatility_stream
from strategies.paper.decisions.history import History
from strategies.paper.decisions.strategy import Strategy, load_strategy
from strategies.paper.records.journal import Journal
from strategies.walkforward.config import bars_of

WEEK_MS = 7 * 86_400_000
REFERENCE_BLOCKS = 20  # first blocks of a model's forecasts, which say what errors are usual
LEAST_BARS_BETWEEN = 48  # between drift alarms that may start a search
TEST_BARS = 24  # a new model must not wait for a long unseen stretch: the bars to come are its test
SPARE_BARS = 1_600  # warm-up of features, purge and embargo


class _Trader(Protocol):
    history: History
    journal: Journal
    strategy: Strategy
    data: Bybit | None


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
        found = [*self._volatility(history, began), *self._errors(history)]
        if found:
            said = ", ".join(sorted({f"{alarm.detector} on {alarm.stream}" for alarm in found}))
            journal.event("research", f"the market has drifted since the last search ({said}): searching again")
        return bool(found)

    def _volatility(self, history: History, began: int) -> list[Alarm]:
        """Since the last search began, against all the history before."""
        returns = np.diff(np.log(history.panel().field("close")), axis=0, prepend=np.nan)
        split = history.bar(began) // BLOCK_BARS
        stream = volatility_stream(returns)
        if split < 10 or len(stream) <= split:
            return []
        return alarms("volatility", stream[:split], stream[split:], split * BLOCK_BARS)

    def _errors(self, history: History) -> list[Alarm]:
        """Of the forecasts that the present model has made, as far as what they forecast has happened."""
        strategy = self._trader.strategy
        query = "SELECT open_ms, symbol, forecast FROM decisions WHERE model = ? ORDER BY open_ms"
        rows = self._trader.journal.rows(query, strategy.name)
        if len(rows) <= (REFERENCE_BLOCKS + 1) * BLOCK_BARS * len(strategy.traded):
            return []
        first = history.bar(rows[0]["open_ms"])
        forecast = np.full((history.count, len(strategy.traded)), np.nan)
        for row in rows:
            if row["forecast"] is not None:
                forecast[history.bar(row["open_ms"]), strategy.traded.index(row["symbol"])] = row["forecast"]
        if strategy.holds:  # no direction is forecast, so none can go wrong
            return []
        volatility = strategy.volatility(history.panel(strategy=strategy))
        label = labels(history.panel(), strategy.model.genotype.horizons[:1], volatility)[:, 0].T
        stream = error_stream(forecast[first:], label[first:])
        calm, later = stream[:REFERENCE_BLOCKS], stream[REFERENCE_BLOCKS:]
        return alarms("error", calm, later, first + REFERENCE_BLOCKS * BLOCK_BARS)

    def _start(self) -> None:
        trader = self._trader
        history = trader.history
        trader.journal.set(searched_ms=str(history.last_ms))
        folder = self._folder / "research" / str(history.last_ms)
        text, bars = _plan(self._run, trader.strategy.model.interval_ns)
        config = folder / "config.toml"
        write_text(config, text)
        command = [
            sys.executable, "-m", "strategies.walkforward", "--symbol", ",".join(trader.strategy.symbols),
            "--interval", interval_name(trader.strategy.model.interval_ns), "--source", "bybit",
            "--start", _iso(history.next_ms - bars * history.interval_ms), "--end", _iso(history.next_ms),
            "--config", str(config.resolve()), "--out", str(folder.resolve()), "--no-pages", "--quiet", "--jobs", "1",
        ]  # fmt: skip
        environment = dict(os.environ)
        for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET"):
            environment.pop(name, None)  # a search trades nothing
        endpoint = trader.data.endpoint if trader.data is not None else MAINNET
        if endpoint != MAINNET:  # a stand-in: its history must not mix with the exchange's
            environment |= {
                ENDPOINT_VARIABLE: endpoint,
                "REGIME_CACHE": str((self._folder / "research/cache").resolve()),
            }
        self._log = (folder / "log.txt").open("wb")
        self._process = subprocess.Popen(
            ["nice", "-n", "10", *command], cwd=ROOT, env=environment, stdout=self._log, stderr=self._log
        )
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
            new = load_strategy(models[-1], ",".join(self._trader.strategy.traded), None, self._any_code)
        except InputError as error:
            journal.event("research", f"the new model does not fit: {error}; the old one goes on")
            return None
        return None if new.name == self._trader.strategy.name else new


def _iso(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms"))


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
