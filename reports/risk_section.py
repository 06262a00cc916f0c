"""The section on risk forecasts: forecast against what came, calibration, bands with their coverage, and which method is best.

QLIKE (Patton 2011) after the bias factor of validation; Diebold and Mariano (1995) with the small-sample factor of Harvey, Leybourne and
Newbold (1997) on daily means, because hourly losses of overlapping horizons are no independent draws; the Model Confidence Set of
Hansen, Lunde and Nason (2011) as `arch` computes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from data.panel import FloatArray
from nas.targets import correlation, qlike, r_squared, skill
from reports.figures import SERIES_COLOURS, Figure, Trace, significant, time_texts
from reports.run_folder import Run

FORECAST, NAIVE = "forecast", "ewma"
KEPT = {"timestamp", "asset", "target", "window", "realised", "low", "high"}
MCS_SIZE, MCS_DRAWS, MCS_BLOCK = 0.1, 1_000, 10  # 90% confidence set, blocks of ten days
TITLES = {
    FORECAST: "Base and networks", "ewma": "EWMA(48) x constant", "last": "Last value", "seasonal": "Seasonal", "har": "HAR",
    "harx": "HARX", "harxl": "HARXL", "garch": "GARCH(1,1)-t", "egarch": "EGARCH", "boosting": "Boosting on HARX's columns",
}  # fmt: skip
CURVE_DAYS = 90  # of the newest bars that the chart shows


@dataclass(frozen=True)
class Method:
    """One way to forecast a target, over all windows and assets. p: of Diebold and Mariano, that the shipped forecast is no better;
    best: whether the Model Confidence Set keeps it."""

    name: str
    title: str
    skill: float
    qlike: float
    r_squared: float
    correlation: float
    difference: float
    p: float
    best: bool


@dataclass(frozen=True)
class Band:
    """A band: its level, and the share of what came that lay inside, out of sample, with the windows of least and most."""

    level: float
    coverage: float
    least: float
    most: float


@dataclass(frozen=True)
class Kind:
    """A kind of architectures: the share of the base's squared error that its networks saved on validation, pooled over windows, with its
    interval, the same behind the leader, and in how many windows the forecast used it."""

    name: str
    gain: float
    low: float
    high: float
    behind: float
    behind_low: float
    behind_high: float
    used: int


@dataclass(frozen=True)
class Quantile:
    """A quantile of the return of the bars ahead: its level, the share of returns that lay below it out of sample (windows of least and
    most), and its pinball loss less that of the same made of EWMA, in percent of the latter."""

    level: float
    below: float
    least: float
    most: float
    gain: float


@dataclass(frozen=True)
class RiskTarget:
    """All that the page says of one target."""

    name: str
    title: str
    about: str
    unit: str
    naive: str
    horizon: int
    days: int
    methods: tuple[Method, ...]
    bands: tuple[Band, ...]
    sentence: str
    figures: tuple[str, ...]
    kinds: tuple[Kind, ...]
    probe: str
    windows: int
    quantiles: tuple[Quantile, ...]


def risk_section(run: Run) -> tuple[list[RiskTarget], list[Figure]]:
    """Empty where the run forecast no risk."""
    path, numbers = run.folder / "risk.parquet", run.folder / "risk.json"
    if not (path.is_file() and numbers.is_file()):
        return [], []
    table, told = pd.read_parquet(path), json.loads(numbers.read_text(encoding="utf-8"))
    found, figures = [], []
    for name, facts in told.items():
        mine = table[table["target"] == name]
        drawn = [_curve(name, facts, mine), _calibration(name, facts, mine)]
        figures += drawn
        found.append(_target(name, facts, mine, tuple(figure.name for figure in drawn)))
    return found, figures


def _target(name: str, facts: Mapping[str, Any], mine: pd.DataFrame, figures: tuple[str, ...]) -> RiskTarget:
    names = [c for c in mine.columns if c not in KEPT and mine[c].notna().any()]
    losses = {method: _losses(method, facts, mine) for method in names}
    days = pd.to_datetime(mine["timestamp"]).dt.floor("D")
    daily = pd.DataFrame(losses).groupby(days.to_numpy()).mean().dropna()
    inside = confidence_set(daily)
    truth, naive = mine["realised"].to_numpy(float), mine[NAIVE].to_numpy(float)
    rows = []
    for method in names:
        values = mine[method].to_numpy(float)
        difference = daily[FORECAST] - daily[method]
        p = math.nan if method == FORECAST else diebold_mariano(difference.to_numpy())
        scores = skill(truth, values, naive), float(np.nanmean(losses[method])), r_squared(truth, values)
        linear = correlation(truth, values)
        rows.append(Method(method, title_of(method), *scores, linear, float(difference.mean()), p, method in inside))
    rows.sort(key=lambda row: row.qlike)
    bands = []
    for level in [band["level"] for band in facts["windows"][0]["bands"]]:
        shares = [band["coverage"] for window in facts["windows"] for band in window["bands"] if band["level"] == level]
        shares = [share for share in shares if math.isfinite(share)]
        if shares:
            bands.append(Band(level, float(np.mean(shares)), min(shares), max(shares)))
    return RiskTarget(
        name, facts["title"], facts["about"], facts["unit"], facts["naive"], facts["horizon"], len(daily), tuple(rows),
        tuple(bands), _sentence(rows), figures, *_kinds(facts),
        _quantiles(facts),
    )  # fmt: skip


def _kinds(facts: Mapping[str, Any]) -> tuple[tuple[Kind, ...], str, int]:
    """(records after the last window, what the probe says, windows); empty for runs of before there were records."""
    told = [d for d in facts["kinds"] if isinstance(d, dict)]
    if not told:
        return (), "", 0
    rows = []
    for record in told[-1]["records"]:
        fields = ("gain", "low", "high", "behind", "behind_low", "behind_high")
        numbers = {f: math.nan if record[f] is None else float(record[f]) for f in fields}
        used = sum(record["kind"] in d["networks"] for d in told)
        rows.append(Kind(name=record["kind"], used=used, **numbers))
    return tuple(sorted(rows, key=lambda row: -row.gain)), told[-1]["probe"]["sentence"], len(told)


def _quantiles(facts: Mapping[str, Any]) -> tuple[Quantile, ...]:
    """Over windows; empty where the target is no volatility, and for runs of before there were any."""
    windows = [w["quantiles"] for w in facts["windows"] if w.get("quantiles")]
    rows = []
    for k, level in enumerate([q["level"] for q in windows[0][FORECAST]] if windows else []):
        mine = [w[FORECAST][k] for w in windows if w[FORECAST][k]["factor"] is not None]
        naive = [w[NAIVE][k]["pinball"] for w in windows if w[FORECAST][k]["factor"] is not None]
        pairs = [
            (q["pinball"], n) for q, n in zip(mine, naive, strict=True) if q["pinball"] is not None and n is not None
        ]
        shares = [q["below"] for q in mine if q["below"] is not None]
        if shares and pairs:
            gain = sum(a for a, _ in pairs) / sum(b for _, b in pairs) - 1.0
            rows.append(Quantile(level, float(np.mean(shares)), min(shares), max(shares), gain))
    return tuple(rows)


def title_of(method: str) -> str:
    """Of a method as the files name it: `harxl + tcn` is a network by hand on what HARXL leaves."""
    base, plus, network = method.partition(" + ")
    return f"{TITLES.get(base, base)} + {network.upper()} by hand" if plus else TITLES.get(method, method)


def _losses(method: str, facts: Mapping[str, Any], mine: pd.DataFrame) -> FloatArray:
    """QLIKE per row, every window and asset with its own bias factor; of a target that is no log, the squared error."""
    truth, values = mine["realised"].to_numpy(float), mine[method].to_numpy(float)
    if not facts["power"]:
        squared: FloatArray = (truth - values) ** 2
        return squared
    factors = {window["window"]: window["factors"].get(method, [1.0]) for window in facts["windows"]}
    places = {asset: k for k, asset in enumerate(dict.fromkeys(mine["asset"]))}
    pairs = zip(mine["window"], mine["asset"], strict=True)
    factor = np.array([factors[window][places[asset]] for window, asset in pairs], dtype=np.float64)
    return qlike(truth, values, facts["power"], factor)


def diebold_mariano(difference: FloatArray) -> float:
    """One-sided p that the mean of a series of loss differences is not below 0, with Newey-West errors and the small-sample factor."""
    n = len(difference)
    if n < 10:
        return math.nan
    lags = math.ceil(n ** (1 / 3))
    centred = difference - difference.mean()
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    if variance <= 0.0:
        return math.nan
    h = lags + 1
    correction = math.sqrt(max((n + 1 - 2 * h + h * (h - 1) / n) / n, 1e-9))
    return float(stats.t.cdf(difference.mean() / math.sqrt(variance / n) * correction, n - 1))


def confidence_set(daily: pd.DataFrame) -> set[str]:
    """Methods that the Model Confidence Set keeps at 90%; all where there are too few days."""
    if len(daily) < 3 * MCS_BLOCK or daily.shape[1] < 2:
        return set(map(str, daily.columns))
    from arch.bootstrap import MCS  # takes seconds to load

    test = MCS(daily, size=MCS_SIZE, reps=MCS_DRAWS, block_size=MCS_BLOCK, method="max", seed=0)
    test.compute()
    return set(map(str, test.included))


def _sentence(rows: list[Method]) -> str:
    mine = next(row for row in rows if row.name == FORECAST)
    others = [row for row in rows if row.name not in (FORECAST, NAIVE)]
    if not others:
        return ""
    rival = min(others, key=lambda row: row.qlike)
    word = "better" if mine.qlike < rival.qlike else "worse"
    sure = (
        f"p = {rival.p:.3f} that it is no better"
        if mine.qlike < rival.qlike
        else f"p = {1 - rival.p:.3f} that it is no worse"
    )
    apart = abs(mine.qlike - rival.qlike)
    return (
        f"QLIKE {mine.qlike:.3f}, {apart:.3f} {word} than the best by hand ({rival.title}; Diebold-Mariano {sure}); "
        f"the 90% Model Confidence Set holds {', '.join(row.title for row in rows if row.best)}."
    )


def _natural(values: Any, facts: Mapping[str, Any]) -> FloatArray:
    """From the log to the scale that a person reads: percent for volatilities and falls."""
    found: FloatArray = np.exp(np.asarray(values, dtype=np.float64)) * (
        1.0 if facts["power"] == 1.0 and "turnover" in facts["about"] else 100.0
    )
    return found


def _axis(facts: Mapping[str, Any]) -> str:
    return "turnover per bar" if "turnover" in facts["about"] else "percent"


def _curve(name: str, facts: Mapping[str, Any], mine: pd.DataFrame) -> Figure:
    """Forecast with its band against what came, the newest days of the first asset."""
    asset = mine["asset"].iloc[0]
    rows = mine[mine["asset"] == asset].sort_values("timestamp")
    stamps = pd.to_datetime(rows["timestamp"])
    rows = rows[stamps >= stamps.max() - pd.Timedelta(days=CURVE_DAYS)]
    times = time_texts(pd.DatetimeIndex(rows["timestamp"]))
    low, high, forecast, came = (
        significant(_natural(rows[c], facts), 4) for c in ("low", "high", FORECAST, "realised")
    )

    def line(values: Any, **more: Any) -> Trace:
        return {"type": "scatter", "mode": "lines", "x": times, "y": values, **more}

    hidden = {"line": {"width": 0}, "hoverinfo": "skip"}
    data = [
        line(high, showlegend=False, **hidden),
        line(low, fill="tonexty", fillcolor="rgba(128,128,128,0.25)", name="80% band", **hidden),
        line(came, name="what came", line={"width": 1, "color": "var(--series-1)"}),
        line(forecast, name="forecast", line={"width": 2, "color": "var(--series-0)"}),
    ]
    layout = {
        "yaxis": {"title": {"text": _axis(facts)}, "type": "log"},
        "xaxis": {"type": "date"},
        "hovermode": "x unified",
    }
    title = f"{facts['title']} of the next {facts['horizon']} bars, {asset}: forecast and what came"
    return Figure(
        f"risk-curve-{name}", title, f"{title}; the last {CURVE_DAYS} days, with the band of 80%.", data, layout
    )


def _calibration(name: str, facts: Mapping[str, Any], mine: pd.DataFrame) -> Figure:
    """Of every tenth of the forecasts, their mean and the mean of what came."""
    known = mine.dropna(subset=["realised", FORECAST])
    data: list[Trace] = []
    ends: list[float] = []
    for k, method in enumerate([FORECAST, *[m for m in ("harx", NAIVE) if m in mine.columns]]):
        values = known[method].to_numpy(float)
        usable = np.isfinite(values)
        if usable.sum() < 100:
            continue
        tenth = pd.qcut(values[usable], 10, labels=False, duplicates="drop")
        truth = known["realised"].to_numpy(float)[usable]
        pairs = [(values[usable][tenth == q].mean(), truth[tenth == q].mean()) for q in np.unique(tenth)]
        x, y = _natural([a for a, _ in pairs], facts), _natural([b for _, b in pairs], facts)
        ends += [float(x.min()), float(x.max()), float(y.min()), float(y.max())]
        data.append({"type": "scatter", "mode": "lines+markers", "x": significant(x, 4), "y": significant(y, 4),
                     "name": title_of(method), "line": {"color": f"var(--series-{k % SERIES_COLOURS})"}})  # fmt: skip
    if ends:
        line = [min(ends), max(ends)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": line,
                "y": line,
                "name": "perfect",
                "line": {"dash": "dot", "width": 1},
            }
        )
    axis = _axis(facts)
    layout = {
        "xaxis": {"title": {"text": f"forecast, {axis}"}, "type": "log"}, "yaxis": {"title": {"text": f"what came, {axis}"}, "type": "log"},
    }  # fmt: skip
    title = f"{facts['title']}: is it calibrated?"
    told = "Mean forecast and mean of what came, of every tenth of the forecasts; on the dotted line they agree."
    return Figure(
        f"risk-calibration-{name}", title, told,
        data, layout, 340,
    )  # fmt: skip
