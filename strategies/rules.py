"""Hand-designed rules: the rivals. A rule maps past bars to a target in [-1, 1]; value t reads bars <= t only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from data.panel import FloatArray, Panel

Signal = Callable[..., FloatArray]  # (panel, asset index, **parameters) -> target [T], NaN = too little known


@dataclass(frozen=True)
class Rule:
    """A registered rule: `rule(panel, asset)` -> targets [T] in [-1, 1]; NaN-free, 0 while too little is known."""

    name: str
    title: str
    description: str
    source: str
    parameters: Mapping[str, float] = field(hash=False)
    signal: Signal = field(repr=False)

    def __call__(self, panel: Panel, asset: int, **overrides: float) -> FloatArray:
        unknown = set(overrides) - set(self.parameters)
        if unknown:
            raise KeyError(f"rule {self.name} has no parameter {', '.join(sorted(unknown))}")
        target = self.signal(panel, asset, **{**self.parameters, **overrides})
        return np.clip(np.nan_to_num(np.asarray(target, dtype=np.float64), nan=0.0), -1.0, 1.0)


RULES: dict[str, Rule] = {}


def rule(name: str, *, title: str, source: str, **parameters: float) -> Callable[[Signal], Signal]:
    """Register a signal function; its docstring is the description shown to people."""

    def register(signal: Signal) -> Signal:
        if name in RULES:
            raise ValueError(f"rule {name!r} is registered twice")
        description = " ".join((signal.__doc__ or "").split())
        RULES[name] = Rule(name, title, description, source, MappingProxyType(dict(parameters)), signal)
        return signal

    return register


@rule("buy_and_hold", title="Buy and hold", source="the benchmark of every page")
def _buy_and_hold(panel: Panel, asset: int, /) -> FloatArray:
    """Long 1 x equity from the first bar."""
    return np.where(np.isnan(panel.field("close")[:, asset]), 0.0, 1.0)


@rule("always_flat", title="Always flat", source="the null strategy")
def _always_flat(panel: Panel, asset: int, /) -> FloatArray:
    """Never holds a position."""
    return np.zeros(len(panel))


@rule(
    "sma_cross",
    title="SMA cross",
    source="Brock, Lakonishok and LeBaron (1992), the 1-200 family",
    fast=50.0,
    slow=200.0,
)
def _sma_cross(panel: Panel, asset: int, /, fast: float, slow: float) -> FloatArray:
    """Long while the fast simple moving average of the close is above the slow one, short while below."""
    close = panel.field("close")[:, asset]
    return np.sign(_mean(close, int(fast)) - _mean(close, int(slow)))


def _mean(values: FloatArray, bars: int) -> FloatArray:
    """Mean of the last `bars` values; NaN until all are known. Each window is summed afresh: causal to the bit."""
    out = np.full(len(values), np.nan)
    if len(values) >= bars:
        out[bars - 1 :] = np.lib.stride_tricks.sliding_window_view(values, bars).mean(axis=1)
    return out
