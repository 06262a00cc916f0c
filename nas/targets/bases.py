"""Closed forms by name, fitted per asset: the strong base under every network, and rivals by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import InputError, nearest
from data.panel import FloatArray, Panel
from nas.targets.closed_form import ROWS_PER_COLUMN, ClosedForm, fit, known_rows, scaled_by_constant
from nas.targets.columns import COLUMNS, Columns
from nas.targets.target import Target

BASES = {
    "ewma": "exponentially weighted squared returns (span 48) times a constant",
    "last": "regression on the last horizon",
    "seasonal": "regression on the last horizon and the same bars of the last seven days",
    "har": "HAR (Corsi 2009): day, week, month",
    "harx": "HARX: HAR with ranges, falls, clock and activity",
    "harxl": "HARXL: HARX with single recent bars and the same hours of the last seven days",
}
REFIT_DAYS = 60


def base_columns(name: str, panel: Panel, target: Target, horizon: int) -> Columns:
    """What a base reads. InputError for an unknown base or data without the fields it needs."""
    if name not in BASES:
        raise InputError(f"no base {name!r}{nearest(name, BASES)}; there are {', '.join(BASES)}")
    for field in target.needs:
        if not panel.has(field) or not np.isfinite(panel.field(field)).any():
            raise InputError(f"target {target.name} needs the field {field!r}, which this data lacks")
    if name == "ewma":
        return Columns(("naive",), target.naive(panel, horizon)[:, None], 4 * 48)
    return COLUMNS[name](panel, target, horizon)


@dataclass(frozen=True, eq=False)
class FittedBase:
    """A base with the numbers of every asset, in the panel's order."""

    name: str
    forms: tuple[ClosedForm, ...]

    def forecast(self, columns: Columns) -> FloatArray:
        """[A, T]: known at bar t, NaN where a column is not."""
        return np.stack([form.forecast(x) for form, x in zip(self.forms, columns.values, strict=True)])

    @property
    def residual(self) -> FloatArray:
        """[A]: standard deviation of what the fit left."""
        return np.array([form.residual for form in self.forms])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "forms": [form.to_dict() for form in self.forms]}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> FittedBase:
        """What `to_dict` made. KeyError where a key is missing."""
        return FittedBase(str(raw["name"]), tuple(map(ClosedForm.from_dict, raw["forms"])))


def fit_base(name: str, columns: Columns, label: FloatArray, bars: slice | Sequence[slice]) -> FittedBase:
    """A base fitted on `bars` of every asset; the caller ends them before the purge. label: [A, T]."""
    rule = scaled_by_constant if name == "ewma" else fit
    return FittedBase(name, tuple(rule(x, y, bars) for x, y in zip(columns.values, label, strict=True)))


def refitted(
    name: str, columns: Columns, label: FloatArray, reach: int, refits: Sequence[int], longest: int | None = None
) -> FloatArray:
    """Causal forecasts [A, T]: from bar refits[k] on by a fit on all bars whose labels are known by then; NaN before the first.

    reach: bars after t that the label of t reads. longest: at most so many bars back (None: from the beginning).
    """
    out = np.full(label.shape, np.nan)
    edges = [*refits, label.shape[1]]
    for k, begin in enumerate(refits):
        known = slice(0 if longest is None else max(0, begin - longest), max(0, begin - reach))
        try:
            fitted = fit_base(name, columns, label, known)
        except InputError:
            continue  # too early in some asset: it has no forecast yet
        part = slice(begin, edges[k + 1])
        out[:, part] = fitted.forecast(Columns(columns.names, columns.values[:, :, part], columns.memory))
    return out


def base_that_fits(panel: Panel, target: Target, horizon: int, bars: slice) -> str:
    """The strongest closed form that `bars` are enough for in every asset: the target's own, else ever simpler ones."""
    label = target.label(panel, horizon)
    for name in (*target.bases, "seasonal", "last"):
        columns = base_columns(name, panel, target, horizon)
        known = min(len(known_rows(x, y, (bars,))) for x, y in zip(columns.values, label, strict=True))
        if known >= ROWS_PER_COLUMN * len(columns.names):
            return name
    return "ewma"


def bias(label: FloatArray, forecast: FloatArray, power: float) -> float:
    """Factor on the natural scale that makes forecasts right on average; the one that QLIKE asks for. 1 where power is 0."""
    known = np.isfinite(label) & np.isfinite(forecast)
    if power == 0.0 or not known.any():
        return 1.0
    return float(np.mean(np.exp(power * (label[known] - forecast[known]))))
