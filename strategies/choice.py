"""Choices made on the stop stretch of a window only (never on test bars): the threshold, and which candidate trades."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data.panel import FloatArray, Panel
from strategies.positions import PositionRule, target_positions


def net_returns(panel: Panel, targets: FloatArray, start: int, cost_bps: float) -> FloatArray:
    """Per bar, the return of positions decided at each close, filled at the next open, held one bar, minus turnover cost.

    targets: [n, asset] decided at bars start..start+n. Returns [n]; entry i is earned between opens start+i+1 and start+i+2, so
    the last bars need two more bars of the panel (missing ones earn 0). A quick look for choosing; the headline is Backtrader's.
    """
    opens = np.log(panel.field("open"))
    n = len(targets)
    stop = min(start + n + 2, len(panel))
    change = np.diff(opens[start + 1 : stop], axis=0)
    earned = np.zeros_like(targets)
    earned[: len(change)] = np.nan_to_num(change)
    previous = np.vstack([np.zeros((1, targets.shape[1])), targets[:-1]])
    result: FloatArray = (targets * earned - np.abs(targets - previous) * cost_bps * 1e-4).sum(1)
    return result


def sharpe(returns: FloatArray, bars_per_year: float) -> float:
    """Annualised Sharpe ratio; 0 where nothing was traded."""
    deviation = float(returns.std())
    return 0.0 if deviation < 1e-12 else float(returns.mean() / deviation * np.sqrt(bars_per_year))


def scaled_rule(base: PositionRule, forecasts: FloatArray, threshold: float) -> PositionRule:
    """`base` in units of the forecasts' own spread: full size at 1.5 standard deviations, entry beyond `threshold` of them.

    forecasts: [n, asset] of the stop stretch.
    """
    known = forecasts[np.isfinite(forecasts)]
    spread = float(known.std()) if len(known) else 0.0
    if spread < 1e-12:
        return replace(base, threshold=1e9, exit_threshold=None)  # a constant forecast says nothing: stay flat
    return replace(base, threshold=threshold * spread, exit_threshold=0.0, forecast_scale=1.5 * spread)


def targets_of(
    panel: Panel, forecasts: FloatArray, volatility: FloatArray, start: int, rule: PositionRule
) -> FloatArray:
    """Forecasts [n, asset] of bars start.. -> targets [n, asset], the account split evenly over the assets."""
    assets = forecasts.shape[1]
    part = volatility[start : start + len(forecasts)]
    columns = [target_positions(forecasts[:, a], part[:, a], rule, panel.bars_per_year) / assets for a in range(assets)]
    return np.stack(columns, 1)
