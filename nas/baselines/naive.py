"""The forecast that needs no learning: what was is what will be."""

from __future__ import annotations

import numpy as np

from nas.baselines.registry import Fit, Fitted, FloatArray, fitted_baseline
from nas.features.bank import causal_volatility
from nas.targets.returns import CLIP_DEVIATIONS


@fitted_baseline(
    "last_value", "Last value", "forecasts that the return of the last horizon repeats itself; nothing is fitted"
)
def last_value(fit: Fit) -> Fitted:
    horizon = fit.horizons[0]
    panel = fit.samples.panel
    log_close = np.log(panel.field("close"))
    change = np.full_like(log_close, np.nan)
    change[horizon:] = log_close[horizon:] - log_close[:-horizon]
    scaled = change / (np.maximum(causal_volatility(panel), 1e-8) * np.sqrt(horizon))
    last: FloatArray = np.clip(scaled, -CLIP_DEVIATIONS, CLIP_DEVIATIONS).T
    return Fitted(lambda bars: last[:, bars].copy(), parameters=0, receptive_field=horizon + 1)
