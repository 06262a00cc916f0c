"""From closed candles to a target position, bar by bar, with the network, features and rule of the backtest.

The history keeps one anchor (its first candle) for the life of a journal and is never cut: rolling kernels depend on where a
series begins by rounding errors, so the same anchor makes the features of a bar the very numbers of a batch over all bars.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.assembly import known_funding
from data.intervals import interval_name
from data.panel import CANDLE_FIELDS, FloatArray, InputError, Panel, Settlements
from nas.features import causal_volatility
from nas.inputs import INPUTS
from nas.network import TrainedModel, load_model
from nas.transforms import ewm_memory
from strategies.positions import PositionRule, PositionState, step
from strategies.provenance import code_version

Candle = tuple[int, float, float, float, float, float]
VOLATILITY_SPAN = 48  # of nas.features.causal_volatility


@dataclass(frozen=True)
class Decision:
    """What was decided at the close of one bar. target: fraction of equity, before risk limits."""

    open_ms: int
    features_hash: str
    forecast: float
    volatility: float
    state: PositionState
    target: float


@dataclass(frozen=True)
class Strategy:
    """A model folder, read and checked: the network, the rule, and the share of the account this symbol gets."""

    name: str
    folder: Path
    model: TrainedModel
    rule: PositionRule
    share: float

    @property
    def needs_funding(self) -> bool:
        return any("funding_rate" in INPUTS[name].needs for name, _ in self.model.genotype.features)

    @property
    def stays_flat(self) -> bool:
        """The run found no plan worth trading for this window (strategies.choice): every target will be 0."""
        return self.rule.threshold >= 1e9

    @property
    def history_bars(self) -> int:
        """Bars until the first forecast no longer depends on where the history began."""
        candles = [(k, 1.0, 1.0, 1.0, 1.0, 1.0) for k in range(8)]
        warmup = self.model.bank(panel_of(candles, [(0, 0.0)], "BTCUSDT", self.model.interval_ns)).warmup_bars
        return max(warmup + self.model.network.receptive_field, ewm_memory(VOLATILITY_SPAN)) + 8


def load_strategy(folder: Path, symbol: str, interval: str | None, any_code: bool = False) -> Strategy:
    """InputError where the model does not fit, naming what differs."""
    model = load_model(folder)
    trained_for = interval_name(model.interval_ns)
    if interval is not None and interval != trained_for:
        raise InputError(
            f"{folder}: the model was trained on interval {trained_for}, asked for {interval}; leave --interval out"
        )
    unknown = [name for name, _ in model.genotype.features if name not in INPUTS]
    if unknown:
        raise InputError(f"{folder}: the model reads the input {unknown[0]!r}, which this version does not have")
    market = {*CANDLE_FIELDS, "funding_rate"}
    further = [f for name, _ in model.genotype.features for f in INPUTS[name].needs if f not in market]
    if further:
        raise InputError(f"{folder}: the model reads {further[0]!r}, which paper trading cannot follow live")
    several = [name for name, _ in model.genotype.features if INPUTS[name].assets > 1]
    if several:
        raise InputError(f"{folder}: the model reads {several[0]!r} of several symbols; paper trading follows one")
    symbols = model.extra.get("symbols", [symbol])
    if symbol not in symbols:
        raise InputError(
            f"{folder}: the model was trained on {', '.join(symbols)}, not on {symbol}; give --symbol {symbols[0]}"
        )
    if "rule" not in model.extra:
        raise InputError(
            f"{folder}: the model holds no position rule (an older version wrote it); rerun the walk-forward"
        )
    code = code_version()
    if model.extra.get("code_version") != code and not any_code:
        raise InputError(
            f"{folder}: the model was made by code version {model.extra.get('code_version')}, this is {code}; rerun the "
            "walk-forward, or give --any-code to trade it all the same"
        )
    name = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()[:12]
    return Strategy(name, folder.resolve(), model, PositionRule(**model.extra["rule"]), 1.0 / len(symbols))


class History:
    """Closed candles of one symbol from the anchor on. `add` refuses holes."""

    def __init__(self, symbol: str, interval_ms: int, candles: Sequence[Candle] = ()) -> None:
        self.symbol, self.interval_ms = symbol, interval_ms
        self._rows: FloatArray = np.empty((4096, 5))
        self.first_ms = 0
        self.count = 0
        self.settlements: list[tuple[int, float]] = []
        self.add(candles)

    def add(self, candles: Sequence[Candle]) -> None:
        for open_ms, *values in candles:
            if self.count == 0:
                self.first_ms = open_ms
            elif open_ms != self.next_ms:
                raise ValueError(f"candle {open_ms} does not follow: {self.next_ms} is next")
            if self.count == len(self._rows):
                self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._rows[self.count] = values
            self.count += 1

    @property
    def next_ms(self) -> int:
        """Open time of the candle that comes next."""
        return self.first_ms + self.count * self.interval_ms

    @property
    def last_ms(self) -> int:
        return self.next_ms - self.interval_ms

    @property
    def last_close(self) -> float:
        return float(self._rows[self.count - 1, 3])

    def bar(self, open_ms: int) -> int:
        return (open_ms - self.first_ms) // self.interval_ms

    def panel(self, stop: int | None = None) -> Panel:
        """Bars 0..stop (all)."""
        count = self.count if stop is None else stop
        return _panel(self.first_ms, self._rows[:count], self.settlements, self.symbol, self.interval_ms * 1_000_000)


def _panel(first_ms: int, rows: FloatArray, rates: Sequence[tuple[int, float]], symbol: str, interval_ns: int) -> Panel:
    stamps = np.datetime64(first_ms, "ms").astype("datetime64[ns]") + np.arange(len(rows)) * np.timedelta64(
        interval_ns, "ns"
    )
    values = rows[:, None, :]
    fields: tuple[str, ...] = CANDLE_FIELDS
    paid: dict[str, Settlements] = {}
    if rates:
        times = np.array([t for t, _ in rates], dtype="datetime64[ms]").astype("datetime64[ns]")
        known = Settlements(times, np.array([r for _, r in rates]))
        column = known_funding(stamps + np.timedelta64(interval_ns, "ns"), known)
        values = np.concatenate([values, column[:, None, None]], axis=2)
        fields = (*CANDLE_FIELDS, "funding_rate")
        paid = {symbol: known}
    return Panel(stamps, (symbol,), fields, values, interval_ns, "paper", settlements=paid)


def panel_of(candles: Sequence[Candle], rates: Sequence[tuple[int, float]], symbol: str, interval_ns: int) -> Panel:
    """The panel of journaled candles (open_ms, open, high, low, close, volume), evenly spaced."""
    rows = np.array([c[1:] for c in candles], dtype=np.float64).reshape(len(candles), 5)
    return _panel(int(candles[0][0]), rows, rates, symbol, interval_ns)


def decide(strategy: Strategy, history: History, state: PositionState, start: int, stop: int) -> list[Decision]:
    """Decisions at the closes of bars start..stop, from the state before `start`. A bar's decision reads bars <= it only."""
    panel = history.panel(stop)
    bank = strategy.model.bank(panel)
    forecasts = strategy.model.predict_bank(bank, start, stop)[:, 0]
    volatility = causal_volatility(panel)[start:stop, 0]
    out = []
    for k, bar in enumerate(range(start, stop)):
        state = step(state, forecasts[k], volatility[k], strategy.rule, panel.bars_per_year)
        digest = hashlib.sha256(np.ascontiguousarray(bank.values[:, :, bar]).tobytes()).hexdigest()[:16]
        out.append(
            Decision(
                history.first_ms + bar * history.interval_ms,
                digest,
                float(forecasts[k]),
                float(volatility[k]),
                state,
                state.position * strategy.share,
            )
        )
    return out


def state_of(row: Any) -> PositionState:
    """The rule's state as journaled with a decision."""
    smoothed = float("nan") if row["smoothed"] is None else row["smoothed"]  # SQLite keeps NaN as NULL
    return PositionState(row["position"], row["wait_bars"], row["rule_equity"], row["rule_peak"], smoothed)
