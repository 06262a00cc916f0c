"""How good a forecast of a target was: skill, QLIKE, R2, correlations, bands and their coverage; NaN is left out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray


def known(*arrays: FloatArray) -> npt.NDArray[np.bool_]:
    """Where all of them have a value."""
    found: npt.NDArray[np.bool_] = np.logical_and.reduce([np.isfinite(a) for a in arrays])
    return found


def skill(label: FloatArray, forecast: FloatArray, naive: FloatArray) -> float:
    """1 - MSE / MSE of the naive forecast: 0 is no better, 1 perfect. NaN where nothing is known."""
    where = known(label, forecast, naive)
    if not where.any():
        return float("nan")
    return float(1.0 - np.mean((label - forecast)[where] ** 2) / np.mean((label - naive)[where] ** 2))


def qlike(label: FloatArray, forecast: FloatArray, power: float, factor: float | FloatArray = 1.0) -> FloatArray:
    """Per bar: x / f - log(x / f) - 1 on the natural scale (Patton 2011), f times `factor`; 0 is perfect. power 2: of variances."""
    log_ratio = power * (label - forecast) - np.log(factor)
    found: FloatArray = np.exp(log_ratio) - log_ratio - 1.0
    return found


def r_squared(label: FloatArray, forecast: FloatArray) -> float:
    """1 - MSE / variance of the label."""
    where = known(label, forecast)
    return float(1.0 - np.mean((label - forecast)[where] ** 2) / np.var(label[where])) if where.any() else float("nan")


def correlation(label: FloatArray, forecast: FloatArray, ranks: bool = False) -> float:
    """Pearson's, or of ranks (the information coefficient); NaN where either is constant."""
    where = known(label, forecast)
    a, b = label[where], forecast[where]
    if ranks:
        a, b = (np.argsort(np.argsort(v, kind="stable"), kind="stable").astype(np.float64) for v in (a, b))
    if len(a) < 3 or a.std() < 1e-12 or b.std() < 1e-12:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def conformal_quantiles(label: FloatArray, forecast: FloatArray, level: float) -> tuple[float, float]:
    """(low, high) to add to a forecast for a band that holds a share `level` of labels, from bars the forecast had not seen.

    Split conformal prediction (Vovk et al. 2005): exact where errors are exchangeable, measured where they are not. Errors of
    overlapping horizons are not; the page shows the coverage that came out.
    """
    where = known(label, forecast)
    errors = np.sort((label - forecast)[where])
    if not len(errors):
        return float("-inf"), float("inf")
    miss = (1.0 - level) / 2.0
    n = len(errors)
    low = int(np.floor(miss * (n + 1))) - 1
    high = int(np.ceil((1.0 - miss) * (n + 1))) - 1
    return (float(errors[low]) if low >= 0 else float("-inf")), (float(errors[high]) if high < n else float("inf"))


def coverage(label: FloatArray, low: FloatArray, high: FloatArray) -> float:
    """Share of labels inside the band."""
    where = known(label) & ~np.isnan(low) & ~np.isnan(high)
    return float(np.mean((label[where] >= low[where]) & (label[where] <= high[where]))) if where.any() else float("nan")
