"""Could it be luck? The statistics of the page, through libraries; docs/reports.md explains each with its source.

Sharpe ratios in here are per observation (per day) unless the name says annual. Nothing reads the clock; seeds are fixed.
"""

from __future__ import annotations

import itertools
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
COSTS_RANK = -0.5  # measured where costs decide: -0.6 to -0.8 (issue 28); skill and luck give about 0
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
    """Of one strategy. psr: P(true Sharpe > 0). after_looks: the same, of the best of so many looks at these days (NaN: looks unknown).
    dsr: the same had the trials of the ledger been chosen among on these days, which they were not. min_track_days: days of such
    returns that would make psr 0.95 (infinite where the Sharpe ratio is not positive)."""

    strategy: str
    psr: float
    dsr: float
    dsr_configurations: float
    min_track_days: float
    days: int
    after_looks: float


@dataclass(frozen=True)
class Proof:
    """Whether a strategy named before the run is better than nothing and than its rival, at the looks that its days have had.

    positive: P(true Sharpe > 0). ahead: P(true Sharpe > the rival's). confidence: the smaller one, after the looks: the probability
    that the best of so many looks without skill shows less. detectable: the annual Sharpe ratio that such days show in 80% of cases.
    """

    positive: float
    ahead: float
    looks: int | None
    confidence: float
    detectable: float
    detectable_two_years: float

    @property
    def holds(self) -> bool:
        return self.looks is not None and self.confidence >= CONFIDENCE


@dataclass(frozen=True, eq=False)
class Overfitting:
    """pbo: share of splits where the best configuration in sample fell to the lower half out of sample. loss: share where it lost
    there. activity_rank: Spearman correlation of a configuration's days with a return and its Sharpe ratio; far below zero, costs rank
    the configurations, the same ones in both halves, and a low PBO is no sign of skill."""

    pbo: float
    logits: FloatArray
    configurations: int
    observations: int
    loss: float
    activity_rank: float

    @property
    def telling(self) -> bool:
        """Whether pbo is about choosing: not where costs rank the configurations, nor where the chosen one mostly loses."""
        return not self.activity_rank <= COSTS_RANK and self.loss < 0.5


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


def after_looks(probability: float, looks: int | None) -> float:
    """Probability that the best of so many independent looks without skill shows less (Sidak); of looks alike it is too low, never too
    high. López de Prado and Lewis (2019) correct the false positives of a family of Sharpe ratios so. NaN where looks are not known.

    Examples
    --------
    >>> round(after_looks(0.99, 1), 3), round(after_looks(0.99, 7), 3)
    (0.99, 0.932)
    """
    return math.nan if looks is None else probability ** max(1, looks)


def difference_probability(own: FloatArray, rival: FloatArray) -> float:
    """P(own true Sharpe > the rival's), of paired days [T]: delta method with Newey-West covariance, Ledoit and Wolf (2008), section 3.1.

    Returns that do not move have a Sharpe ratio of 0. NaN where neither moves.
    """
    from scipy.stats import norm  # takes seconds to load

    days = len(own)
    difference, slope, parts = 0.0, [], []
    for sign, values in ((1.0, own), (-1.0, rival)):
        mean, square = float(values.mean()), float(np.mean(values**2))
        variance = square - mean**2
        if variance < MIN_SPREAD**2:
            continue
        difference += sign * mean / math.sqrt(variance)
        slope += [sign * square / variance**1.5, -sign * 0.5 * mean / variance**1.5]
        parts += [values - mean, values**2 - square]
    if not parts or days < 3:
        return math.nan
    influence = np.stack(parts, 1) @ np.array(slope)
    lags = int(4 * (days / 100) ** (2 / 9))
    spectrum = float(influence @ influence) / days
    for lag in range(1, lags + 1):
        spectrum += 2 * (1 - lag / (lags + 1)) * float(influence[lag:] @ influence[:-lag]) / days
    return float(norm.cdf(difference / math.sqrt(max(spectrum, MIN_SPREAD**2) / days)))


def detectable_sharpe(days: int, looks: int, skew: float = 0.0, kurtosis: float = 3.0, power: float = 0.8) -> float:
    """The true Sharpe ratio per day that the test `after_looks(psr) >= 0.95` finds with this power, Lopez de Prado and Lewis (2019).

    Examples
    --------
    >>> round(detectable_sharpe(730, 1) * 365**0.5, 2)
    1.76
    """
    from scipy.stats import norm  # takes seconds to load

    if days < 3:
        return math.nan
    distance = float(norm.ppf(CONFIDENCE ** (1.0 / max(1, looks))) + norm.ppf(power)) / math.sqrt(days - 1)
    found = distance
    for _ in range(50):  # its own standard error grows with it; from 0 skew on this settles within a few rounds
        found = distance * math.sqrt(max(0.1, 1.0 - skew * found + (kurtosis - 1.0) / 4.0 * found**2))
    return found


def proof(own: FloatArray, rival: FloatArray, looks: int | None, days_per_year: float = DAYS_PER_YEAR) -> Proof:
    """own, rival: daily returns [T]. looks: at these days, None where they are not known (then nothing is proven)."""
    of = moments(own)
    positive, ahead = probabilistic_sharpe(of), difference_probability(own, rival)
    shape = (of.skew, of.kurtosis) if math.isfinite(of.skew) else (0.0, 3.0)
    annual = math.sqrt(days_per_year)
    return Proof(
        positive,
        ahead,
        looks,
        after_looks(min(positive, ahead), looks),
        annual * detectable_sharpe(of.observations, looks or 1, *shape),
        annual * detectable_sharpe(2 * int(days_per_year), looks or 1, *shape),
    )


def luck(
    strategy: str, daily: FloatArray, ledger_rows: int, trial_returns: FloatArray, looks: int | None = None
) -> Luck:
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
        after_looks(probabilistic_sharpe(of), looks),
    )


def overfitting(trial_returns: FloatArray, blocks: int = CSCV_BLOCKS) -> Overfitting | None:
    """Probability of backtest overfitting by CSCV (Bailey et al. 2016) of [T, N]: T observations, N configurations.

    Columns that repeat another one say nothing new and are counted once. None below two configurations or two
    observations a block.
    """
    from phacker.cscv import cscv  # takes long to load; wants (observations, configurations)
    from scipy.stats import spearmanr  # takes long to load

    distinct = np.unique(np.asarray(trial_returns, dtype=np.float64), axis=1)
    observations, configurations = distinct.shape
    while blocks > 4 and observations < 4 * blocks:
        blocks -= 2
    if configurations < 2 or observations < 2 * blocks:
        return None
    pbo, logits = cscv(distinct, blocks)
    active, score = (np.abs(distinct) > MIN_SPREAD).sum(0), sharpes(distinct)
    rank = float(spearmanr(active, score).statistic) if np.ptp(active) and np.ptp(score) else math.nan
    loss = _loss_of_the_best(distinct, blocks)
    return Overfitting(float(pbo), np.asarray(logits), configurations, observations, loss, rank)


def _loss_of_the_best(returns: FloatArray, blocks: int) -> float:
    """Share of the splits of CSCV where the best Sharpe ratio in sample lost out of sample: [T, N]."""
    size = len(returns) // blocks
    parts = returns[: size * blocks].reshape(blocks, size, -1)
    total, square = parts.sum(1), (parts**2).sum(1)
    chosen = np.zeros((math.comb(blocks, blocks // 2), blocks))
    for row, inside in enumerate(itertools.combinations(range(blocks), blocks // 2)):
        chosen[row, list(inside)] = 1.0
    mean, power = chosen @ total, chosen @ square
    spread = np.sqrt(np.maximum(power - mean**2 / (size * blocks / 2), MIN_SPREAD**2))
    best = np.argmax(np.where(power > 0.0, mean / spread, 0.0), axis=1)
    outside = (total.sum(0) - mean)[np.arange(len(best)), best]
    return float(np.mean(outside < 0.0))


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
