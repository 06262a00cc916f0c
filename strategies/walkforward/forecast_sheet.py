"""What the forecasts were worth before any position: correlation with what came by horizon, hour, regime, window; quantiles; lead and lag.

Forecasts are ranked within their window and asset, because each window has a network of its own; returns are in standard deviations of
their own volatility, from the open after the forecast on. Standard errors are Newey and West's (1987): returns that overlap and
forecasts that persist are no independent draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from data.panel import FloatArray, Panel
from nas.network.importance import importance
from nas.network.stretches import Samples
from nas.space.genotype import Genotype
from nas.targets.returns import scaled_return
from nas.tasks.windows import Window
from nas.tasks.work import TaskResult, model_of

FILE = "forecast_sheet.json"
LAGS = tuple(range(-5, 11))
LONGER = (1, 2, 4, 8)  # horizons that are looked at, in horizons of the forecast; and one bar
QUANTILES = 5
REGIMES = ("calm", "middle", "volatile")  # thirds of the volatility known at the bar
FEWEST_ASSETS = 5  # of a bar, for a rank across assets
FEWEST = 50  # bars below which no figure is told
# a correlation with one bar's return above that of the bars around it, beyond which it is taken for a look ahead: at 0.06 an hourly
# strategy would have a Sharpe ratio of 0.06 * sqrt(8760) = 5.6 before costs
LEAP = 0.06
SURE = 3.0  # standard errors of it


def newey_west(values: FloatArray, lags: int) -> tuple[float, float]:
    """Mean and its standard error by Newey and West (1987) with Bartlett weights; NaN left out, error NaN below FEWEST values."""
    known = values[np.isfinite(values)]
    count = len(known)
    if count < FEWEST:
        return (float(known.mean()) if count else math.nan), math.nan
    mean = float(known.mean())
    rest = known - mean
    spectrum = float(rest @ rest) / count
    for lag in range(1, min(lags, count - 1) + 1):
        spectrum += 2 * (1 - lag / (lags + 1)) * float(rest[lag:] @ rest[:-lag]) / count
    return mean, math.sqrt(max(spectrum, 1e-18) / count)


def lags_of(count: int, horizon: int) -> int:
    """Lags for returns over `horizon` bars that overlap: twice as many, and at least what their number asks for."""
    return max(2 * horizon, int(4 * (max(count, 1) / 100) ** (2 / 9)))


def standardised(values: FloatArray, groups: FloatArray, ranks: bool) -> FloatArray:
    """[bar, asset] with mean 0 and spread 1 in every group of bars and asset, by value or by rank; 0 spread and unknown: NaN."""
    out = np.full(values.shape, np.nan)
    for group in np.unique(groups[groups >= 0]):
        bars = np.flatnonzero(groups == group)
        for asset in range(values.shape[1]):
            part = values[bars, asset]
            known = np.isfinite(part)
            if known.sum() < 3:
                continue
            found = rankdata(part[known]) if ranks else part[known]
            spread = float(found.std())
            if spread > 1e-12:
                out[bars[known], asset] = (found - found.mean()) / spread
    return out


def agreement(forecast: FloatArray, returns: FloatArray) -> FloatArray:
    """[bar]: product of both, mean over assets; its mean is their correlation. NaN where no asset is known."""
    product = forecast * returns
    known = np.isfinite(product)
    count = known.sum(1)
    result: FloatArray = np.where(count > 0, np.where(known, product, 0.0).sum(1) / np.maximum(count, 1), np.nan)
    return result


def forecast_sheet(
    panel: Panel, windows: Sequence[Window], forecast: FloatArray, volatility: FloatArray, horizon: int, start: int
) -> dict[str, Any]:
    """All figures of one strategy's out-of-sample forecasts; plain JSON, None where too few bars tell.

    forecast: [bar, asset] from bar `start` on, NaN where there is none. volatility: [T, A], known at the bar. Returns of the first bars
    after a window are read for its last forecasts: this is told after the fact and chooses nothing.
    """
    stop = start + len(forecast)
    groups = np.full(len(forecast), -1.0)
    for window in windows:
        groups[window.test.start - start : window.test.stop - start] = window.number
    ranked, plain = standardised(forecast, groups, True), standardised(forecast, groups, False)

    def ahead(bars: int) -> FloatArray:
        return scaled_return(panel, bars, volatility).T[start:stop]

    horizons = []
    for bars in sorted({1, *(horizon * k for k in LONGER)}):
        came = ahead(bars)
        both = {
            "ic": agreement(plain, standardised(came, groups, False)),
            "rank_ic": agreement(ranked, standardised(came, groups, True)),
        }
        horizons.append({"bars": bars, **_correlations(both, bars)})
    own = standardised(ahead(horizon), groups, True)
    matched = agreement(ranked, own)
    curve = lead_lag(panel, ranked, groups, volatility, start)
    return {
        "horizon": horizon,
        "bars": int(np.isfinite(matched).sum()),
        "horizons": horizons,
        "hours": _by_hour(panel, matched, horizon, start),
        "regimes": _by_regime(panel, matched, volatility[start:stop], horizon, start),
        "windows": [
            {"window": int(group), **_told(matched[groups == group], horizon)}
            for group in np.unique(groups[groups >= 0])
        ],
        "quantiles": _quantiles(panel, ranked, horizon, start),
        "cross_section": cross_section(forecast, volatility[start:stop], _came(panel, horizon)[start:stop], horizon),
        "lead_lag": curve,
        "leak": leak_of(curve),
    }


def sheets(
    panel: Panel, windows: Sequence[Window], forecasts: pd.DataFrame, volatility: FloatArray, horizon: int
) -> dict[str, dict[str, Any]]:
    """`forecast_sheet` of every strategy that forecasts. forecasts: as of `Book`."""
    start, shape = windows[0].test.start, (-1, len(panel.assets))
    return {
        str(name): forecast_sheet(
            panel, windows, table["forecast"].to_numpy(float).reshape(shape), volatility, horizon, start
        )
        for name, table in forecasts.groupby("strategy", sort=False)
    }


def importances(
    samples: Samples, window: Window, trained: TaskResult, seed: int, day_bars: int
) -> list[dict[str, float | str]]:
    """Of the inputs and edges of the network that was chosen for a window, on its test stretch; the most important first."""
    genotype = Genotype.from_dict(trained.report["genotype"])
    model = model_of(trained, samples.panel.interval_ns, 1.0, {})
    x, known = model.scaler.apply(samples.bank.values[:, samples.columns(genotype.features)])
    found = importance(
        model.network, x, known, samples.labels[:, 0], window.test,
        day_bars=max(day_bars, samples.horizons[0]), seed=seed, together=bool(genotype.assets),
    )  # fmt: skip
    edges = edge_names(genotype)
    return [
        {
            "part": each.part,
            "name": " / ".join(genotype.features[each.number]) if each.part == "input" else edges[each.number],
            "lost": round(each.lost, 6),
            "low": round(each.low, 6),
            "high": round(each.high, 6),
        }
        for each in sorted(found, key=lambda each: (each.part != "input", -each.lost))
    ]


def edge_names(genotype: Genotype) -> list[str]:
    """In the order in which a network holds them: `node 1 <- conv3(input)`."""

    def source(number: int) -> str:
        if number >= genotype.inputs:
            return f"node {number - genotype.inputs}"
        return "input" if genotype.inputs == 1 else ("input before", "input")[number]

    return [
        f"node {node} <- {edge.op}({source(edge.source)})"
        for node, edges in enumerate(genotype.nodes)
        for edge in edges
    ]


def _told(values: FloatArray, horizon: int, apart: int = 1) -> dict[str, Any]:
    """Mean, t and how many of products in time order; apart: bars from one to the next."""
    count = int(np.isfinite(values).sum())
    mean, error = newey_west(values, lags_of(count, -(-horizon // apart)))
    return {"rank_ic": _number(mean), "t": _number(mean / error if error > 0 else math.nan), "bars": count}


def _correlations(both: Mapping[str, FloatArray], horizon: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in both.items():
        mean, error = newey_west(values, lags_of(int(np.isfinite(values).sum()), horizon))
        found |= {name: _number(mean), f"{name}_error": _number(error)}
        found[f"{name}_t"] = _number(mean / error if error > 0 else math.nan)
    return found


def _by_hour(panel: Panel, matched: FloatArray, horizon: int, start: int) -> list[dict[str, Any]]:
    """By the hour of the day (UTC) at which the forecast is made; empty for bars of a day and longer."""
    if panel.interval_ns >= 86_400e9:
        return []
    hours = pd.DatetimeIndex(panel.close_times[start : start + len(matched)]).round("1min").hour.to_numpy()
    apart = max(1, round(86_400e9 / panel.interval_ns))
    return [{"hour": int(hour), **_told(matched[hours == hour], horizon, apart)} for hour in np.unique(hours)]


def _by_regime(
    panel: Panel, matched: FloatArray, volatility: FloatArray, horizon: int, start: int
) -> list[dict[str, Any]]:
    """By thirds of the volatility (mean of the assets) that was known; of a simulated market by its own regimes as well."""
    known = np.isfinite(volatility)
    level = np.where(known, volatility, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    third = np.searchsorted(np.quantile(level, [1 / 3, 2 / 3]), level)
    found = [{"regime": name, **_told(matched[third == k], horizon)} for k, name in enumerate(REGIMES)]
    if panel.regimes is not None:
        mine = panel.regimes[start : start + len(matched)]
        found += [
            {"regime": f"simulated: {panel.regime_names[int(k)]}", **_told(matched[mine == k], horizon)}
            for k in np.unique(mine)
        ]
    return found


def _quantiles(panel: Panel, ranked: FloatArray, horizon: int, start: int) -> list[dict[str, Any]]:
    """Mean return of the next `horizon` bars in basis points, before costs, by fifths of the forecast."""
    came = 1e4 * _came(panel, horizon)[start : start + len(ranked)]
    usable = np.isfinite(ranked) & np.isfinite(came)
    if usable.sum() < FEWEST * QUANTILES:
        return []
    edges = np.nanquantile(ranked, np.arange(1, QUANTILES) / QUANTILES)
    fifth = np.where(usable, np.searchsorted(edges, np.nan_to_num(ranked)), -1)
    found = []
    for k in range(QUANTILES):
        mine = (fifth == k) & usable
        count = mine.sum(1)
        values = np.where(count > 0, np.where(mine, came, 0.0).sum(1) / np.maximum(count, 1), np.nan)
        mean, error = newey_west(values, lags_of(int((count > 0).sum()), horizon))
        found.append(
            {"quantile": k + 1, "mean_bps": _number(mean), "error_bps": _number(error), "bars": int(mine.sum())}
        )
    return found


def _came(panel: Panel, horizon: int) -> FloatArray:
    """[T, A]: log return of the next `horizon` bars, from the next open."""
    price = np.log(panel.field("open"))
    came = np.full(price.shape, np.nan)
    came[: -horizon - 1] = price[1 + horizon :] - price[1:-horizon]
    return came


def cross_section(
    forecast: FloatArray, volatility: FloatArray, came: FloatArray, horizon: int
) -> dict[str, dict[str, Any]]:
    """Rank correlation across the assets of a bar with the return that came, mean over bars; all arguments [bar, asset].

    Of the forecast, of low volatility (what was calm earned more: known before any network, so it stands beside every correlation
    across assets), and of the forecast beyond it: what its ranks hold that those of the volatility do not. Empty with fewer assets
    than `FEWEST_ASSETS`.

    Examples
    --------
    >>> import numpy as np
    >>> came = np.random.default_rng(0).normal(size=(300, 8))
    >>> cross_section(came, np.exp(-came), came, 1)["beyond"]["rank_ic"] is None  # says nothing that low volatility does not
    True
    """
    known = np.isfinite(forecast) & np.isfinite(volatility) & np.isfinite(came)
    known &= (known.sum(1) >= FEWEST_ASSETS)[:, None]
    if forecast.shape[1] < FEWEST_ASSETS or known.any(1).sum() < FEWEST:
        return {}
    mine, calm, moved = (_ranks_across(values, known) for values in (forecast, -volatility, came))
    overlap = agreement(mine, calm)[:, None]
    rest = _scaled_across(mine - overlap * calm, known)
    told = {}
    for name, ranks in (("forecast", mine), ("low_volatility", calm), ("beyond", rest)):
        told[name] = _told(agreement(ranks, moved), horizon)
    return told


def _ranks_across(values: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    """Ranks among the known assets of each bar, mean 0 and spread 1."""
    return _scaled_across(rankdata(np.where(known, values, np.nan), axis=1, nan_policy="omit"), known)


def _scaled_across(values: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    count = np.maximum(known.sum(1, keepdims=True), 1)
    rest = np.where(known, values, 0.0)
    rest = np.where(known, rest - rest.sum(1, keepdims=True) / count, 0.0)
    spread = np.sqrt((rest**2).sum(1, keepdims=True) / count)
    result: FloatArray = np.where(known & (spread > 1e-9), rest / np.maximum(spread, 1e-9), np.nan)
    return result


def lead_lag(
    panel: Panel, ranked: FloatArray, groups: FloatArray, volatility: FloatArray, start: int
) -> list[dict[str, Any]]:
    """Correlation of the forecast at the close of bar t with the return of single bars: lag 0 is bar t itself, which is over, lag 1 the
    first that anybody can earn. ranked: as of `standardised`."""
    single = scaled_return(panel, 1, volatility).T  # [t]: from the open of t+1 to that of t+2, which is lag 1
    found = []
    for lag in LAGS:
        bars = np.arange(start, start + len(ranked)) + lag - 1
        inside = (bars >= 0) & (bars < len(single))
        moved = np.where(inside[:, None], single[np.clip(bars, 0, len(single) - 1)], np.nan)
        values = agreement(ranked, standardised(moved, groups, False))
        mean, error = newey_west(values, lags_of(int(np.isfinite(values).sum()), 1))
        found.append({"lag": lag, "ic": _number(mean), "error": _number(error)})
    return found


def leak_of(curve: Sequence[Mapping[str, Any]]) -> int | None:
    """The lag at which a forecast knows what no trader can, or None.

    Skill fades over the bars that it forecasts, or is small. What reads a bar of the future agrees with that one bar far more than
    with those around it.
    """
    later = [point for point in curve if point["lag"] >= 1 and point["ic"] is not None and point["error"] is not None]
    if len(later) < 3:
        return None
    usual = float(np.median([point["ic"] for point in later]))
    first = max(later, key=lambda point: abs(point["ic"] - usual))
    return int(first["lag"]) if abs(first["ic"] - usual) > LEAP + SURE * first["error"] else None


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
