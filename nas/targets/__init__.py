"""What is forecast, and what any network must beat at it: targets, closed forms by hand, rivals, scores.

A target is a label with its reach, loss, naive rival, bases and units (`nas.targets.target`); adding one is one file. Example:

    from nas.targets import forecast_by, get_target, skill

    target = get_target("range")
    refits = range(4_320, len(panel), 1_440)
    forecast = forecast_by("harx", panel, target, 6, refits)
    print(skill(target.label(panel, 6), forecast, forecast_by("ewma", panel, target, 6, refits)))
"""

from nas.targets import drawdown, range_volatility, realised_volatility, returns, series, volume
from nas.targets.bases import BASES, FittedBase, base_columns, bias, fit_base, refitted
from nas.targets.closed_form import ClosedForm
from nas.targets.columns import Columns
from nas.targets.rivals import RIVALS, forecast_by, rival
from nas.targets.scale import SCALES, Scale
from nas.targets.scores import conformal_quantiles, correlation, coverage, qlike, r_squared, skill
from nas.targets.target import TARGETS, Target, get_target, target

__all__ = [
    "BASES",
    "ClosedForm",
    "Columns",
    "FittedBase",
    "RIVALS",
    "SCALES",
    "Scale",
    "TARGETS",
    "Target",
    "base_columns",
    "bias",
    "conformal_quantiles",
    "correlation",
    "coverage",
    "drawdown",
    "fit_base",
    "forecast_by",
    "get_target",
    "qlike",
    "r_squared",
    "range_volatility",
    "realised_volatility",
    "refitted",
    "returns",
    "series",
    "rival",
    "skill",
    "target",
    "volume",
]
