"""The portfolio section of a run with several assets: what each asset brought, what was held over time, who leads whom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nas.space.genotype import when
from nas.space.ops import ACROSS_OPS
from reports.figures import POINTS, SERIES_COLOURS, Figure, Trace, label, significant, time_texts
from reports.run_folder import Run

MOST_CURVES = 12  # assets drawn one by one; of more, those with the largest exposure


@dataclass(frozen=True)
class Contribution:
    """One asset of one strategy over the whole run. profit (after costs), fees, slippage, funding: fractions of the equity at the start.

    share: of the strategy's total profit. exposure: mean |value| over equity; net: the same, signed. turnover: traded notional per year
    over equity.
    """

    asset: str
    profit: float
    share: float
    fees: float
    slippage: float
    funding: float
    turnover: float
    exposure: float
    net: float
    hit_rate: float


def subject(run: Run) -> str:
    """The strategy that the section is about: the searched one, or the first."""
    return run.subject


def contribution_rows(run: Run, strategy: str) -> list[Contribution]:
    """Empty where the run has no record of its assets (one asset, or an older run)."""
    table = run.contributions[run.contributions["strategy"] == strategy]
    rows = []
    begin = float(run.equity[strategy].dropna().iloc[0]) if len(table) else math.nan
    total = float(table["profit"].sum()) if len(table) else math.nan
    for asset, mine in table.groupby("asset", sort=False):
        numbers = {
            name: mine[name].to_numpy(float)
            for name in ("profit", "fees", "slippage", "funding", "traded", "exposure", "worth")
        }
        worth = numbers["worth"]
        alive = worth > 0
        moved = numbers["profit"][np.abs(numbers["profit"]) > 1e-9]
        traded = np.divide(numbers["traded"], worth, out=np.zeros(len(worth)), where=alive)
        rows.append(
            Contribution(
                str(asset),
                float(numbers["profit"].sum()) / begin,
                float(numbers["profit"].sum()) / total if abs(total) > 1e-9 else math.nan,
                float(numbers["fees"].sum()) / begin,
                float(numbers["slippage"].sum()) / begin,
                float(numbers["funding"].sum()) / begin,
                float(traded.sum()) / len(mine) * run.days_per_year,
                float(np.abs(numbers["exposure"]).mean()),
                float(numbers["exposure"].mean()),
                float(np.mean(moved > 0.0)) if len(moved) else math.nan,
            )
        )
    return rows


def asset_returns(run: Run, strategy: str, asset: str) -> pd.Series:
    """[day]: profit of one asset over the account's equity at the day's beginning; the assets' returns add up to the account's."""
    table = run.contributions
    mine = table[(table["strategy"] == strategy) & (table["asset"] == asset)]
    worth = mine["worth"].to_numpy(float)
    values = np.divide(mine["profit"].to_numpy(float), worth, out=np.zeros(len(mine)), where=worth > 0)
    return pd.Series(values, index=pd.DatetimeIndex(mine["timestamp"]), name=asset)


def portfolio_figures(run: Run) -> list[Figure]:
    """Exposure over time and the profit of every asset, both by day."""
    strategy = subject(run)
    table = run.contributions[run.contributions["strategy"] == strategy]
    if table.empty:
        return []
    exposure = _by_asset(table, "exposure")
    profit = _by_asset(table, "profit").cumsum() / float(run.equity[strategy].dropna().iloc[0])
    order = exposure.abs().mean().sort_values(ascending=False).index
    shown = list(order[:MOST_CURVES])
    gross, net = exposure.abs().sum(axis=1), exposure.sum(axis=1)
    curves = [("gross", gross, "var(--ink)", "solid", 2.2), ("net", net, "var(--benchmark)", "dot", 2.0)]
    return [
        Figure(
            "exposure",
            "Exposure over time",
            f"{run.short(strategy)}: value held over equity, mean of each day; gross {gross.mean():.0%} and net {net.mean():+.0%} on "
            f"average, at most {gross.max():.0%} gross.",
            [_line(name, values, colour, dash, width) for name, values, colour, dash, width in curves]
            + _lines(exposure, shown),
            {"yaxis": {"tickformat": ".0%", "title": {"text": "of equity"}}, "hovermode": "x unified"},
            380,
        ),
        Figure(
            "contributions",
            "Profit by asset",
            f"{run.short(strategy)}: profit of each asset after its costs, over the equity at the start; together "
            f"{float(profit.iloc[-1].sum()):+.1%}.",
            _lines(profit, shown),
            {"yaxis": {"tickformat": ".0%", "title": {"text": "of the equity at the start"}}, "hovermode": "x unified"},
            380,
        ),
    ]


def _by_asset(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table.pivot(index="timestamp", columns="asset", values=name).astype("float64").fillna(0.0)


def _lines(frame: pd.DataFrame, assets: list[str]) -> list[Trace]:
    return [
        _line(asset, frame[asset], f"var(--series-{k % SERIES_COLOURS})", "solid", 1.5)
        for k, asset in enumerate(assets)
    ]


def _line(name: str, values: pd.Series, colour: str, dash: str, width: float) -> Trace:
    step = max(1, -(-len(values) // POINTS))
    kept = values.iloc[::step]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label(name),
        "x": time_texts(kept.index),
        "y": significant(kept.to_numpy(float), 4),
        "line": {"color": colour, "width": width, "dash": dash},
    }


@dataclass(frozen=True)
class Lead:
    """One discovered edge between assets, in one window."""

    window: int
    leader: str
    follower: str
    lag: int
    weight: float
    state: str = ""


def leads(run: Run) -> list[Lead]:
    """Who leads whom by the lead-lag ops of every window's network; an edge that two ops share counts once, with its largest weight."""
    found: dict[tuple[int, str, str, int, str], float] = {}
    for position, window in enumerate(run.windows):
        number = window.get("window", position)
        genotype = window.get("genotype")
        cells = genotype.get("cells") or [] if isinstance(genotype, dict) else []
        for cell in cells[:1]:  # all cells of a network are alike
            for link in (k for node in cell.get("nodes") or [] for edge in node for k in edge.get("links") or []):
                state = str(link.get("state", ""))
                key = (int(number), str(link["leader"]), str(link["follower"]), int(link["lag"]), state)
                weight = float(link["weight"])
                found[key] = max(found.get(key, 0.0), weight, key=abs)
    return [Lead(*key[:4], weight, key[4]) for key, weight in sorted(found.items())]


def across_counts(run: Run) -> list[tuple[str, int]]:
    """(op, number of windows whose network holds it) of the ops that read other assets, the most frequent first."""
    counts: dict[str, int] = {}
    for window in run.windows:
        genotype = window.get("genotype")
        cells = genotype.get("cells") or [] if isinstance(genotype, dict) else []
        ops = {str(edge.get("op")) for cell in cells for node in cell.get("nodes") or [] for edge in node}
        for op in ops & set(ACROSS_OPS):
            counts[op] = counts.get(op, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def lead_figure(run: Run) -> list[Figure]:
    """A map of discovered leads: one row per leader and follower, one column per window, the lag in bars in the cell."""
    edges = leads(run)
    if not edges:
        return []
    pairs = sorted({(edge.leader, edge.follower, edge.state) for edge in edges})
    windows = [str(window.get("window", k)) for k, window in enumerate(run.windows)]
    place = {name: k for k, name in enumerate(windows)}
    weights: list[list[float | None]] = [[None] * len(windows) for _ in pairs]
    lags = [[""] * len(windows) for _ in pairs]
    for edge in edges:
        row, column = pairs.index((edge.leader, edge.follower, edge.state)), place[str(edge.window)]
        weights[row][column], lags[row][column] = round(edge.weight, 3), str(edge.lag)
    strongest = max(edges, key=lambda edge: abs(edge.weight))
    return [
        Figure(
            "leads",
            "Who leads whom",
            f"Lead-lag edges of the searched networks by window: colour: weight; number: lag in bars; {len(edges)} edges in "
            f"{len({edge.window for edge in edges})} of {len(windows)} windows; strongest: {strongest.leader} leads "
            f"{strongest.follower} by {strongest.lag} bars{when(strongest.state)} in window {strongest.window} ({strongest.weight:+.2f}).",
            [
                {
                    "type": "heatmap",
                    "x": [f"window {name}" for name in windows],
                    "y": [label(f"{leader} → {follower}{when(state)}") for leader, follower, state in pairs],
                    "z": weights,
                    "text": lags,
                    "texttemplate": "%{text}",
                    "zmin": -1.0,
                    "zmax": 1.0,
                    "colorscale": [[0.0, "#c0504d"], [0.5, "#d9d9d9"], [1.0, "#4f81bd"]],
                    "hovertemplate": "%{y}, %{x}: lag %{text}, weight %{z:.2f}<extra></extra>",
                    "colorbar": {"title": {"text": "weight"}},
                }
            ],
            {"yaxis": {"autorange": "reversed"}},
            150 + 34 * len(pairs),
        )
    ]
