"""The trades section: fills on candles, a table to filter, and the weeks that made or broke the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports.figures import Figure, Trace, label, significant
from reports.run_folder import BENCHMARK, Run

CANDLES = 1200  # per asset: more than a screen has columns
MARKERS = 1500  # per strategy and asset
TABLE_ROWS = 8000
WEEKS = 5


def candle_figures(run: Run) -> list[Figure]:
    """One chart per asset; the fills of every strategy are in it, those of the first one shown (the page switches)."""
    figures = []
    for number, (asset, bars) in enumerate(run.candles.groupby("asset", sort=False)):
        bars = _joined(bars.sort_values("timestamp"))
        times = list(bars["timestamp"].dt.strftime("%Y-%m-%d %H:%M"))
        traces: list[Trace] = [
            {
                "type": "candlestick",
                "name": label(str(asset)),
                "x": times,
                **{
                    name: significant(bars[name].to_numpy(dtype="float64"), 6)
                    for name in ("open", "high", "low", "close")
                },
                "increasing": {"line": {"color": "var(--series-2)", "width": 1}},
                "decreasing": {"line": {"color": "var(--series-4)", "width": 1}},
                "showlegend": False,
            }
        ]
        fills = run.trades[(run.trades["kind"] != "funding") & (run.trades["asset"] == asset)]
        counts = []
        for strategy in run.strategies:
            mine = fills[fills["strategy"] == strategy]
            counts.append(f"{run.short(strategy)} {len(mine):,}")
            biggest = mine.assign(weight=mine["size"].astype(float).abs()).nlargest(MARKERS, "weight").sort_index()
            for words, symbol, colour, sign in (
                ("buys", "triangle-up", "series-0", 1.0),
                ("sells", "triangle-down", "series-1", -1.0),
            ):
                side = biggest[np.sign(biggest["size"].astype(float)) == sign]
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "meta": strategy,
                        "visible": strategy == run.strategies[0],
                        "name": words,
                        "x": list(side["timestamp"].dt.strftime("%Y-%m-%d %H:%M")),
                        "y": significant(side["price"].to_numpy(dtype="float64"), 6),
                        "marker": {
                            "symbol": symbol,
                            "size": 9 if len(biggest) < 200 else 6,
                            "color": f"var(--{colour})",
                            "line": {"width": 1, "color": "var(--card)"},
                        },
                    }
                )
        figures.append(
            Figure(
                f"candles-{number}",
                f"{asset}: fills on the price",
                f"Candles of {asset} with entries and exits of the strategy chosen above; fills in all: {'; '.join(counts)}. "
                f"At most the {MARKERS:,} largest fills of a strategy are marked.",
                traces,
                {"xaxis": {"rangeslider": {"visible": False}, "type": "date"}, "yaxis": {"title": {"text": "price"}}},
                440,
            )
        )
    return figures


def _joined(bars: pd.DataFrame) -> pd.DataFrame:
    step = -(-len(bars) // CANDLES)
    if step <= 1:
        return bars
    group = np.arange(len(bars)) // step
    return bars.groupby(group).agg(
        {"timestamp": "first", "open": "first", "high": "max", "low": "min", "close": "last"}
    )


def trade_table(run: Run) -> dict[str, Any]:
    """What the page's table draws from, newest first: names once, rows as short lists; total: how many there are in all."""
    trades = run.trades.sort_values("timestamp", kind="stable", ascending=False)
    shown = trades.head(TABLE_ROWS)
    strategies, assets, kinds = (list(dict.fromkeys(map(str, trades[name]))) for name in ("strategy", "asset", "kind"))
    columns = [
        list(shown["timestamp"].dt.strftime("%Y-%m-%d %H:%M")) if len(shown) else [],
        [strategies.index(str(value)) for value in shown["strategy"]],
        [assets.index(str(value)) for value in shown["asset"]],
        [kinds.index(str(value)) for value in shown["kind"]],
        *(
            significant(shown[name].astype("float64").to_numpy(), 6)
            for name in ("size", "price", "fee", "slippage", "funding")
        ),
    ]
    return {
        "strategies": [[name, run.short(name)] for name in strategies],
        "assets": assets,
        "kinds": kinds,
        "rows": [list(row) for row in zip(*columns, strict=True)],
        "total": len(trades),
    }


def weeks(
    run: Run, rival: str | None
) -> tuple[list[str], list[tuple[str, list[float]]], list[tuple[str, list[float]]]]:
    """Titles, and the worst and the best weeks of the first strategy: (week beginning, return of each)."""
    subject = run.subject
    names = [
        name for name in dict.fromkeys([subject, rival, BENCHMARK]) if name is not None and name in run.equity.columns
    ]
    equity = run.equity[names].ffill().clip(lower=0.0)
    # weeks run Monday to Sunday, UTC; the first counts from the first bar
    closing = equity.groupby(
        (pd.DatetimeIndex(equity.index) - pd.Timedelta(1, "ns")).tz_localize(None).to_period("W-SUN")
    ).last()
    before = closing.shift(1)
    before.iloc[0] = equity.iloc[0]
    change = (closing / before - 1.0).fillna(0.0)
    ranked = change.sort_values(subject, kind="stable")
    half = min(WEEKS, len(ranked) // 2)

    def rows(part: pd.DataFrame) -> list[tuple[str, list[float]]]:
        return [
            (f"{week.start_time:%Y-%m-%d}", [float(value) for value in row])
            for week, row in zip(part.index, part.to_numpy(), strict=True)
        ]

    return [run.short(name) for name in names], rows(ranked.head(half)), rows(ranked.tail(half)[::-1])
