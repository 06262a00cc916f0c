"""The costs section: where the money went, and what is left at other costs or one bar later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.figures import Figure, label, significant
from reports.performance import Performance
from reports.run_folder import Run


@dataclass(frozen=True)
class CostRow:
    title: str
    break_even_bps: float
    cells: tuple[tuple[float, float], ...]  # (return, Sharpe) per scenario, NaN where not recorded


def scenarios(run: Run) -> list[tuple[float, int]]:
    """(cost multiple, delay in bars) in the order of the table: rising costs first, then the delays."""
    table = run.sensitivity
    pairs = {(float(m), int(d)) for m, d in zip(table["cost_multiple"], table["delay_bars"], strict=True)}
    at_once = sorted(pair for pair in pairs if pair[1] == 0)
    return at_once + sorted(pair for pair in pairs if pair[1] > 0 and pair[0] == 1.0)


def scenario_title(multiple: float, delay: int) -> str:
    return f"{multiple:g} × costs" + (f", {delay} bar{'s' if delay > 1 else ''} late" if delay else "")


def cost_rows(run: Run) -> list[CostRow]:
    table, wanted = run.sensitivity, scenarios(run)
    even = run.info.get("break_even_bps")
    even = even if isinstance(even, Mapping) else {}
    rows = []
    for strategy in run.strategies:
        mine = table[table["strategy"] == strategy]
        found = {
            (float(m), int(d)): (float(r), float(s) if float(r) or float(s) else math.nan)  # no trade, no ratio
            for m, d, r, s in zip(
                mine["cost_multiple"], mine["delay_bars"], mine["return"], mine["sharpe"], strict=True
            )
        }
        if found or strategy in even:
            rows.append(
                CostRow(
                    run.short(strategy),
                    float(even[strategy]) if isinstance(even.get(strategy), (int, float)) else math.nan,
                    tuple(found.get(pair, (math.nan, math.nan)) for pair in wanted),
                )
            )
    return rows


def cost_figure(run: Run, rows: Sequence[Performance]) -> Figure:
    """Fees, slippage and funding of each strategy, as a share of the equity it began with."""
    begin = np.array([float(run.equity[row.strategy].dropna().iloc[0]) for row in rows])
    parts: list[tuple[str, Any, str]] = [
        ("fees", np.array([-row.fees for row in rows]), "series-4"),
        ("slippage", np.array([-row.slippage for row in rows]), "series-1"),
        ("funding", np.array([row.funding for row in rows]), "series-0"),
    ]
    worst = min(rows, key=lambda row: -row.fees - row.slippage + row.funding)
    lost = (-worst.fees - worst.slippage + worst.funding) / float(run.equity[worst.strategy].dropna().iloc[0])
    return Figure(
        "costs",
        "What trading cost",
        f"Fees, slippage and funding as a share of the equity at the start; most expensive: {run.short(worst.strategy)}, {lost:+.1%}.",
        [
            {
                "type": "bar", "orientation": "h", "name": name, "y": [label(run.short(row.strategy)) for row in rows],
                "x": significant(values / begin, 4), "marker": {"color": f"var(--{colour})"},
                "hovertemplate": "%{x:.2%}",
            }
            for name, values, colour in parts
        ],
        {
            "barmode": "relative",
            "xaxis": {"tickformat": ".2~%", "title": {"text": "of the starting equity; left: paid"}},
            "yaxis": {"autorange": "reversed"},
        },
        130 + 34 * len(rows),
    )  # fmt: skip
