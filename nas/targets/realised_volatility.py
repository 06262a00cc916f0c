"""Volatility from the squared close-to-close returns of the bars ahead: what a position feels."""

from __future__ import annotations

from nas.targets import series
from nas.targets.range_volatility import naive
from nas.targets.target import Target, target

VOLATILITY = target(
    Target(
        "volatility", "Realised volatility", "volatility from the squared returns of the bars ahead", "log volatility per bar",
        lambda panel, horizon: series.log_future_mean(series.squared_return(panel), horizon, 2.0), lambda horizon: horizon,
        ("high", "low", "close"), naive, "EWMA(48) x constant", series.squared_return, ("harxl", "harx", "har"),
        rivals=("garch", "egarch", "boosting"), power=2.0,
    )
)  # fmt: skip
