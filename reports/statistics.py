"""Could it be luck? The statistics of the page, through libraries; docs/reports.md explains each with its source.

Sharpe ratios in here are per observation (per day) unless the name says annual. Nothing reads the clock; seeds are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

DAYS_PER_YEAR = 365.0
CONFIDENCE = 0.95
RESAMPLES = 1000
CONTROLS = 200
CONTROL_BLOCK_DAYS = 5
SEED = 20_240_101
FEWEST_DAYS = 20  # below that no interval and no test is shown
CSCV_BLOCKS = 16
MIN_SPREAD = 1e-12  # a standard deviation below this is rounding


@dataclass(frozen=True)
class Moments:
    """sharpe: mean over sample standard deviation, per observation. kurtosis: 3 for a normal distribution."""

    sharpe: float
    observations: int
    skew: float
    kurtosis: float


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Luck:
    """Of one strategy. psr: P(true Sharpe > 0). dsr: the same after the trials of the ledger. min_track_days: days of such
    returns that would make psr 0.95 (infinite where the Sharpe ratio is not positive)."""

    strategy: str
    psr: float
    dsr: float
    dsr_configurations: float
    min_track_days: float
    days: int


@dataclass(frozen=True, eq=False)
class Overfitting:
    """pbo: share of splits where the best configuration in sample fell to the lower half out of sample."""

    pbo: float
    logits: FloatArray
    configurations: int
    observations: int


@dataclass(frozen=True)
class AgainstBenchmark:
    """p-values of Hansen's SPA (consistent, and its bounds) and the strategies that StepM finds superior at 5%."""

    lower: float
    consistent: float
    upper: float
    superior: tuple[str, ...]
    models: int


@dataclass(frozen=True, eq=False)
class Control:
    """The same statistics on the same returns with the sign of every 5-day block drawn at random.

    sharpe: annual Sharpe of each control. share_above: controls at least as good as the real returns (a p-value).
    dsr_hits: share of controls with deflated Sharpe >= 0.95. pbo: mean over controls of the trials' matrix, NaN without.
    """

    strategy: str
    real: float
    sharpe: FloatArray
    share_above: float
    dsr_hits: float
    pbo: float


def moments(returns: FloatArray) -> Moments:
    """Of a series [T]; NaN ratios where nothing moved."""
    values = np.asarray(returns, dtype=np.float64)
    spread = float(values.std()) if len(values) else 0.0
    if len(values) < 3 or spread < MIN_SPREAD:
        return Moments(math.nan, len(values), math.nan, math.nan)
    standard = (values - values.mean()) / spread
    return Moments(
        float(values.mean() / values.std(ddof=1)), len(values), float(np.mean(standard**3)), float(np.mean(standard**4))
    )


def probabilistic_sharpe(of: Moments, benchmark: float = 0.0) -> float:
    """P(true Sharpe > benchmark), Bailey and López de Prado (2012), from moments instead of returns.

    skfolio's function takes returns only; tests hold both equal.
    """
    from scipy.stats import norm  # takes seconds to load

    adjusted = 1.0 - of.skew * of.sharpe + (of.kurtosis - 1.0) / 4.0 * of.sharpe**2
    if of.observations < 3 or not adjusted > 0.0:
        return math.nan
    return float(norm.cdf((of.sharpe - benchmark) * math.sqrt(of.observations - 1) / math.sqrt(adjusted)))


def deflated_sharpe(of: Moments, trials: float, trial_variance: float) -> float:
    """P(true Sharpe > the best that `trials` skill-less ones would show), Bailey and López de Prado (2014).

    trial_variance: variance of the trials' Sharpe ratios, per observation.
    """
    return probabilistic_sharpe(of, expected_best(trials, trial_variance))


def expected_best(trials: float, trial_variance: float) -> float:
    """SR0: the Sharpe ratio that the best of so many trials without skill is expected to show."""
    from skfolio.measures import expected_max_sharpe_ratio  # takes seconds to load

    return float(expected_max_sharpe_ratio(max(1.0, trials), math.sqrt(max(0.0, trial_variance))))


def minimum_track_record(of: Moments, benchmark: float = 0.0, confidence: float = CONFIDENCE) -> float:
    """Observations until the probabilistic Sharpe ratio reaches the confidence; infinite where it never does.

    Bailey and López de Prado (2012), not rounded; purgedcv's function, rounded up, agrees (tests hold both equal).
    """
    from scipy.stats import norm  # takes seconds to load

    if math.isnan(of.sharpe):
        return math.nan
    if of.sharpe <= benchmark:
        return math.inf
    adjusted = 1.0 - of.skew * of.sharpe + (of.kurtosis - 1.0) / 4.0 * of.sharpe**2
    return 1.0 + adjusted * (float(norm.ppf(confidence)) / (of.sharpe - benchmark)) ** 2 if adjusted > 0 else math.nan


def sharpes(matrix: FloatArray) -> FloatArray:
    """Per observation, of every column of [T, N]; 0 where a column does not move (it earned nothing for no risk)."""
    spread = matrix.std(axis=0, ddof=1) if len(matrix) > 1 else np.zeros(matrix.shape[1])
    still = spread < MIN_SPREAD
    return np.where(still, 0.0, matrix.mean(axis=0) / np.where(still, 1.0, spread))


def luck(strategy: str, daily: FloatArray, ledger_rows: int, trial_returns: FloatArray) -> Luck:
    """daily: [T] of the strategy. ledger_rows: everything tried. trial_returns: [T, N], one column per configuration."""
    of = moments(daily)
    variance = (
        float(np.var(sharpes(trial_returns), ddof=1)) if trial_returns.shape[-1] > 1 and len(trial_returns) else 0.0
    )
    configurations = trial_returns.shape[1] if trial_returns.size else 1
    return Luck(
        strategy,
        probabilistic_sharpe(of),
        deflated_sharpe(of, max(ledger_rows, configurations), variance),
        deflated_sharpe(of, configurations, variance),
        minimum_track_record(of),
        of.observations,
    )


def overfitting(trial_returns: FloatArray, blocks: int = CSCV_BLOCKS) -> Overfitting | None:
    """Probability of backtest overfitting by CSCV (Bailey et al. 2016) of [T, N]: T observations, N configurations.

    Columns that repeat another one say nothing new and are counted once. None below two configurations or two
    observations a block.
    """
    from phacker.cscv import cscv  # wants (observations, configurations)

    distinct = np.unique(np.asarray(trial_returns, dtype=np.float64), axis=1)
    observations, configurations = distinct.shape
    while blocks > 4 and observations < 4 * blocks:
        blocks -= 2
    if configurations < 2 or observations < 2 * blocks:
        return None
    pbo, logits = cscv(distinct, blocks)
    return Overfitting(float(pbo), np.asarray(logits), configurations, observations)


def against_benchmark(daily: pd.DataFrame, benchmark: str) -> AgainstBenchmark | None:
    """SPA (Hansen 2005) and StepM (Romano and Wolf 2005) of all columns against one, by daily returns, after costs."""
    from arch.bootstrap import SPA, StepM  # takes seconds to load

    rivals = [name for name in daily.columns if name != benchmark and float(daily[name].std()) >= MIN_SPREAD]
    if benchmark not in daily.columns or not rivals or len(daily) < FEWEST_DAYS:
        return None
    base, others = -daily[benchmark].to_numpy(), -daily[rivals].to_numpy()
    block = block_days(daily)
    test = SPA(base, others, block_size=block, reps=RESAMPLES, bootstrap="stationary", seed=SEED)
    test.compute()
    step = StepM(base, pd.DataFrame(others, columns=rivals), 1.0 - CONFIDENCE, block, RESAMPLES, seed=SEED)
    try:
        step.compute()
        superior = [str(name) for name in step.superior_models]
    except (
        ValueError
    ):  # arch takes the found ones out and tests the rest again, even where none is left: all are superior
        superior = rivals
    values = test.pvalues
    return AgainstBenchmark(
        float(values["lower"]),
        float(values["consistent"]),
        float(values["upper"]),
        tuple(superior),
        len(rivals),
    )


def block_days(daily: pd.DataFrame) -> int:
    """Mean block of the stationary bootstrap: the median of the columns' optimal lengths (Politis and White 2004), at least 2."""
    from arch.bootstrap import optimal_block_length  # takes seconds to load

    moving = daily.loc[:, daily.std() >= MIN_SPREAD]
    if moving.empty or len(daily) < FEWEST_DAYS:
        return 2
    found = optimal_block_length(moving)["stationary"]
    return int(min(max(2.0, math.ceil(float(np.nanmedian(found)))), len(daily) // 4))


@dataclass(frozen=True, eq=False)
class Resampled:
    """Annual Sharpe ratios and total returns of every strategy on the same resampled days: [draw, strategy]."""

    names: tuple[str, ...]
    sharpe: FloatArray
    total_return: FloatArray
    block: int

    def interval(self, name: str, kind: str = "sharpe") -> Interval:
        values = self.sharpe if kind == "sharpe" else self.total_return
        return _percentiles(values[:, self.names.index(name)])

    def difference(self, name: str, other: str) -> Interval:
        """Of annual Sharpe ratios, paired day by day."""
        return _percentiles(self.sharpe[:, self.names.index(name)] - self.sharpe[:, self.names.index(other)])


def resample(daily: pd.DataFrame, days_per_year: float = DAYS_PER_YEAR) -> Resampled | None:
    """Stationary bootstrap (Politis and Romano 1994) of all strategies at once, so that differences stay paired."""
    from arch.bootstrap import StationaryBootstrap  # takes seconds to load

    if len(daily) < FEWEST_DAYS:
        return None
    block, matrix = block_days(daily), daily.to_numpy(dtype=np.float64)
    draws = [
        np.asarray(data[0][0], dtype=np.float64)
        for data in StationaryBootstrap(block, matrix, seed=SEED).bootstrap(RESAMPLES)
    ]
    annual = math.sqrt(days_per_year)
    return Resampled(
        tuple(map(str, daily.columns)),
        np.stack([sharpes(draw) * annual for draw in draws]),
        np.stack([np.prod(1.0 + draw, axis=0) - 1.0 for draw in draws]),
        block,
    )


def sign_flips(days: int, controls: int, seed: int = SEED) -> Iterator[FloatArray]:
    """Signs [days], one per block of CONTROL_BLOCK_DAYS: returns times these have no drift but keep their clusters."""
    random = np.random.default_rng(seed)
    blocks = -(-days // CONTROL_BLOCK_DAYS)
    for _ in range(controls):
        yield np.repeat(random.choice([-1.0, 1.0], blocks), CONTROL_BLOCK_DAYS)[:days]


def control(
    strategy: str,
    daily: FloatArray,
    ledger_rows: int,
    trial_returns: FloatArray,
    days_per_year: float = DAYS_PER_YEAR,
) -> Control | None:
    """What the same statistics say where there is nothing to find."""
    if len(daily) < FEWEST_DAYS or float(np.std(daily)) < MIN_SPREAD:
        return None
    annual = math.sqrt(days_per_year)
    found, hits, overfit = [], 0, []
    for number, sign in enumerate(sign_flips(len(daily), CONTROLS)):
        noise = daily * sign
        found.append(float(sharpes(noise[:, None])[0]) * annual)
        matrix = trial_returns * sign[:, None] if len(trial_returns) == len(sign) else trial_returns[:0]
        hits += luck(strategy, noise, ledger_rows, matrix).dsr >= CONFIDENCE
        if number < CONTROLS // 10 and (result := overfitting(matrix)) is not None:
            overfit.append(result.pbo)
    real = float(sharpes(daily[:, None])[0]) * annual
    values = np.array(found)
    return Control(
        strategy,
        real,
        values,
        float((1 + np.sum(values >= real)) / (1 + CONTROLS)),
        hits / CONTROLS,
        float(np.mean(overfit)) if overfit else math.nan,
    )


def _percentiles(values: FloatArray) -> Interval:
    low, high = np.quantile(values, [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0])
    return Interval(float(low), float(high))
