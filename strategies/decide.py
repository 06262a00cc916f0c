"""From closed candles to a target position, bar by bar, with the network, features and rule of the backtest.

The history keeps one anchor (its first candle) for the life of a journal and is never cut: rolling kernels depend on where a
series begins by rounding errors, so the same anchor makes the features of a bar the very numbers of a batch over all bars.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.assembly import known_funding
from data.intervals import interval_name
from data.panel import CANDLE_FIELDS, FloatArray, InputError, Panel, Settlements
from data.series import Rows, SeriesKey
from nas.features import causal_volatility
from nas.inputs import raw_input
from nas.network import TrainedModel, load_model
from nas.transforms import ewm_memory
from strategies.companions import Companions, companions_of, with_companions
from strategies.journal import Journal
from strategies.positions import PositionRule, PositionState, step
from strategies.provenance import decision_version

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
    """A model folder, read and checked: the network, the rule, and the share of the account this symbol gets.

    symbols: of the model, in order. companions: series that its inputs need beside candles and funding of `symbol`.
    """

    name: str
    folder: Path
    model: TrainedModel
    rule: PositionRule
    symbol: str
    symbols: tuple[str, ...]
    companions: tuple[SeriesKey, ...]

    @property
    def share(self) -> float:
        return 1.0 / len(self.symbols)

    @property
    def assets(self) -> tuple[str, ...]:
        """Symbols of the panel that the inputs need, in the model's order."""
        others = {key.symbol for key in self.companions}
        return tuple(s for s in self.symbols if s == self.symbol or s in others)

    @property
    def stays_flat(self) -> bool:
        """The run found no plan worth trading for this window (strategies.choice): every target will be 0."""
        return self.rule.threshold >= 1e9

    @property
    def history_bars(self) -> int:
        """Bars until the first forecast no longer depends on where the history began."""
        named = [raw_input(name) for name, _ in self.model.genotype.features]
        needed = {field for raw in named if raw is not None for field in raw.needs}
        fields = (*CANDLE_FIELDS, *sorted(needed - {*CANDLE_FIELDS}))
        stamps = np.datetime64(0, "ns") + np.arange(8) * np.timedelta64(self.model.interval_ns, "ns")
        ones = Panel(
            stamps, self.assets, fields, np.ones((8, len(self.assets), len(fields))), self.model.interval_ns, "none"
        )
        warmup = self.model.bank(ones).warmup_bars
        return max(warmup + self.model.network.receptive_field, ewm_memory(VOLATILITY_SPAN)) + 8


def load_strategy(folder: Path, symbol: str, interval: str | None, any_code: bool = False) -> Strategy:
    """InputError where the model does not fit, naming what differs."""
    model = load_model(folder)
    trained_for = interval_name(model.interval_ns)
    if interval is not None and interval != trained_for:
        raise InputError(
            f"{folder}: the model was trained on interval {trained_for}, asked for {interval}; leave --interval out"
        )
    symbols = tuple(model.extra.get("symbols", [symbol]))
    if symbol not in symbols:
        raise InputError(
            f"{folder}: the model was trained on {', '.join(symbols)}, not on {symbol}; give --symbol {symbols[0]}"
        )
    if model.genotype.assets:
        raise InputError(
            f"{folder}: the network reads {', '.join(model.genotype.assets)} together; paper trading follows one symbol: rerun the "
            "walk-forward with one --symbol"
        )
    try:
        companions = companions_of([name for name, _ in model.genotype.features], symbols, symbol, trained_for)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    category = model.extra.get("category", "linear")
    if category != "linear":
        raise InputError(
            f"{folder}: the model was made for --category {category}; paper trading trades linear perpetuals, rerun without it"
        )
    if "rule" not in model.extra:
        raise InputError(
            f"{folder}: the model holds no position rule (an older version wrote it); rerun the walk-forward"
        )
    _check_portfolio(folder, model.extra.get("portfolio", {}))
    code = decision_version()
    if model.extra.get("decision_version") != code and not any_code:
        raise InputError(
            f"{folder}: the model was made by decision code {model.extra.get('decision_version', 'of an older kind')}, this is "
            f"{code}; rerun the walk-forward, or give --any-code to trade it all the same"
        )
    name = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()[:12]
    rule = PositionRule(**model.extra["rule"]).of(symbol)
    return Strategy(name, folder.resolve(), model, rule, symbol, symbols, companions)


def _check_portfolio(folder: Path, portfolio: Mapping[str, Any]) -> None:
    """Paper trading follows one symbol: it knows its part of the account only where that does not depend on the other targets."""
    alone = {"weighting": "equal_risk", "gross_limit": None, "net_limit": None, "turnover_penalty": None}
    for name, value in alone.items():
        if portfolio.get(name, value) != value:
            raise InputError(
                f"{folder}: the model was traded with {name} {portfolio[name]}, which ties its symbols together; paper trading "
                "follows one symbol: rerun the walk-forward with equal_risk and no limits or penalty of its own"
            )


class History:
    """Closed candles of one symbol from the anchor on. `add` refuses holes."""

    def __init__(
        self,
        symbol: str,
        interval_ms: int,
        candles: Sequence[Candle] = (),
        companions: Mapping[SeriesKey, Rows] | None = None,
    ) -> None:
        self.symbol, self.interval_ms = symbol, interval_ms
        self.companions = {} if companions is None else companions
        self._rows: FloatArray = np.empty((4096, 5))
        self.first_ms = 0
        self.count = 0
        self.settlements: list[tuple[int, float]] = []
        self.add(candles)

    @classmethod
    def of(cls, journal: Journal, strategy: Strategy) -> History:
        """All that the journal holds of what the strategy reads."""
        interval_ms = strategy.model.interval_ns // 1_000_000
        followed = Companions(journal, None, strategy.companions)
        history = cls(strategy.symbol, interval_ms, journal.candles(), followed.rows)
        history.settlements = journal.settlements()
        return history

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

    def panel(self, stop: int | None = None, strategy: Strategy | None = None) -> Panel:
        """Bars 0..stop (all); with all that the inputs of `strategy` read."""
        rows, interval_ns = self._rows[: self.count if stop is None else stop], self.interval_ms * 1_000_000
        panel = _panel(self.first_ms, rows, self.settlements, self.symbol, interval_ns)
        if strategy is None or not strategy.companions:
            return panel
        interval = interval_name(interval_ns)
        found = {key: self.companions[key] for key in strategy.companions}
        panel = _with_assets(
            panel, strategy.assets, {k.symbol: r for k, r in found.items() if k.symbol != self.symbol}, interval_ns
        )
        return with_companions(panel, self.symbol, found, interval)


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


def _with_assets(panel: Panel, assets: tuple[str, ...], candles: Mapping[str, Rows], interval_ns: int) -> Panel:
    """The panel of one symbol among the candles of others (NaN where they have none, and in fields of theirs that are not candles)."""
    if len(assets) == 1:
        return panel
    values = np.full((len(panel), len(assets), len(panel.fields)), np.nan)
    opens = panel.timestamps.astype("datetime64[ms]").astype(np.int64)
    for a, asset in enumerate(assets):
        if asset in panel.assets:
            values[:, a] = panel.values[:, 0]
            continue
        rows = candles[asset]
        at = (rows.times - opens[0]) // (interval_ns // 1_000_000)
        inside = (at >= 0) & (at < len(panel))
        values[at[inside], a, : len(CANDLE_FIELDS)] = rows.values[inside, : len(CANDLE_FIELDS)]
    return replace(panel, assets=assets, values=values)


def panel_of(candles: Sequence[Candle], rates: Sequence[tuple[int, float]], symbol: str, interval_ns: int) -> Panel:
    """The panel of journaled candles (open_ms, open, high, low, close, volume), evenly spaced."""
    rows = np.array([c[1:] for c in candles], dtype=np.float64).reshape(len(candles), 5)
    return _panel(int(candles[0][0]), rows, rates, symbol, interval_ns)


def decide(strategy: Strategy, history: History, state: PositionState, start: int, stop: int) -> list[Decision]:
    """Decisions at the closes of bars start..stop, from the state before `start`. A bar's decision reads bars <= it only."""
    panel = history.panel(stop, strategy)
    own = panel.assets.index(history.symbol)
    bank = strategy.model.bank(panel)
    forecasts = strategy.model.predict_bank(bank, start, stop)[:, own]
    volatility = causal_volatility(panel)[start:stop, own]
    out = []
    for k, bar in enumerate(range(start, stop)):
        state = step(state, forecasts[k], volatility[k], strategy.rule, panel.bars_per_year)
        digest = hashlib.sha256(np.ascontiguousarray(bank.values[own, :, bar]).tobytes()).hexdigest()[:16]
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
