"""How volatile the next bars are: what labels and positions are scaled by. EWMA, or HARX refitted causally.

`--volatility harx` forecasts the mean variance of the next 24 hours by HARX, refitted every 60 days of the calendar on all bars whose
labels are known by then. While there is little history the EWMA keeps a share, in logs, of what is forecast: a share of
`EWMA_SHARE` at 150 days that falls with the root of the history (docs/decisions/090).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import InputError, nearest
from data.panel import FloatArray, Panel
from nas import kernels
from nas.features.bank import causal_volatility
from nas.targets.bases import REFIT_DAYS, FittedBase, base_columns, bias, fit_base
from nas.targets.columns import DAY_NS, Columns
from nas.targets.realised_volatility import VOLATILITY
from nas.targets.series import bars_of_hours

SCALES = ("ewma", "harx")
HORIZON_H = 24
LEAST_DAYS = 150  # of bars with every column known before the first fit, 180 of history; until then the EWMA alone
EWMA_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class Fit:
    """What holds from `since_ns` on. harx, ewma: fitted forms per asset; share: of the EWMA; factor: [A], of the variance."""

    since_ns: int
    harx: FittedBase
    ewma: FittedBase
    share: float
    factor: FloatArray

    def log_volatility(self, harx: Columns, ewma: Columns) -> FloatArray:
        """[A, T], right on average over what was fitted."""
        mixed = (1.0 - self.share) * self.harx.forecast(harx) + self.share * self.ewma.forecast(ewma)
        out: FloatArray = mixed + 0.5 * np.log(self.factor)[:, None]
        return out


@dataclass(frozen=True, eq=False)
class Scale:
    """A volatility per bar that is known at the bar, and can be told again elsewhere from the same numbers. No fits: EWMA."""

    kind: str = "ewma"
    fits: tuple[Fit, ...] = ()

    @staticmethod
    def fit(panel: Panel, kind: str) -> Scale:
        """kind: ewma or harx. InputError for any other."""
        if kind not in SCALES:
            raise InputError(f"no volatility {kind!r}{nearest(kind, SCALES)}; there are {', '.join(SCALES)}")
        if kind == "ewma":
            return Scale()
        horizon = bars_of_hours(HORIZON_H, panel.interval_ns)
        label = VOLATILITY.label(panel, horizon)
        harx, ewma = (base_columns(name, panel, VOLATILITY, horizon) for name in ("harx", "ewma"))
        close = panel.close_times.astype("datetime64[ns]").astype(np.int64)
        period = REFIT_DAYS * DAY_NS
        fits = []
        for mark in range(-(-int(close[0]) // period) * period, int(close[-1]) + 1, period):
            bar = int(np.searchsorted(close, mark))  # the first bar whose close is not before the mark
            known = slice(0, max(0, bar + 1 - horizon))
            listed = np.isfinite(harx.values[:, :, known]).all(1).sum(1).min() if known.stop else 0
            days = float(listed) * panel.interval_ns / DAY_NS
            if days < LEAST_DAYS:
                continue
            one, other = fit_base("harx", harx, label, known), fit_base("ewma", ewma, label, known)
            fit = Fit(mark, one, other, EWMA_SHARE * math.sqrt(LEAST_DAYS / days), np.ones(len(panel.assets)))
            told = fit.log_volatility(_part(harx, known), _part(ewma, known))
            factor = np.array([bias(a, b, 2.0) for a, b in zip(label[:, known], told, strict=True)])
            fits.append(Fit(mark, one, other, fit.share, factor))
        return Scale(kind, tuple(fits))

    def volatility(self, panel: Panel) -> FloatArray:
        """[T, A] per bar, of log returns; NaN in the first bars of an asset."""
        out = causal_volatility(panel)
        if not self.fits:
            return out
        horizon = bars_of_hours(HORIZON_H, panel.interval_ns)
        harx, ewma = (base_columns(name, panel, VOLATILITY, horizon) for name in ("harx", "ewma"))
        close = panel.close_times.astype("datetime64[ns]").astype(np.int64)
        edges = [int(np.searchsorted(close, fit.since_ns)) for fit in self.fits] + [len(panel)]
        out = out.copy()
        for fit, begin, end in zip(self.fits, edges[:-1], edges[1:], strict=True):
            if begin < end:
                part = slice(begin, end)
                told = np.exp(fit.log_volatility(_part(harx, part), _part(ewma, part))).T
                out[part] = np.where(np.isfinite(told), told, out[part])
        return out

    def of_assets(self, places: Sequence[int]) -> Scale:
        """For some assets of the panel it was fitted on, in this order."""

        def of(base: FittedBase) -> FittedBase:
            return FittedBase(base.name, tuple(base.forms[k] for k in places))

        fits = (Fit(f.since_ns, of(f.harx), of(f.ewma), f.share, f.factor[list(places)]) for f in self.fits)
        return Scale(self.kind, tuple(fits))

    def from_bar(self, panel: Panel, bar: int) -> Scale:
        """The same from `bar` on: what was refitted long before is left out."""
        close = panel.close_times.astype("datetime64[ns]").astype(np.int64)
        earlier = [fit for fit in self.fits if fit.since_ns <= close[bar]]
        return Scale(self.kind, (*earlier[-1:], *(fit for fit in self.fits if fit.since_ns > close[bar])))

    @property
    def memory_hours(self) -> float:
        """History that a value reads."""
        return 722.0 if self.kind == "harx" else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": self.kind,
            "fits": [
                {"since_ns": f.since_ns, "harx": f.harx.to_dict(), "ewma": f.ewma.to_dict(), "share": f.share,
                 "factor": f.factor.tolist()}
                for f in self.fits
            ],
        }  # fmt: skip

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Scale:
        """What `to_dict` made. KeyError where a key is missing."""
        fits = tuple(
            Fit(int(f["since_ns"]), FittedBase.from_dict(f["harx"]), FittedBase.from_dict(f["ewma"]), float(f["share"]),
                np.array(f["factor"], dtype=np.float64))
            for f in raw["fits"]
        )  # fmt: skip
        return Scale(str(raw["kind"]), fits)


def _part(columns: Columns, bars: slice) -> Columns:
    return Columns(columns.names, columns.values[:, :, bars], columns.memory)


def sizing_bars(horizon: int, panel: Panel) -> int:
    """Bars whose forecasts are averaged for a position: a day where they look less far ahead, for nobody trades the clock."""
    day = bars_of_hours(24, panel.interval_ns)
    return day if horizon < day else 1


def volatility_of(forecast: FloatArray, factor: FloatArray, horizon: int, panel: Panel) -> FloatArray:
    """[A, T]: volatility of returns per bar that a position is sized by, from log volatility forecasts [A, T]."""
    mean = kernels.rolling_mean(np.ascontiguousarray(np.exp(2.0 * forecast)), sizing_bars(horizon, panel), 1)
    found: FloatArray = np.sqrt(mean * factor[:, None])
    return found
