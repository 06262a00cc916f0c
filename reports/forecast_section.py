"""The forecast sheet: what forecasts were worth before any position, what the networks lean on, whether the timing was any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.figures import Figure, Trace
from reports.run_folder import Run

SURPRISING = 2.0  # |t| that one of twenty reaches by luck
SHOWN = 12  # parts of a network that a chart of importance holds


@dataclass(frozen=True)
class Horizons:
    """One strategy's correlations by horizon; rows as of `strategies.walkforward.forecast_sheet`."""

    title: str
    searched: bool
    rows: tuple[Mapping[str, Any], ...]
    leak: int | None


@dataclass(frozen=True)
class ForecastSection:
    """horizons: by strategy. hours, regimes, windows, quantiles: of the searched networks. importance: figures. timing: sentences."""

    horizon: int
    sentence: str
    horizons: tuple[Horizons, ...]
    tables: tuple[tuple[str, str, tuple[tuple[str, float | None, float | None, int], ...]], ...]
    figures: tuple[str, ...]
    warnings: tuple[str, ...]
    timing: tuple[str, ...]


def forecast_section(run: Run) -> tuple[ForecastSection | None, list[Figure]]:
    """None for runs that forecast no direction, and for those of before there was a sheet."""
    told = run.forecast_sheet
    sheets = told.get("strategies") or {}
    own = sheets.get(run.subject)
    if own is None:
        return None, []
    horizons = tuple(
        Horizons(run.short(name), name == run.subject, tuple(sheet["horizons"]), sheet["leak"])
        for name, sheet in sheets.items()
    )
    drawn = [_lead_lag(run, sheets), _quantiles(own), *_importance(told.get("importance") or [])]
    figures = [figure for figure in drawn if figure is not None]
    tables = (
        ("Window", "window", _rows(own["windows"], "window")),
        ("Regime", "regime", _rows(own["regimes"], "regime")),
        ("Hour (UTC)", "hour", _rows(own["hours"], "hour")),
    )
    section = ForecastSection(
        own["horizon"],
        sentence(own),
        horizons,
        tuple(table for table in tables if table[2]),
        tuple(figure.name for figure in figures),
        tuple(leak_told(each.title, each.leak) for each in horizons if each.leak is not None),
        tuple(timing_told(run.short(name), each) for name, each in (told.get("timing") or {}).items()),
    )
    return section, figures


def sentence(sheet: Mapping[str, Any]) -> str:
    """What the searched networks' forecasts were worth, in words."""
    row = next(each for each in sheet["horizons"] if each["bars"] == sheet["horizon"])
    value, t = row["rank_ic"], row["rank_ic_t"]
    if value is None or t is None:
        return f"{sheet['bars']:,} forecasts are too few to tell whether they were worth anything."
    if abs(t) < SURPRISING:
        what = "no different from none: luck alone reaches as much in more than one of twenty"
    else:
        what = "more than luck alone reaches in one of twenty" if t > 0 else "worse than none: the signs were wrong"
    return (
        f"Rank correlation of {sheet['bars']:,} forecasts with the return of the next {sheet['horizon']} bars: {value:+.3f} "
        f"(Newey-West t {t:+.1f}), {what}.{_across(sheet)}"
    )


def _across(sheet: Mapping[str, Any]) -> str:
    """Ranks across assets, beside what anybody knows of them; empty for few assets and pages of before it was told."""
    told = sheet.get("cross_section")
    if not told:
        return ""

    def words(name: str) -> str:
        value, t = told[name]["rank_ic"], told[name]["t"]
        return "none" if value is None or t is None else f"{value:+.3f} (t {t:+.1f})"

    return (
        f" Across the assets of a bar: {words('forecast')}; low volatility alone, which nobody has to search for, "
        f"{words('low_volatility')}; the forecast beyond it {words('beyond')}."
    )


def leak_told(title: str, lag: int) -> str:
    """A warning about one strategy."""
    return (
        f"{title}: its forecasts agree with the return of bar +{lag} alone far more than with those around it, which no skill does: "
        f"they look like ones that read {lag} bar{'s' * (lag != 1)} ahead. Trust nothing on this page before that is explained."
    )


def timing_told(title: str, found: Mapping[str, Any]) -> str:
    """The timing null of one strategy."""
    p = float(found["p"])
    better = "less often than once in twenty" if p <= 0.05 else f"in {p:.0%} of them"
    return (
        f"{title}: its own positions, as long and as large, in random order and at random times through the same account "
        f"({found['draws']:,} times, after costs and funding) have as high a Sharpe ratio {better} (p = {p:.3f})."
    )


def _rows(found: Sequence[Mapping[str, Any]], name: str) -> tuple[tuple[str, float | None, float | None, int], ...]:
    return tuple((str(each[name]), each["rank_ic"], each["t"], int(each["bars"])) for each in found)


def _lead_lag(run: Run, sheets: Mapping[str, Mapping[str, Any]]) -> Figure:
    data: list[Trace] = []
    for k, (name, sheet) in enumerate(sheets.items()):
        points = [point for point in sheet["lead_lag"] if point["ic"] is not None]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [point["lag"] for point in points],
                "y": [point["ic"] for point in points],
                "error_y": {
                    "type": "data",
                    "array": [2.0 * (point["error"] or 0.0) for point in points],
                    "thickness": 1,
                    "width": 0,
                },
                "name": run.short(name),
                "line": {"color": f"var(--series-{k % 10})"},
                "visible": True if name == run.subject else "legendonly",
            }
        )
    return Figure(
        "lead-lag-curve",
        "Forecast against the return of single bars before and after",
        "Correlation of the forecast at a bar's close with the return of one bar, with two standard errors. Up to lag 0 the bars are "
        "over: there a forecast shows what it follows. From lag 1 on it can be earned; a lone high point there has read the future.",
        data,
        {
            "xaxis": {"title": {"text": "bars after the forecast (0: the bar that has just closed)"}, "dtick": 1},
            "yaxis": {"title": {"text": "correlation"}},
            "shapes": [
                {"type": "line", "x0": 0.5, "x1": 0.5, "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot"}}
            ],
        },
        340,
    )


def _quantiles(sheet: Mapping[str, Any]) -> Figure | None:
    rows = [each for each in sheet["quantiles"] if each["mean_bps"] is not None]
    if not rows:
        return None
    return Figure(
        "forecast-quantiles",
        f"Mean return of the next {sheet['horizon']} bars by fifths of the forecast",
        "Basis points before costs, with two Newey-West standard errors; 1 is the lowest fifth of a window's forecasts, 5 the highest.",
        [
            {
                "type": "bar",
                "x": [each["quantile"] for each in rows],
                "y": [round(each["mean_bps"], 3) for each in rows],
                "error_y": {"type": "data", "array": [round(2.0 * (each["error_bps"] or 0.0), 3) for each in rows]},
                "marker": {"color": "var(--series-0)"},
                "name": "mean return",
            }
        ],
        {
            "xaxis": {"title": {"text": "fifth of the forecast"}, "dtick": 1},
            "yaxis": {"title": {"text": "basis points"}},
        },
        300,
    )


def _importance(found: Sequence[Mapping[str, Any]]) -> list[Figure]:
    figures = []
    for each in found:
        parts = each["found"]
        for part, what in (("input", "inputs"), ("edge", "edges")):
            rows = [row for row in parts if row["part"] == part][:SHOWN][::-1]
            if not rows:
                continue
            figures.append(
                Figure(
                    f"importance-{part}-{each['window']}",
                    f"Window {each['window']}: what its network leans on, {what}",
                    "By how much of the label's mean square the squared error on the unseen stretch grows where this comes at another "
                    "time; an interval that holds 0 is no evidence that it helped.",
                    [
                        {
                            "type": "scatter",
                            "mode": "markers",
                            "y": [row["name"] for row in rows],
                            "x": [1e4 * row["lost"] for row in rows],
                            "error_x": {
                                "type": "data",
                                "symmetric": False,
                                "array": [round(1e4 * (row["high"] - row["lost"]), 3) for row in rows],
                                "arrayminus": [round(1e4 * (row["lost"] - row["low"]), 3) for row in rows],
                            },
                            "marker": {"color": "var(--series-0)", "size": 9},
                            "name": what,
                        }
                    ],
                    {
                        "xaxis": {"title": {"text": "lost, hundredths of a percent"}, "zeroline": True},
                        "yaxis": {"automargin": True},
                        "showlegend": False,
                    },
                    120 + 26 * len(rows),
                )
            )
    return figures
