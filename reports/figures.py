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

from reports.performance import drawdown
from reports.run_folder import BENCHMARK, SEARCHED, Run

POINTS = 1500  # per curve: more than a screen has columns
SERIES_COLOURS = 10

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
    traces = []
    for column, strategy in enumerate(run.strategies):
        values = curves[:, list(run.equity.columns).index(strategy)]
        first = next((value for value in values if np.isfinite(value) and value > 0), 1.0)
        traces.append(curve(run, strategy, column, times, significant(values / first, 5)))
    lead = ", ".join(
        f"{run.short(strategy)} ends at {_growth(run.equity[strategy]):.2f}" for strategy in run.strategies[:6]
    )
    return Figure(
        "equity",
        "Growth of 1",
        f"Equity after costs from {run.equity.index[0]:%Y-%m-%d} to {run.equity.index[-1]:%Y-%m-%d}, "
        f"starting at 1: {lead}.",
        traces,
        {"yaxis": {"title": {"text": "equity, start = 1"}, "type": "linear"}, "hovermode": "x unified"},
        420,
    )


def drawdown_figure(run: Run) -> Figure:
    falls = run.equity.apply(lambda curve: drawdown(curve.ffill()))
    times, curves = thinned(falls, POINTS, keep="min")
    order = list(run.equity.columns)
    traces = [
        curve(run, strategy, column, times, significant(curves[:, order.index(strategy)], 4))
        for column, strategy in enumerate(run.strategies)
    ]
    worst = ", ".join(f"{run.short(name)} {falls[name].min():.1%}" for name in run.strategies[:6])
    return Figure(
        "drawdown",
        "Drawdown",
        f"Loss from the highest equity so far; deepest: {worst}.",
        traces,
        {"yaxis": {"tickformat": ".2~%", "title": {"text": "from the peak"}}, "hovermode": "x unified"},
        320,
    )


def curve(run: Run, strategy: str, column: int, times: Sequence[str], values: Sequence[float | None]) -> Trace:
    """One line of a strategy; the same strategy has the same colour and dash in every chart."""
    dashes = ("solid", "dash", "dot", "dashdot")
    prominent = run.kind(strategy) == SEARCHED
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label(run.short(strategy)),
        "x": times,
        "y": values,
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
