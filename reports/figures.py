"""Charts as plain plotly specifications (data + layout), thinned so that a page of 20 strategies stays small.

Colours are names of CSS variables (`series-0`, ...): the page resolves them when it draws, in light and in dark.
Text that reaches plotly is escaped here, because plotly reads a subset of HTML in names.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.performance import daily_returns, drawdown, sharpe_ratio
from reports.run_folder import BENCHMARK, Run

SHOWN = 8  # lines that a chart shows at first; the others wait in the legend
POINTS = 1500  # per curve: more than a screen has columns
SERIES_COLOURS = 10
GROWTH_TICKS = [round(m * 10.0**e, 3) for e in range(-2, 5) for m in (1, 1.5, 2, 3, 5, 7)]

Trace = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """name: id in the page. description: the sentence a screen reader reads instead of the picture."""

    name: str
    title: str
    description: str
    data: Sequence[Trace]
    layout: Mapping[str, Any]
    height: int = 380

    def specification(self) -> dict[str, Any]:
        return {"data": list(self.data), "layout": dict(self.layout)}


def equity_figure(run: Run) -> Figure:
    times, curves = thinned(run.equity, POINTS)
    traces, lowest, highest = [], 1.0, 1.0
    shown = shown_strategies(run)
    for column, strategy in enumerate(run.strategies):
        values = curves[:, list(run.equity.columns).index(strategy)]
        first = next((value for value in values if np.isfinite(value) and value > 0), 1.0)
        traces.append(curve(run, strategy, column, times, significant(values / first, 5), strategy in shown))
        lowest, highest = min(lowest, np.nanmin(values / first)), max(highest, np.nanmax(values / first))
    lead = ", ".join(f"{run.short(strategy)} ends at {_growth(run.equity[strategy]):.2f}" for strategy in shown)
    # on a logarithmic axis equal distances are equal gains; it has no place for zero
    log = lowest > 0.02 and highest / lowest > 3.0
    axis = {"tickvals": GROWTH_TICKS, "ticktext": [f"{tick:g}" for tick in GROWTH_TICKS]} if log else {}
    return Figure(
        "equity",
        "Growth of 1" + (", logarithmic scale" if log else ""),
        f"Equity after {run.charged} from {run.equity.index[0]:%Y-%m-%d} to {run.equity.index[-1]:%Y-%m-%d}, "
        f"starting at 1: {lead}.{_others(run, shown)}",
        traces,
        {
            "yaxis": {"title": {"text": "equity, start = 1"}, "type": "log" if log else "linear", **axis},
            "hovermode": "x unified",
        },
        420,
    )


def shown_strategies(run: Run) -> tuple[str, ...]:
    """All, where they are few; else the searched one, buy and hold, and of the others those of the highest Sharpe ratio."""
    if len(run.strategies) <= SHOWN:
        return run.strategies
    always = [name for name in (run.subject, BENCHMARK) if name in run.strategies]
    ratios = {name: sharpe_ratio(daily_returns(run.equity[name]).to_numpy()) for name in run.strategies}
    ranked = sorted(ratios, key=lambda name: -np.inf if np.isnan(ratios[name]) else ratios[name], reverse=True)
    chosen = {*always, *[name for name in ranked if name not in always][: SHOWN - len(always)]}
    return tuple(name for name in run.strategies if name in chosen)


def _others(run: Run, shown: Sequence[str]) -> str:
    hidden = len(run.strategies) - len(shown)
    return (
        f" The other {hidden} are in the legend (where the screen is wide enough): a click on a name shows or hides it."
        if hidden
        else ""
    )


def drawdown_figure(run: Run) -> Figure:
    falls = run.equity.apply(lambda curve: drawdown(curve.ffill()))
    times, curves = thinned(falls, POINTS, keep="min")
    order = list(run.equity.columns)
    shown = shown_strategies(run)
    traces = [
        curve(run, strategy, column, times, significant(curves[:, order.index(strategy)], 4), strategy in shown)
        for column, strategy in enumerate(run.strategies)
    ]
    worst = ", ".join(f"{run.short(name)} {falls[name].min():.1%}" for name in shown)
    return Figure(
        "drawdown",
        "Drawdown",
        f"Loss from the highest equity so far; deepest: {worst}.{_others(run, shown)}",
        traces,
        {"yaxis": {"tickformat": ".2~%", "title": {"text": "from the peak"}}, "hovermode": "x unified"},
        320,
    )


def curve(
    run: Run, strategy: str, column: int, times: Sequence[str], values: Sequence[float | None], shown: bool = True
) -> Trace:
    """One line of a strategy; the same strategy has the same colour and dash in every chart. shown: not only in the legend."""
    dashes = ("solid", "dash", "dot", "dashdot")
    prominent = strategy == run.subject
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label(run.short(strategy)),
        "x": times,
        "y": values,
        **({} if shown else {"visible": "legendonly"}),
        "line": {
            "color": "var(--benchmark)" if strategy == BENCHMARK else f"var(--series-{column % SERIES_COLOURS})",
            "width": 2.6 if prominent else 1.5,
            "dash": "dot" if strategy == BENCHMARK else dashes[column // SERIES_COLOURS % len(dashes)],
        },
    }


def thinned(frame: pd.DataFrame, points: int, keep: str = "last") -> tuple[list[str], np.ndarray]:
    """About `points` rows at most, of even stretches: the last value of each, or its lowest. Times as text, UTC."""
    step = max(1, -(-len(frame) // points))
    stretches = np.arange(0, len(frame), step)
    ends = np.minimum(stretches + step, len(frame)) - 1
    values = frame.to_numpy(dtype="float64")
    kept = np.fmin.reduceat(values, stretches, axis=0) if keep == "min" else values[ends]
    return time_texts(frame.index[ends]), kept


def time_texts(index: pd.Index) -> list[str]:
    stamps = pd.DatetimeIndex(index)
    whole_days = bool((stamps == stamps.normalize()).all())
    return list(stamps.strftime("%Y-%m-%d" if whole_days else "%Y-%m-%d %H:%M"))


def significant(values: np.ndarray, digits: int) -> list[float | None]:
    """Rounded to so many significant digits; what is not finite becomes a gap."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values]


def label(text: str) -> str:
    return html.escape(text, quote=False)


def _growth(equity: pd.Series) -> float:
    values = equity.dropna()
    return float(values.iloc[-1] / values.iloc[0]) if len(values) else float("nan")
