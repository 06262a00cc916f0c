"""Rivals by hand that are no networks: every base, GARCH, EGARCH, boosting on HARX's columns. Each refits causally.

A rival is (panel, target, horizon, refits) -> [A, T], in the label's unit, known at bar t, NaN before the first refit. Adding one is one
function with `@rival(name, title)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from data.panel import FloatArray, InputError, Panel
from nas.targets import garch
from nas.targets.bases import BASES, base_columns, refitted
from nas.targets.closed_form import known_rows
from nas.targets.target import Target

Rival = Callable[[Panel, Target, int, Sequence[int]], FloatArray]
RIVALS: dict[str, tuple[str, Rival]] = {}


def rival(name: str, title: str) -> Callable[[Rival], Rival]:
    """Register a rival. ValueError where the name is taken."""

    def add(function: Rival) -> Rival:
        if name in RIVALS:
            raise ValueError(f"rival {name!r} is registered twice")
        RIVALS[name] = (title, function)
        return function

    return add


def _of_base(name: str) -> Rival:
    def forecast(panel: Panel, target: Target, horizon: int, refits: Sequence[int]) -> FloatArray:
        columns = base_columns(name, panel, target, horizon)
        return refitted(name, columns, target.label(panel, horizon), target.reach(horizon), refits)

    return forecast


for _name, _title in BASES.items():
    rival(_name, _title)(_of_base(_name))


@rival("garch", "GARCH(1,1) with Student's t (Bollerslev 1986), fitted on a year of hours at most")
def _garch(panel: Panel, target: Target, horizon: int, refits: Sequence[int]) -> FloatArray:
    return garch.forecast("garch", panel, horizon, target.reach(horizon), refits)


@rival("egarch", "EGARCH(1,1,1) with Student's t (Nelson 1991), fitted on a year of hours at most")
def _egarch(panel: Panel, target: Target, horizon: int, refits: Sequence[int]) -> FloatArray:
    return garch.forecast("egarch", panel, horizon, target.reach(horizon), refits)


@rival("boosting", "histogram gradient boosting on the columns of HARX (scikit-learn)")
def _boosting(panel: Panel, target: Target, horizon: int, refits: Sequence[int]) -> FloatArray:
    from sklearn.ensemble import HistGradientBoostingRegressor  # slow to import, and only needed here
    from threadpoolctl import threadpool_limits

    columns, label = base_columns("harx", panel, target, horizon), target.label(panel, horizon)
    out = np.full(label.shape, np.nan)
    edges = [*refits, label.shape[1]]
    for asset in range(len(label)):
        x, y = columns.values[asset], label[asset]
        for k, begin in enumerate(refits):
            rows = known_rows(x, y, (slice(0, max(0, begin - target.reach(horizon))),))
            if len(rows) < 500:
                continue
            model = HistGradientBoostingRegressor(
                max_iter=150, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=200, l2_regularization=1.0,
                early_stopping=False, random_state=0,
            )  # fmt: skip
            part = slice(begin, edges[k + 1])
            with threadpool_limits(1):  # the same bytes in any process
                model.fit(x[:, rows].T, y[rows])
                found = model.predict(np.nan_to_num(x[:, part]).T)
            out[asset, part] = np.where(np.isfinite(x[:, part]).all(0), found, np.nan)
    return out


def forecast_by(name: str, panel: Panel, target: Target, horizon: int, refits: Sequence[int]) -> FloatArray:
    """Forecasts of a rival by its name. InputError where there is none."""
    if name not in RIVALS:
        raise InputError(f"no rival {name!r}; there are {', '.join(RIVALS)}")
    return RIVALS[name][1](panel, target, horizon, refits)
