"""The return over the bars ahead, in standard deviations: which way, not how much."""

from __future__ import annotations

import numpy as np

from data.panel import FloatArray, Panel
from nas.features.bank import causal_volatility
from nas.targets.target import Target, target

CLIP_DEVIATIONS = 5.0  # a 20-sigma candle must not own the gradient


def scaled_return(panel: Panel, horizon: int, volatility: FloatArray | None = None) -> FloatArray:
    """Log return from open t + 1 to open t + 1 + horizon over (volatility_t * sqrt(horizon)), clipped at +-5: [A, T].

    volatility: [T, A] per bar, known at t (None: EWMA of 48 bars). NaN where the future or the volatility is not known.
    """
    log_open = np.log(panel.field("open"))
    volatility = causal_volatility(panel) if volatility is None else volatility
    bars = len(panel)
    out = np.full((len(panel.assets), bars), np.nan)
    if bars > horizon + 1:
        change = log_open[1 + horizon :] - log_open[1:-horizon]
        scaled = change / (np.maximum(volatility[: bars - 1 - horizon], 1e-8) * np.sqrt(horizon))
        out[:, : bars - 1 - horizon] = np.clip(scaled, -CLIP_DEVIATIONS, CLIP_DEVIATIONS).T
    return out


def _zero(panel: Panel, horizon: int) -> FloatArray:
    return np.zeros((len(panel.assets), len(panel)))


RETURN = target(
    Target(
        "return", "Return", "log return from the next open over the bars ahead", "standard deviations of the horizon's return",
        scaled_return, lambda horizon: horizon + 1, ("open", "close"), _zero, "zero",
    )
)  # fmt: skip
