"""From closed bars to target positions, bar by bar, with the network, features, rule and portfolio of the backtest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from data.panel import FloatArray
from strategies.paper.decisions.history import History
from strategies.paper.decisions.strategy import Strategy


@dataclass(frozen=True)
class Decision:
    """What was decided for one symbol at the close of one bar. target: fraction of equity, before risk limits."""

    open_ms: int
    symbol: str
    features_hash: str
    forecast: float
    volatility: float
    target: float


def decide(strategy: Strategy, history: History, past: FloatArray, start: int, stop: int) -> list[Decision]:
    """Decisions at the closes of bars start..stop, bar by bar, symbol by symbol. A bar's decision reads bars <= it only.

    past: [m, A] forecasts of the m bars before `start` that the same model has decided: they hold its positions' state.
    """
    panel = history.panel(stop, strategy)
    bank = strategy.model.bank(panel)
    at = [panel.assets.index(symbol) for symbol in strategy.traded]
    forecasts = strategy.forecasts(panel, start, stop, bank)
    own, volatility = history.panel(stop), strategy.volatility(panel)
    targets = strategy.book(own, volatility, np.concatenate([past, forecasts]), start - len(past))[len(past) :]
    out = []
    for k, bar in enumerate(range(start, stop)):
        for a, symbol in enumerate(strategy.traded):
            digest = hashlib.sha256(np.ascontiguousarray(bank.values[at[a], :, bar]).tobytes()).hexdigest()[:16]
            out.append(
                Decision(
                    history.first_ms + bar * history.interval_ms, symbol, digest, float(forecasts[k, a]),
                    float(volatility[bar, a]), float(targets[k, a]),
                )
            )  # fmt: skip
    return out


def nothing_before(strategy: Strategy) -> FloatArray:
    """`past` of a model's first bar."""
    return np.empty((0, len(strategy.traded)))
