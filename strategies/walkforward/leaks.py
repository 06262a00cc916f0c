"""The leak court: what can be known of forecasts from outside. Each test says what it looked at, what it found, and when it convicts.

None sees a model; all see forecasts and candles, over all bars that both have. A clean file is convicted by mistake about once in forty
(`python -m lab court` measures it, with planted leaks). What cannot be seen so is said on docs/judge.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.intervals import DAY_NS, HOUR_NS
from data.panel import FloatArray, Panel

LAGS = range(-5, 11)  # bars from the forecast's own; lag 1 is the first whose return it can be about
FAR = 100  # circular shifts by more bars than this know nothing: the null of the shift test
PAST = 24  # returns that the honest yardstick reads
SURE = 4.5  # standard errors; some thirty lags and blocks are looked at
LEAP = 0.05  # correlation with one bar of the future beyond its neighbours'
MUCH = 0.12  # correlation with the horizon's return beyond what the yardstick reaches twice over
EXACT = 3e-4  # how near mean and deviation of a whole file come to 0 and 1 only by being made so
FEW = 500
BLOCKS_NS = tuple(hours * HOUR_NS for hours in (2, 3, 4, 6, 8, 12, 24, 168))


@dataclass(frozen=True)
class Charge:
    """One test. found: in a sentence. guilty: whether it convicts."""

    name: str
    looked: str
    found: str
    guilty: bool


def court(panel: Panel, forecast: FloatArray, horizon: int) -> list[Charge]:
    """Every test of one model. forecast: [T, A] as given, on the panel's bars."""
    if np.isfinite(forecast).sum() < FEW:
        return []
    returns = _returns(panel)
    told, yard = _standard(forecast), _standard(yardstick(returns))
    return [
        _shifts(told, yard, returns),
        _too_good(told, yard, returns, horizon),
        _calendar(panel, told, returns),
        _scaled(forecast),
        _jumps(panel, told, yard, returns),
    ]


def _returns(panel: Panel) -> FloatArray:
    """[T, A] log return of bar t, close to close, over its volatility of the past; clipped, 0 where unknown."""
    close = np.log(panel.field("close"))
    change = np.diff(close, axis=0, prepend=np.nan)
    squares = np.where(np.isfinite(change), change**2, 0.0)
    span, average = 2.0 / 97.0, np.zeros_like(squares)
    level = np.maximum(squares[:200].mean(0), 1e-12)
    for t in range(len(squares)):  # a bar's own square is not in its scale
        average[t] = level
        level = level + span * (squares[t] - level)
    scaled = np.clip(change / np.sqrt(np.maximum(average, 1e-12)), -5.0, 5.0)
    return np.where(np.isfinite(scaled), scaled, 0.0)


def _standard(values: FloatArray) -> FloatArray:
    """[T, A] ranks as normal scores, asset by asset; 0 where unknown: a single wild value decides nothing."""
    from scipy.special import ndtri  # start-up time

    out = np.zeros_like(values, dtype=np.float64)
    for a in range(values.shape[1]):
        known = np.isfinite(values[:, a])
        _, place, count = np.unique(values[known, a], return_inverse=True, return_counts=True)
        rank = np.cumsum(count) - (count - 1) / 2.0
        scores = ndtri((rank[place] - 0.5) / max(1, known.sum()))
        spread = float(scores.std()) if known.any() else 0.0
        out[known, a] = scores / spread if spread > 1e-9 else 0.0
    return out


def yardstick(returns: FloatArray) -> FloatArray:
    """[T, A] what an honest forecast of the next bar reaches: ridge regression on the last returns, fitted on the first half, and on
    the second for the first (no rule of trading: a yardstick)."""
    out = np.full_like(returns, np.nan)
    for a in range(returns.shape[1]):
        own = returns[:, a]
        x = np.stack([np.roll(own, k) for k in range(PAST)], 1)[PAST:-1]
        y = own[PAST + 1 :]
        half = len(y) // 2
        for fit, say in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
            gram = x[fit].T @ x[fit]
            weights = np.linalg.solve(gram + 0.02 * np.trace(gram) / PAST * np.eye(PAST), x[fit].T @ y[fit])
            out[PAST:-1, a][say] = x[say] @ weights
    return out


def correlations(told: FloatArray, returns: FloatArray) -> FloatArray:
    """[T] correlation of the forecast at t with the return of bar t + s, for every circular shift s, mean over assets."""
    size = len(told)
    spectrum = np.conj(np.fft.rfft(told, axis=0)) * np.fft.rfft(returns, axis=0)
    sums = np.fft.irfft(spectrum, n=size, axis=0)
    scale = np.sqrt((told**2).sum(0) * (returns**2).sum(0))
    found: FloatArray = (sums / np.where(scale > 0, scale, np.inf)).mean(1)
    return found


def null_error(curve: FloatArray) -> float:
    """Standard deviation of correlations at shifts that nobody can know: between FAR and T - FAR."""
    return float(curve[FAR:-FAR].std()) if len(curve) > 4 * FAR else float("inf")


def _shifts(told: FloatArray, yard: FloatArray, returns: FloatArray) -> Charge:
    curve = correlations(told, returns)
    error = null_error(curve)
    ahead = curve[1 : LAGS.stop]
    usual = float(np.median(ahead))
    honest = float(np.abs(correlations(yard, returns)[1 : LAGS.stop]).max())
    lag = int(np.argmax(np.abs(ahead - usual))) + 1
    leap = float(abs(ahead[lag - 1] - usual))
    guilty = bool(leap > LEAP + 2.0 * honest + SURE * error)
    found = (
        f"it agrees with bar +{lag} by {curve[lag]:+.3f}, with the other bars ahead by {usual:+.3f} (one standard error of the null "
        f"{error:.3f}; regression on past returns reaches {honest:.3f})"
    )
    if guilty:
        found += ": it knows that bar"
    return Charge(
        "Knows the next bar", f"shifts -5 to +10 bars against {len(curve) - 2 * FAR:,} shifts far away", found, guilty
    )


def _ahead(returns: FloatArray, horizon: int) -> FloatArray:
    """[T, A] sum of the returns of bars t + 1 ... t + horizon, in standard deviations; 0 at the end."""
    total = np.concatenate([np.zeros((1, returns.shape[1])), np.cumsum(returns, 0)])
    out = np.zeros_like(returns)
    out[:-horizon] = (total[horizon + 1 :] - total[1:-horizon]) / np.sqrt(horizon)
    return out


def _too_good(told: FloatArray, yard: FloatArray, returns: FloatArray, horizon: int) -> Charge:
    """The label included, a model fitted on what it forecasts: more skill than anybody has."""
    best, where, honest, error = 0.0, horizon, 0.0, 0.0
    for bars in sorted({1, horizon, 2 * horizon, 4 * horizon}):
        label = _ahead(returns, bars)
        curve = correlations(told, label)
        if abs(curve[0]) > abs(best):
            best, where = float(curve[0]), bars
            honest, error = float(abs(correlations(yard, label)[0])), null_error(curve)
    guilty = bool(abs(best) > MUCH + 2.0 * honest + SURE * error)
    found = f"correlation {best:+.3f} with the return of {where} bars ahead; regression on past returns reaches {honest:.3f}"
    if guilty:
        found += ": nobody forecasts so well; the label is in it, or the model was fitted on these bars"
    return Charge("Too good", f"horizons up to {4 * horizon} bars", found, guilty)


def _calendar(panel: Panel, told: FloatArray, returns: FloatArray) -> Charge:
    """Longer bars joined by their opening time know the rest of their own bar: agreement with what is left of a block, beyond that with
    what is left of blocks that begin at other hours."""
    worst, words = 0.0, "no longer bar"
    opens = panel.timestamps.astype(np.int64)
    for block_ns in BLOCKS_NS:
        size = block_ns // panel.interval_ns
        if size < 2 or block_ns % panel.interval_ns or len(told) < 20 * size:
            continue
        shift = 3 * DAY_NS if block_ns == 7 * DAY_NS else 0  # weeks begin on Mondays, the epoch on a Thursday
        at = (opens + shift) % block_ns // panel.interval_ns
        left = size - 1 - at  # bars of the block after this one
        total = np.concatenate([np.zeros((1, returns.shape[1])), np.cumsum(returns, 0)])
        end = np.minimum(np.arange(len(told)) + 1 + left, len(told))
        rest = total[end] - total[1:]
        weights = 1.0 - np.arange(1, size) / size  # how often bar t + k lies in the block of t, over all phases
        usual = np.zeros_like(rest)
        for k in range(1, size):
            usual[:-k] += weights[k - 1] * returns[k:]
        gains = (told * (rest - usual)).mean(1)
        sums = np.add.reduceat(gains, np.flatnonzero(np.diff((opens + shift) // block_ns, prepend=-1)))
        error = float(sums.std() / np.sqrt(len(sums)))
        score = float(sums.mean() / error) if error > 0 else 0.0
        if score > worst:
            worst, words = score, f"bars of {size} of these"
    guilty = bool(worst > SURE)
    found = f"the rest of {words} is known beyond that of bars that begin at other times by {worst:.1f} standard errors"
    if guilty:
        found += ": longer bars were joined before they had closed"
    return Charge("Knows the rest of a longer bar", "bars of 2 hours to a week", found, guilty)


def _scaled(forecast: FloatArray) -> Charge:
    """Scaled by figures of the whole file: its mean is 0 and its deviation 1, or its ends are 0 and 1, to more digits than chance has."""
    found, guilty = "mean and spread of the file are no round figures", False
    for values in (*_each(forecast), forecast[np.isfinite(forecast)]):
        if len(values) < FEW or values.std() < 1e-12:
            continue
        middle, spread, low, high = (float(v) for v in (values.mean(), values.std(), values.min(), values.max()))
        inside = len(np.unique(values)) > 100
        if abs(middle) < EXACT and abs(spread - 1.0) < EXACT + 1.0 / len(values):
            found, guilty = (
                f"mean {middle:+.6f} and deviation {spread:.6f} over all bars: standardised with figures of the future",
                True,
            )
        elif (
            inside and (low, high) in {(0.0, 1.0), (-1.0, 1.0)} and 1 == np.sum(values == low) == np.sum(values == high)
        ):
            found, guilty = (
                f"from {low:g} to {high:g}, each once: stretched between the lowest and highest of all time",
                True,
            )
    return Charge("Normalised over all time", "mean, deviation, ends", found, guilty)


def _each(forecast: FloatArray) -> Iterator[FloatArray]:
    for a in range(forecast.shape[1]):
        yield forecast[np.isfinite(forecast[:, a]), a]


def _jumps(panel: Panel, told: FloatArray, yard: FloatArray, returns: FloatArray) -> Charge:
    """Jumps, the first bar after a halt and settlements of funding come to everybody unforeseen."""
    following = np.concatenate([returns[1:], np.zeros((1, returns.shape[1]))])
    known = (told != 0) & (following != 0)
    clock = (panel.timestamps.astype(np.int64) + panel.interval_ns) % DAY_NS
    settling = np.isin(clock, [0, 8 * HOUR_NS, 16 * HOUR_NS])[:, None] & known & (panel.interval_ns <= 4 * HOUR_NS)
    places = {
        "jumps": known & (np.abs(following) >= np.quantile(np.abs(following[known]), 0.99) if known.any() else False),
        "settlements": settling,
    }
    said, guilty = [], False
    for name, chosen in places.items():
        count = int(chosen.sum())
        if count < 30:
            continue
        hits, honest = (float(np.mean((side * following)[chosen] > 0)) for side in (told, np.nan_to_num(yard)))
        usual = float(np.mean((told * following)[known & ~chosen] > 0))
        error = 0.5 / np.sqrt(count)
        bad = hits - max(usual, honest, 0.5) > 0.08 + SURE * error
        guilty = guilty or bool(bad)
        said.append(f"{name}: the right side of {count:,} in {hits:.0%}, of other bars in {usual:.0%}")
    return Charge(
        "Knows jumps and settlements",
        "the 1% largest bars, bars after a settlement",
        "; ".join(said) or "too few",
        guilty,
    )


def convicted(charges: Sequence[Charge]) -> tuple[str, ...]:
    """Names of the tests that convict."""
    return tuple(charge.name for charge in charges if charge.guilty)
