"""Causal kernels in numba: bounded work per value whatever the window, float64 inside, missing values by rule.

Every kernel reads x [C, T] (C independent columns, time contiguous) and returns [C, T]; value t reads bars <= t only, and
is the same bits wherever the arrays end and however many threads run.

Missing values: NaN and infinities count as missing and are left out of a window; a window with fewer than `min_periods`
values (default: the whole window) gives NaN. `nas.kernels.reference` holds the same formulas written plainly.
"""

from nas.kernels.comoments import rolling_beta, rolling_correlation, rolling_skew
from nas.kernels.exponential import ewm_mean, ewm_moments, ewm_std, ewm_zscore, relative_strength
from nas.kernels.extremes import rolling_max, rolling_min
from nas.kernels.moments import rolling_mean, rolling_moments, rolling_std, rolling_sum, rolling_zscore
from nas.kernels.order import rolling_median, rolling_quantile, rolling_rank
from nas.kernels.pointwise import difference, fractional_difference, fractional_weights, log, log_return
from nas.kernels.volatility import garman_klass, parkinson, realised_volatility

__all__ = [
    "difference",
    "ewm_mean",
    "ewm_moments",
    "ewm_std",
    "ewm_zscore",
    "fractional_difference",
    "fractional_weights",
    "garman_klass",
    "log",
    "log_return",
    "parkinson",
    "realised_volatility",
    "relative_strength",
    "rolling_beta",
    "rolling_correlation",
    "rolling_max",
    "rolling_mean",
    "rolling_median",
    "rolling_min",
    "rolling_moments",
    "rolling_quantile",
    "rolling_rank",
    "rolling_skew",
    "rolling_std",
    "rolling_sum",
    "rolling_zscore",
]
