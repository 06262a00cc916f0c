"""The market history every other room reads: timestamps x assets x fields, validated once, immutable."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from data.errors import InputError as InputError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
TimeArray = npt.NDArray[np.datetime64]

CANDLE_FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, eq=False)
class Settlements:
    """Funding settlements of one asset: `rates[i]` is paid by longs to shorts at `timestamps[i]`.

    Parameters
    ----------
    timestamps : datetime64 [n]
        When each was settled, UTC, strictly increasing.
    rates : float [n]
        Fraction of notional; negative where shorts pay.

    Raises
    ------
    ValueError
        For times that do not increase, or another number of rates than of times.

    Examples
    --------
    >>> import numpy as np
    >>> from data import Settlements
    >>> funding = Settlements(np.array(["2024-01-01T08", "2024-01-01T16"], "datetime64[ns]"), np.array([0.0001, -0.0002]))
    >>> bool(funding.rates.sum() < 0)  # shorts paid more than longs
    True
    """

    timestamps: TimeArray
    rates: FloatArray

    def __post_init__(self) -> None:
        if self.timestamps.shape != self.rates.shape:
            raise ValueError(f"{len(self.timestamps)} settlement times but {len(self.rates)} rates")
        if np.any(np.diff(self.timestamps.astype("datetime64[ns]").astype(np.int64)) <= 0):
            raise ValueError("settlement times must increase strictly")
        object.__setattr__(self, "timestamps", _frozen(self.timestamps.astype("datetime64[ns]")))
        object.__setattr__(self, "rates", _frozen(self.rates.astype(np.float64)))


@dataclass(frozen=True, eq=False)
class Panel:
    """Candles (and further fields) of several assets on one regular time grid; checked once, immutable.

    Parameters
    ----------
    timestamps : datetime64[ns] [T]
        Candle OPEN times, UTC, spaced by `interval_ns`; where the market `rests` (nights, weekends, holidays) there are no bars, and
        the next one follows the last one after a multiple of it.
    assets, fields : tuple of str
        Names along the second and third axis of `values`; the first fields are open, high, low, close and volume.
    values : float64 [T, A, F]
        Read-only; NaN where an asset is not listed yet or a field is not known. Value t of every field is known at the bar's close
        (`timestamps[t] + interval_ns`), never later.
    interval_ns : int
        Length of a bar in nanoseconds.
    source : str
        Where it comes from, as pages tell it.
    simulated : bool
        Whether the prices are invented.
    settlements : mapping of asset to Settlements
        The true settlement times and rates (for cash flows; empty where unknown). The field `funding_rate`, where present, is the last
        rate settled strictly before the bar's close (for features).
    regimes : int [T], optional
        True regime per bar where the market is simulated; `regime_names` says what they are.
    notes : tuple of str
        What a person should know about the data.
    instruments : mapping
        Per asset what the exchange lets an order be (lot, tick, minimum_notional), where the source says it. Today's rules, not history:
        a run takes them into its settings, so they are no part of the fingerprint.
    rests : bool
        Whether the market has times without bars that are no gaps.

    Raises
    ------
    ValueError
        For shapes that do not fit, names given twice, and bars that are not `interval_ns` apart.

    Examples
    --------
    >>> from data import load_panel
    >>> panel = load_panel(["BTCUSDT", "ETHUSDT"], source="simulated", start="2024-01-01", end="2024-01-08")
    >>> len(panel), panel.assets, panel.fields[:5]
    (168, ('BTCUSDT', 'ETHUSDT'), ('open', 'high', 'low', 'close', 'volume'))
    >>> panel.field("close").shape, panel.column("close", "ETHUSDT").shape
    ((168, 2), (168,))
    >>> str(panel.close_times[0])
    '2024-01-01T01:00:00.000000000'
    """

    timestamps: TimeArray
    assets: tuple[str, ...]
    fields: tuple[str, ...]
    values: FloatArray
    interval_ns: int
    source: str
    simulated: bool = False
    settlements: Mapping[str, Settlements] = field(default_factory=dict)
    regimes: npt.NDArray[np.int64] | None = None
    regime_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    instruments: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rests: bool = False

    def __post_init__(self) -> None:
        stamps = self.timestamps.astype("datetime64[ns]")
        if self.values.shape != (len(stamps), len(self.assets), len(self.fields)):
            raise ValueError(
                f"values have shape {self.values.shape}, expected (bars, assets, fields) = "
                f"{(len(stamps), len(self.assets), len(self.fields))}"
            )
        if len(set(self.assets)) != len(self.assets) or len(set(self.fields)) != len(self.fields):
            raise ValueError("assets and fields must be unique")
        steps = np.diff(stamps.astype(np.int64))
        odd = (
            (np.mod(steps, np.int64(self.interval_ns)) != 0) | (steps <= 0) if self.rests else steps != self.interval_ns
        )
        if np.any(odd):
            at = int(np.argmax(odd))
            raise ValueError(f"bars must be {self.interval_ns} ns apart; after {stamps[at]} the step is {steps[at]} ns")
        object.__setattr__(self, "timestamps", _frozen(stamps))
        object.__setattr__(self, "values", _frozen(np.asarray(self.values, dtype=np.float64)))
        object.__setattr__(self, "settlements", MappingProxyType(dict(self.settlements)))
        if self.regimes is not None:
            object.__setattr__(self, "regimes", _frozen(self.regimes.astype(np.int64)))

    def __reduce__(self) -> tuple[type[Panel], tuple[object, ...]]:
        """Pickled through the constructor (worker processes): the read-only mapping cannot travel by itself."""
        values = {**self.__dict__, "settlements": dict(self.settlements)}
        return Panel, tuple(values[f.name] for f in fields(self))

    def __len__(self) -> int:
        return len(self.timestamps)

    def has(self, name: str) -> bool:
        """Whether the panel has a field of this name."""
        return name in self.fields

    def field(self, name: str) -> FloatArray:
        """One field of all assets: [T, A]. KeyError names what there is."""
        if name not in self.fields:
            raise KeyError(f"no field {name!r}; this panel has {', '.join(self.fields)}")
        out: FloatArray = self.values[:, :, self.fields.index(name)]
        return out

    def column(self, name: str, asset: str) -> FloatArray:
        """One field of one asset: [T]."""
        return self.field(name)[:, self.assets.index(asset)]

    @functools.cached_property
    def traded(self) -> BoolArray:
        """[T, A]: whether a bar can be traded. False where an asset has none, and where the market stood still: filled gaps and
        halts, that is no volume and every price the close before. Reads bars up to its own.
        """
        opens, highs, lows, closes, volumes = (self.field(name) for name in CANDLE_FIELDS)
        before = np.vstack([opens[:1], closes[:-1]])
        before = np.where(np.isnan(before), opens, before)  # a first bar has only itself
        still = (volumes == 0.0) & (highs == lows) & (opens == closes) & (closes == before)
        out: BoolArray = np.isfinite(opens) & np.isfinite(closes) & ~still
        return out

    def tradable(self, start: int, stop: int) -> FloatArray:
        """[n, A, 5]: CANDLE_FIELDS of bars start..stop as an account sees them: NaN in bars that cannot be traded; of `closes_only` the
        close is every price.
        """
        places = [self.fields.index(name) for name in CANDLE_FIELDS]
        candles = self.values[start:stop][:, :, places]
        if self.closes_only:
            candles[..., 1:3] = candles[..., 3:4]
        return np.where(self.traded[start:stop, :, None], candles, np.nan)

    @functools.cached_property
    def closes_only(self) -> bool:
        """Whether only closes are known: no high is, and an open repeats the close at which an order of the bar before fills."""
        return self.has("high") and not bool(np.isfinite(self.field("high")).any())

    @functools.cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """[A]: the bar after which an asset has no more, where it ends before the others do (a delisting); else the panel's length."""
        known = np.isfinite(self.field("close"))
        last = len(self) - 1 - known[::-1].argmax(0)
        return np.where(known.any(0) & (last < len(self) - 1), last, len(self)).astype(np.int64)

    @property
    def close_times(self) -> TimeArray:
        """[T]: when each bar is complete and its values known."""
        return self.timestamps + np.timedelta64(self.interval_ns, "ns")

    @property
    def bars_per_year(self) -> float:
        """Bars of a year of 365 days; of a market that rests, by its own count."""
        if not self.rests:
            return 365.0 * 86_400e9 / self.interval_ns
        span = float((self.timestamps[-1] - self.timestamps[0]) / np.timedelta64(1, "ns")) + self.interval_ns
        return len(self) * 365.0 * 86_400e9 / span

    @property
    def days_per_year(self) -> float:
        """Days of a year on which there are bars: 365, or the market's own count where it rests (about 252 or 261)."""
        if not self.rests:
            return 365.0
        days = self.timestamps.astype("datetime64[D]")
        return len(np.unique(days)) * 365.0 / (float((days[-1] - days[0]) / np.timedelta64(1, "D")) + 1.0)

    def cut(self, start: int, stop: int) -> Panel:
        """Bars start..stop (half-open) as a panel of their own; settlements after its last close are dropped."""
        end = self.timestamps[stop - 1] + np.timedelta64(self.interval_ns, "ns")
        kept = {}
        for asset, s in self.settlements.items():
            mask = s.timestamps < end
            kept[asset] = Settlements(s.timestamps[mask], s.rates[mask])
        return Panel(
            self.timestamps[start:stop], self.assets, self.fields, self.values[start:stop], self.interval_ns, self.source,
            self.simulated, kept, None if self.regimes is None else self.regimes[start:stop], self.regime_names, self.notes,
            self.instruments, self.rests,
        )  # fmt: skip

    def fingerprint(self) -> str:
        """SHA-256 of everything that can change a result; equal panels give equal text."""
        digest = hashlib.sha256()
        for text in (*self.assets, *self.fields, str(self.interval_ns), str(self.simulated)):
            digest.update(text.encode() + b"\0")
        digest.update(self.timestamps.tobytes())
        digest.update(np.ascontiguousarray(self.values).tobytes())
        for asset in sorted(self.settlements):
            digest.update(asset.encode() + self.settlements[asset].timestamps.tobytes())
            digest.update(self.settlements[asset].rates.tobytes())
        return digest.hexdigest()


def _frozen(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    out = np.array(array)
    out.setflags(write=False)
    return out
