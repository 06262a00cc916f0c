"""The bundled market: a seeded, regime-switching world for machines that cannot reach the exchange.

A chain of regimes (trend, mean reversion, volatile) is shared by all symbols. Each symbol has GARCH(1,1) volatility,
Student-t shocks, volume linked to volatility, and funding linked to past returns; the leader's shocks reach the others
at once (correlation) and again some bars later (lead-lag). A symbol's path depends on the recipe, seed, interval and its
own name only, never on which other symbols are asked for, nor on `start` and `end`: those only cut.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

from data.assembly import build_panel
from data.intervals import DAY_NS, MINUTE_NS, interval_ns, parse_interval, say_time
from data.panel import FloatArray, InputError, Panel, Settlements, TimeArray

TREND, REVERSION, VOLATILE = 0, 1, 2
REGIME_NAMES = ("trend", "mean reversion", "volatile")

#: every simulated history begins here; `start` and `end` cut from it
ORIGIN = np.datetime64("2020-01-01", "ns")
DEFAULT_START = np.datetime64("2024-01-01", "ns")
DEFAULT_END = np.datetime64("2025-01-01", "ns")
#: about 19 years of 2-minute bars; more is a typing mistake
MOST_BARS = 5_000_000

SETTLEMENT_NS = 8 * 60 * MINUTE_NS
#: 1 basis point in 8 hours is the exchange's interest component; rates are capped like Bybit's common 0.75%
BASE_FUNDING, FUNDING_CAP = 1e-4, 0.0075

#: symbol -> (price at the origin, volatility of one hour, units traded in a calm hour)
KNOWN_SYMBOLS: dict[str, tuple[float, float, float]] = {
    "BTCUSDT": (20_000.0, 0.0055, 4_000.0),
    "ETHUSDT": (1_200.0, 0.0070, 50_000.0),
    "SOLUSDT": (30.0, 0.0100, 900_000.0),
    "BNBUSDT": (250.0, 0.0060, 20_000.0),
}
_SYMBOL = re.compile(r"[A-Z0-9]{2,20}USDT")


@dataclass(frozen=True)
class Planted:
    """What moves the next return while one regime lasts: `strength` of the bar's volatility for every standard deviation of an average.

    Parameters
    ----------
    average : int
        Exponential, as of the op `ema12` and its kin, over so many bars, in units of its spread were the series white noise, 3 at most.
    of : str
        `return` (in units of its volatility) or `volume` (its logarithm as `zscore168` has it).
    strength : float
        Negative: against it.

    Raises
    ------
    ValueError
        For an average of one bar, or of another series.

    Examples
    --------
    >>> Planted(12, "return", 0.15).op
    'ema12'
    """

    average: int
    of: str
    strength: float

    def __post_init__(self) -> None:
        if self.average < 2 or self.of not in ("return", "volume"):
            raise ValueError(f"planted: an average of at least 2 bars of the return or the volume, not {self}")

    @property
    def op(self) -> str:
        """Its name among the ops of the search space."""
        return f"ema{self.average}"

    @property
    def words(self) -> str:
        """Where the next return goes."""
        return f"{'with' if self.strength > 0 else 'against'} the {self.op} of the {self.of}"


@dataclass(frozen=True)
class MarketRecipe:
    """What is planted in the simulated market. Strengths are in units of the bar's volatility.

    Parameters
    ----------
    regime_bars : three floats
        Mean length of a regime (trend, mean reversion, volatile), each at least a quarter of it.
    regime_volatility : three floats
        Factor on a symbol's volatility per regime.
    trend_drift : float
        Drift per bar in the trend regime, in one direction per spell.
    reversion_rate : float
        Share of the distance to the spell's anchor that returns per bar in mean reversion.
    lead_lag_bars, lead_lag_strength
        The leader's shock of `lead_lag_bars` ago moves every other symbol.
    contagion_only_volatile : bool
        That lead-lag holds only in the volatile regime.
    correlation : float
        Of simultaneous shocks with the leader's.
    garch_alpha, garch_beta : float
        Persistence of volatility; their sum stays below 1.
    tail_degrees : float
        Degrees of freedom of the Student-t shocks (above 2).
    leader : str
        The symbol that leads.
    planted : tuple of Planted
        In place of trend and reversion: regimes that take turns, each lasts exactly the first of `regime_bars`.
    chatter : float
        Standard deviation of the part of log volume that hangs on nothing else.

    Raises
    ------
    ValueError
        For a recipe that no market can follow.

    Examples
    --------
    >>> from data import MarketRecipe, simulate
    >>> calm = MarketRecipe(regime_volatility=(0.5, 0.5, 0.5), trend_drift=0.0)
    >>> simulate(["BTCUSDT"], "D", recipe=calm).regime_names
    ('trend', 'mean reversion', 'volatile')
    """

    regime_bars: tuple[float, float, float] = (400.0, 400.0, 200.0)
    regime_volatility: tuple[float, float, float] = (0.9, 0.75, 1.7)
    trend_drift: float = 0.06
    reversion_rate: float = 0.03
    lead_lag_bars: int = 3
    lead_lag_strength: float = 0.10
    contagion_only_volatile: bool = False
    correlation: float = 0.6
    garch_alpha: float = 0.08
    garch_beta: float = 0.88
    tail_degrees: float = 5.0
    leader: str = "BTCUSDT"
    planted: tuple[Planted, ...] = ()
    chatter: float = 0.35

    def __post_init__(self) -> None:
        if min(self.regime_bars) < 8 or min(self.regime_volatility) <= 0:
            raise ValueError("regimes must last at least 8 bars and have positive volatility")
        if not 0 <= self.reversion_rate < 1:
            raise ValueError(f"reversion_rate is {self.reversion_rate}, expected 0 <= rate < 1")
        if self.lead_lag_bars < 1:
            raise ValueError(f"lead_lag_bars is {self.lead_lag_bars}: a lead of less than one bar is no lead")
        if not -1 < self.correlation < 1:
            raise ValueError(f"correlation is {self.correlation}, expected between -1 and 1")
        if self.garch_alpha < 0 or self.garch_beta < 0 or self.garch_alpha + self.garch_beta >= 1:
            raise ValueError("garch_alpha + garch_beta must stay below 1, both not negative")
        if self.tail_degrees <= 2:
            raise ValueError(f"tail_degrees is {self.tail_degrees}: variance is finite only above 2")


#: the market of `--source demo`: something to be found, of another kind every 18 months; clusters of volatility and fat tails stay
DEMO = MarketRecipe(
    regime_bars=(13_140.0, 13_140.0, 13_140.0),
    regime_volatility=(1.0, 1.0, 1.0),
    planted=(Planted(12, "return", 0.15), Planted(4, "volume", 0.2)),
    chatter=0.8,
)


def simulate(
    symbols: Sequence[str],
    interval: str = "60",
    *,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    seed: int = 0,
    recipe: MarketRecipe | None = None,
) -> Panel:
    """A simulated panel with true regimes and funding.

    Parameters
    ----------
    symbols : sequence of str
        Any NAMEUSDT in capitals; a symbol's path depends on its own name only, not on which others are asked for.
    interval : str
        As Bybit names it.
    start, end : datetime64, optional
        The span, UTC; all of 2024 unless given. They only cut.
    seed : int
        Another seed, another market.
    recipe : MarketRecipe, optional
        What is planted.

    Raises
    ------
    InputError
        For what cannot be simulated.

    Examples
    --------
    >>> from data import simulate
    >>> panel = simulate(["BTCUSDT", "SOLUSDT"], "D", seed=3)
    >>> panel.simulated, len(panel)
    (True, 366)
    """
    planted = recipe or MarketRecipe()
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol):
            raise InputError(
                f"unknown symbol {symbol!r}; the simulated market has {', '.join(KNOWN_SYMBOLS)} and any NAMEUSDT in capitals"
            )
    name = parse_interval(interval)
    length = interval_ns(name)
    first, last = _span(start, end, length)
    bars = int((last - ORIGIN) // np.timedelta64(length, "ns"))
    if bars > MOST_BARS:
        raise InputError(f"--end {say_time(last)} asks for {bars:,} simulated bars of {name}; choose an earlier --end")

    draws = _Draws(seed, name)
    regimes, directions, fresh = _turns(draws, bars, planted) if planted.planted else _regimes(draws, bars, planted)
    leader_shock = _shocks(draws, planted.leader, bars, planted.tail_degrees)
    opens: TimeArray = ORIGIN + np.arange(bars) * np.timedelta64(length, "ns")
    tables: dict[str, pd.DataFrame] = {}
    settlements: dict[str, Settlements] = {}
    for symbol in symbols:
        tables[symbol] = _candles(symbol, draws, opens, length, regimes, directions, fresh, leader_shock, planted)
        settlements[symbol] = _funding(symbol, draws, tables[symbol], length)
    kept = slice(int((first - ORIGIN + np.timedelta64(length - 1, "ns")) // np.timedelta64(length, "ns")), bars)
    return build_panel(
        tables, length, source="demo" if planted is DEMO else "simulated", start=first, end=last, settlements=settlements, simulated=True,
        regimes=regimes[kept], regime_names=tuple(each.words for each in planted.planted) or REGIME_NAMES,
    )  # fmt: skip


def planted_in(panel: Panel) -> list[dict[str, str | float]]:
    """What is planted in the regimes of a panel of `--source demo`, plain values for JSON; empty for any other."""
    planted = DEMO.planted if panel.source == "demo" else ()
    return [{"regime": p.words, "op": p.op, "input": p.of, "strength": p.strength} for p in planted]


def _span(start: np.datetime64 | None, end: np.datetime64 | None, length: int) -> tuple[np.datetime64, np.datetime64]:
    year = DEFAULT_END - DEFAULT_START
    first = start if start is not None else DEFAULT_START if end is None else max(end - year, ORIGIN)
    last = end if end is not None else DEFAULT_END if first < DEFAULT_END else first + year
    if first < ORIGIN:
        raise InputError(f"--start {say_time(first)} is before the simulated market begins ({say_time(ORIGIN)})")
    if last - first < np.timedelta64(2 * length, "ns"):
        raise InputError(f"--start {say_time(first)} to --end {say_time(last)} leaves fewer than 2 bars")
    return first, last


@dataclass(frozen=True)
class _Draws:
    """One random stream per purpose: n draws are always the first n of more draws."""

    seed: int
    interval: str

    def stream(self, *purpose: str) -> np.random.Generator:
        words = [zlib.crc32(word.encode()) for word in (self.interval, *purpose)]
        return np.random.default_rng(np.random.SeedSequence([abs(self.seed), int(self.seed < 0), *words]))


def _regimes(
    draws: _Draws, bars: int, recipe: MarketRecipe
) -> tuple[npt.NDArray[np.int64], FloatArray, npt.NDArray[np.bool_]]:
    """Per bar: regime, direction of its spell (+1/-1), and whether a spell begins here. All [bars]."""
    chain = draws.stream("regimes")
    regimes = np.empty(bars, dtype=np.int64)
    directions = np.empty(bars)
    fresh = np.zeros(bars, dtype=np.bool_)
    at, regime = 0, int(chain.integers(3))
    while at < bars:
        mean = recipe.regime_bars[regime]
        length = int(mean / 4 + chain.exponential(mean * 3 / 4)) + 1
        regimes[at : at + length] = regime
        directions[at : at + length] = 1.0 if chain.random() < 0.5 else -1.0
        fresh[at] = True
        at += length
        regime = (regime + int(chain.integers(1, 3))) % 3
    return regimes, directions, fresh


def _turns(
    draws: _Draws, bars: int, recipe: MarketRecipe
) -> tuple[npt.NDArray[np.int64], FloatArray, npt.NDArray[np.bool_]]:
    """As `_regimes`, where something is planted: one regime after the other, the seed says which is first."""
    length, count = int(recipe.regime_bars[0]), len(recipe.planted)
    regimes = (np.arange(bars) // length + int(draws.stream("regimes").integers(count))) % count
    return regimes, np.ones(bars), np.arange(bars) % length == 0


def _shocks(draws: _Draws, symbol: str, bars: int, degrees: float) -> FloatArray:
    """[bars] Student-t shocks with unit variance, capped at 8 deviations."""
    normal = draws.stream("normal", symbol).standard_normal(bars)
    chi = draws.stream("tail", symbol).chisquare(degrees, bars)
    return np.clip(normal * np.sqrt((degrees - 2.0) / chi), -8.0, 8.0)


def _candles(
    symbol: str,
    draws: _Draws,
    opens: TimeArray,
    length: int,
    regimes: npt.NDArray[np.int64],
    directions: FloatArray,
    fresh: npt.NDArray[np.bool_],
    leader_shock: FloatArray,
    recipe: MarketRecipe,
) -> pd.DataFrame:
    bars = len(opens)
    price, hourly, units = KNOWN_SYMBOLS.get(symbol) or _unknown_coin(symbol)
    hours = length / (60 * MINUTE_NS)
    base = hourly * np.sqrt(hours)
    if symbol == recipe.leader:
        shock, lead = leader_shock, np.zeros(bars)
    else:
        own = _shocks(draws, symbol, bars, recipe.tail_degrees)
        shock = recipe.correlation * leader_shock + np.sqrt(1 - recipe.correlation**2) * own
        lead = np.zeros(bars)
        lead[recipe.lead_lag_bars :] = (
            recipe.lead_lag_strength
            * leader_shock[: -recipe.lead_lag_bars or None][: max(bars - recipe.lead_lag_bars, 0)]
        )
        if recipe.contagion_only_volatile:
            lead *= regimes == VOLATILE
    hour = (opens - opens[0]).astype(np.int64) % DAY_NS / (60 * MINUTE_NS)
    daily = 1.0 + 0.35 * np.sin((hour - 9.0) / 24.0 * 2 * np.pi)
    chatter = recipe.chatter * draws.stream("volume", symbol).standard_normal(bars)
    rates = np.array([2.0 / (each.average + 1.0) for each in recipe.planted])
    of_volume = np.array([each.of == "volume" for each in recipe.planted], dtype=np.bool_)
    strengths = np.array([each.strength for each in recipe.planted])
    returns, volatility = _walk(
        shock, lead, regimes, directions, fresh, base, np.asarray(recipe.regime_volatility),
        recipe.trend_drift, recipe.reversion_rate, recipe.garch_alpha, recipe.garch_beta,
        np.log(daily) + chatter, rates, of_volume, strengths,
    )  # fmt: skip
    close = price * np.exp(np.cumsum(returns))
    open_ = np.concatenate(([price], close[:-1]))
    wicks = np.abs(draws.stream("wicks", symbol).standard_normal((bars, 2))) * 0.45 * volatility[:, None]
    high = np.maximum(open_, close) * np.exp(wicks[:, 0])
    low = np.minimum(open_, close) * np.exp(-wicks[:, 1])
    surprise = (np.abs(returns) / volatility) ** 0.5
    volume = units * hours * daily * (volatility / base) ** 1.2 * (0.5 + surprise) * np.exp(chatter)
    index = pd.DatetimeIndex(opens, name="timestamp")
    return pd.DataFrame({"open": open_, "high": high, "low": low, "close": close, "volume": volume}, index=index)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _walk(
    shock: FloatArray,
    lead: FloatArray,
    regimes: npt.NDArray[np.int64],
    directions: FloatArray,
    fresh: npt.NDArray[np.bool_],
    base: float,
    regime_volatility: FloatArray,
    drift: float,
    reversion: float,
    alpha: float,
    beta: float,
    own_volume: FloatArray,
    rates: FloatArray,
    of_volume: npt.NDArray[np.bool_],
    strengths: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Log returns and the volatility each was drawn with, [T] both; bar t uses nothing after t.

    h[t] = (1 - alpha - beta) v[t] + alpha r[t-1]^2 + beta h[t-1], v[t] the variance of the bar's regime.
    """
    bars = shock.shape[0]
    returns = np.empty(bars)
    volatility = np.empty(bars)
    variance = (base * regime_volatility[regimes[0]]) ** 2
    anchor = 0.0
    level = 0.0
    previous = 0.0
    averages = np.zeros(len(rates))
    log_volume = np.zeros(bars)
    for t in range(bars):
        target = (base * regime_volatility[regimes[t]]) ** 2
        if t > 0:
            variance = (1.0 - alpha - beta) * target + alpha * previous * previous + beta * variance
        sigma = np.sqrt(variance)
        if fresh[t]:
            anchor = level
        # the planted drift is no surprise: only shock and lead move the variance
        surprise = sigma * (shock[t] + lead[t])
        expected = 0.0
        if len(rates):
            here = regimes[t]
            # an average of white noise of deviation 1 has the deviation sqrt(rate / (2 - rate))
            unit = averages[here] / np.sqrt(rates[here] / (2.0 - rates[here]))
            expected = strengths[here] * min(max(unit, -3.0), 3.0) * sigma
        elif regimes[t] == 0:
            expected = drift * directions[t] * sigma
        elif regimes[t] == 1:
            expected = -reversion * (level - anchor)
        returns[t] = expected + surprise
        volatility[t] = sigma
        previous = surprise
        level += returns[t]
        if len(rates):
            log_volume[t] = (
                own_volume[t] + 1.2 * np.log(sigma / base) + np.log(0.5 + np.sqrt(np.abs(returns[t]) / sigma))
            )
            recent = log_volume[max(0, t - 167) : t + 1]
            busy = (log_volume[t] - recent.mean()) / max(recent.std(), 1e-9)
        for k in range(len(rates)):
            averages[k] += rates[k] * ((busy if of_volume[k] else returns[t] / sigma) - averages[k])
    return returns, volatility


def _funding(symbol: str, draws: _Draws, candles: pd.DataFrame, length: int) -> Settlements:
    """Every 8 hours: the base rate plus a share of the last day's return, from bars closed by the settlement."""
    closes = candles.index.to_numpy().astype("datetime64[ns]") + np.timedelta64(length, "ns")
    times: TimeArray = np.arange(
        ORIGIN + np.timedelta64(SETTLEMENT_NS, "ns"), closes[-1], np.timedelta64(SETTLEMENT_NS, "ns")
    )
    level = np.log(candles["close"].to_numpy())
    now = np.searchsorted(closes, times, side="right") - 1
    past = np.searchsorted(closes, times - np.timedelta64(DAY_NS, "ns"), side="right") - 1
    change = np.where(now >= 0, level[np.maximum(now, 0)] - level[np.maximum(past, 0)], 0.0)
    noise = draws.stream("funding", symbol).standard_normal(len(times))
    rates = np.clip(BASE_FUNDING + 0.006 * change + 4e-5 * noise, -FUNDING_CAP, FUNDING_CAP)
    return Settlements(times, np.round(rates, 8))


def _unknown_coin(symbol: str) -> tuple[float, float, float]:
    """Price, hourly volatility and volume of a coin the table does not hold, from its name."""
    dice = np.random.default_rng(zlib.crc32(symbol.encode()))
    price = float(np.round(10 ** dice.uniform(-1, 3), 4))
    return price, float(dice.uniform(0.007, 0.013)), float(np.round(2e7 / price, 1))
