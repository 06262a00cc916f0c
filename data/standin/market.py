"""What the stand-in exchange trades: candles of a base step, all coarser intervals, funding, open interest, ratios."""

from __future__ import annotations

import datetime as dt
import functools
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS
INTERVALS: dict[str, int] = {
    **{str(m): m * MINUTE_MS for m in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": DAY_MS,
    "W": 7 * DAY_MS,
    "M": 0,
}
#: weeks begin on Mondays; 1970-01-05 was one
FIRST_MONDAY_MS = 4 * DAY_MS


@dataclass(frozen=True)
class Instrument:
    """What instruments-info says of one symbol. Prices and sizes are decimal strings, as on the wire."""

    symbol: str
    category: str = "linear"
    price: float = 100.0
    tick_size: str = "0.1"
    qty_step: str = "0.001"
    min_order_qty: str = "0.001"
    max_order_qty: str = "1190"
    max_market_qty: str = "500"
    min_notional: str = "5"
    launch_ms: int = 1_577_836_800_000
    status: str = "Trading"
    max_leverage: str = "100"
    #: (from ms, minutes between settlements); the last one that has begun holds
    funding_minutes: tuple[tuple[int, int], ...] = ((0, 480),)

    @functools.cached_property
    def price_digits(self) -> int:
        return len(self.tick_size.partition(".")[2])

    @functools.cached_property
    def tick(self) -> float:
        return float(self.tick_size)

    @functools.cached_property
    def qty_digits(self) -> int:
        return len(self.qty_step.partition(".")[2])

    @property
    def base_coin(self) -> str:
        return self.symbol.removesuffix("USDT").removesuffix("USD")

    @property
    def quote_coin(self) -> str:
        return "USDT"


def fitting(symbol: str, price: float) -> Instrument:
    """Rules for a symbol of that price: a tick of five digits of it, a step worth about a dollar, limits of some million dollars.

    >>> fitting("SHIBUSDT", 8.7e-6).tick_size, fitting("SHIBUSDT", 8.7e-6).qty_step, fitting("XAUUSDT", 2400.0).tick_size
    ('0.0000000001', '100000', '0.1')
    """
    power = math.floor(math.log10(price))
    tick, step = Decimal(10) ** (power - 4), Decimal(10) ** -(power + 1)
    largest, at_market = (int(Decimal(dollars) / Decimal(price) / step) * step for dollars in (20_000_000, 5_000_000))
    return Instrument(
        symbol, price=price, tick_size=f"{tick:f}", qty_step=f"{step:f}", min_order_qty=f"{step:f}", max_order_qty=f"{largest:f}",
        max_market_qty=f"{at_market:f}",
    )  # fmt: skip


def _rules(symbol: str, closes: Array) -> Instrument:
    """Of a symbol whose candles are given: the known ones where their tick fits the price, else fitting ones."""
    price = float(np.median(closes[np.isfinite(closes) & (closes > 0)]))
    known = KNOWN.get(symbol)
    return known if known is not None and float(known.tick_size) <= price / 1000 else fitting(symbol, price)


KNOWN = {
    "BTCUSDT": Instrument("BTCUSDT", price=20_000.0),
    "ETHUSDT": Instrument("ETHUSDT", price=1_200.0, tick_size="0.01", qty_step="0.01", min_order_qty="0.01"),
    "SOLUSDT": Instrument("SOLUSDT", price=30.0, tick_size="0.010", qty_step="0.1", min_order_qty="0.1"),
    "BNBUSDT": Instrument("BNBUSDT", price=250.0, tick_size="0.10", qty_step="0.01", min_order_qty="0.01"),
}


@dataclass(frozen=True)
class Candles:
    """Candles of one interval: open times [n] in ms; open, high, low, close, volume, turnover [n]."""

    opens_ms: Times
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    turnover: Array


@dataclass
class Market:
    """Seeded random candles (or given ones) of a base step; everything else is derived from them.

    holes: per symbol, [from, to) ms in which the exchange has no candle (a halt).
    """

    instruments: dict[str, Instrument] = field(default_factory=lambda: dict(KNOWN))
    first_ms: int = 1_577_836_800_000
    last_ms: int = 1_893_456_000_000
    step_ms: int = MINUTE_MS
    seed: int = 0
    holes: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    _candles: dict[str, Candles] = field(default_factory=dict)

    @classmethod
    def replay(
        cls, tables: Mapping[str, tuple[Times, Array]], step_ms: int, instruments: Iterable[Instrument] = ()
    ) -> Market:
        """A market of given candles: per symbol, open times in ms [n] (evenly spaced) and [n, 5] open..volume."""
        known = {i.symbol: i for i in instruments}
        market = cls(
            instruments={s: known.get(s) or _rules(s, np.asarray(v)[:, 3]) for s, (_, v) in tables.items()},
            first_ms=min(int(times[0]) for times, _ in tables.values()),
            last_ms=max(int(times[-1]) for times, _ in tables.values()) + step_ms,
            step_ms=step_ms,
        )
        for symbol, (times, values) in tables.items():
            o, h, low, c, v = np.asarray(values, dtype=np.float64).T
            market._candles[symbol] = Candles(times.astype(np.int64), o, h, low, c, v, v * (h + low + c) / 3)
        return market

    def base(self, symbol: str) -> Candles:
        """All base candles of a symbol, from its listing to the end of the market."""
        if symbol not in self._candles:
            self._candles[symbol] = self._walk(self.instruments[symbol])
        return self._candles[symbol]

    def _walk(self, instrument: Instrument) -> Candles:
        first = -(-max(self.first_ms, instrument.launch_ms) // self.step_ms) * self.step_ms
        count = max(int((self.last_ms - first) // self.step_ms), 0)
        dice = np.random.default_rng([self.seed, zlib.crc32(instrument.symbol.encode())])
        sigma = 0.006 * np.sqrt(self.step_ms / (60 * MINUTE_MS))
        moves = sigma * dice.standard_normal(count, dtype=np.float32)
        # a pull towards the listing price keeps decades of bars in a sane range
        level = _pulled(moves.astype(np.float64), 1e-5 * self.step_ms / MINUTE_MS)
        tick = float(instrument.tick_size)
        close = np.maximum(np.round(instrument.price * np.exp(level) / tick), 1) * tick
        open_ = np.concatenate(([np.round(instrument.price / tick) * tick], close[:-1]))[:count]
        wick = np.round(np.abs(dice.standard_normal((2, count), dtype=np.float32)) * 0.4 * sigma * close / tick) * tick
        high, low = np.maximum(open_, close) + wick[0], np.maximum(np.minimum(open_, close) - wick[1], tick)
        digits = instrument.price_digits
        open_, high, low, close = (np.round(x, digits) for x in (open_, high, low, close))
        volume = np.round(np.exp(0.5 * dice.standard_normal(count, dtype=np.float32)) * 5e4 / close, 3)
        times = first + np.arange(count, dtype=np.int64) * self.step_ms
        return Candles(times, open_, high, low, close, volume, np.round(volume * (high + low + close) / 3, 4))

    def klines(self, symbol: str, interval: str, start_ms: int, end_ms: int, now_ms: int, limit: int) -> Candles:
        """Bars that overlap [start, end] (oldest first; the newest `limit`), as known at `now`: the last may be forming."""
        begin = bar_open(interval, start_ms)
        candles = self.base(symbol)
        if not len(candles.opens_ms):
            return _none()
        begin = max(begin, bar_open(interval, int(candles.opens_ms[0])))
        newest = min(end_ms, now_ms, int(candles.opens_ms[-1]))
        if newest < begin:
            return _none()
        if INTERVALS[interval]:
            begin = max(
                begin, bar_open(interval, newest) - (limit + self._hole_bars(symbol, interval)) * INTERVALS[interval]
            )
        edges = bar_edges(interval, begin, newest)
        base = self.between(symbol, int(edges[0]), int(edges[-1]), now_ms)
        if (
            INTERVALS[interval] == self.step_ms
            and edges.item(0) % self.step_ms == candles.opens_ms.item(0) % self.step_ms
        ):
            return _cut(base, slice(max(len(base.opens_ms) - limit, 0), None))
        if not len(base.opens_ms):
            return _none()
        which = np.searchsorted(edges, base.opens_ms, side="right") - 1
        starts = np.flatnonzero(np.diff(which, prepend=-1))
        ends = np.append(starts[1:], len(which)) - 1
        out = Candles(
            edges[which[starts]], base.open[starts], np.maximum.reduceat(base.high, starts),
            np.minimum.reduceat(base.low, starts), base.close[ends], np.add.reduceat(base.volume, starts),
            np.add.reduceat(base.turnover, starts),
        )  # fmt: skip
        return _cut(out, slice(max(len(out.opens_ms) - limit, 0), None))

    def between(self, symbol: str, begin_ms: int, end_ms: int, now_ms: int) -> Candles:
        """Base candles that open in [begin, end), as known at `now`, oldest first."""
        candles = self.base(symbol)
        if not len(candles.opens_ms):
            return candles
        first = candles.opens_ms.item(0)  # evenly spaced
        start, stop = (max(-(-(edge - first) // self.step_ms), 0) for edge in (begin_ms, min(end_ms, now_ms + 1)))
        base = self._as_known(_cut(candles, slice(start, stop)), now_ms)
        for a, b in self.holes.get(symbol, ()):
            base = _cut(base, (base.opens_ms < a) | (base.opens_ms >= b))
        return base

    def _hole_bars(self, symbol: str, interval: str) -> int:
        return sum((b - a) // INTERVALS[interval] + 1 for a, b in self.holes.get(symbol, ()))

    def _as_known(self, base: Candles, now_ms: int) -> Candles:
        """The newest base candle as it looks while it forms: the way from open to close, so far."""
        if not len(base.opens_ms) or base.opens_ms[-1] + self.step_ms <= now_ms:
            return base
        share = (now_ms - int(base.opens_ms[-1])) / self.step_ms
        arrays = [np.array(x) for x in (base.open, base.high, base.low, base.close, base.volume, base.turnover)]
        o, h, low, c, v, t = arrays
        c[-1] = o[-1] + share * (c[-1] - o[-1])
        h[-1], low[-1] = max(o[-1], c[-1]), min(o[-1], c[-1])
        v[-1] *= share
        t[-1] *= share
        return Candles(base.opens_ms, *arrays)

    def price(self, symbol: str, now_ms: int) -> float:
        """The last traded price at `now`, on the tick grid."""
        candles = self.base(symbol)
        instrument, first = self.instruments[symbol], candles.opens_ms.item(0) if len(candles.opens_ms) else 2**62
        at = min((now_ms - first) // self.step_ms, len(candles.opens_ms) - 1)  # evenly spaced
        if at < 0:
            return instrument.price
        share = min((now_ms - first - at * self.step_ms) / self.step_ms, 1.0)
        opened = candles.open.item(at)
        raw = opened + share * (candles.close.item(at) - opened)
        return float(round(round(raw / instrument.tick) * instrument.tick, instrument.price_digits))

    def premium(self, symbol: str, times_ms: Times) -> Array:
        """The premium of the perpetual over its index at given times, a fraction; slow waves, the same for every asker."""
        phase = zlib.crc32(symbol.encode()) % 1000
        hours = times_ms / (60 * MINUTE_MS)
        return np.round(3e-4 * np.sin(hours / 37.0 + phase) + 2e-4 * np.sin(hours / 5.3 + 2 * phase), 6)

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> tuple[Times, Array]:
        """Funding settlements in [start, end]: times (oldest first) and rates."""
        instrument = self.instruments[symbol]
        start_ms = max(start_ms, instrument.launch_ms, self.first_ms)
        times: list[Times] = []
        bounds = [*(begin for begin, _ in instrument.funding_minutes[1:]), 2**62]
        for (begin, minutes), until in zip(instrument.funding_minutes, bounds, strict=True):
            step = minutes * MINUTE_MS
            low, high = max(begin, start_ms), min(until - 1, end_ms)
            if high >= low:
                times.append(np.arange(-(-low // step) * step, high + 1, step, dtype=np.int64))
        all_times = np.concatenate(times) if times else np.empty(0, dtype=np.int64)
        rates = np.clip(1e-4 + self.premium(symbol, all_times), -0.00375, 0.00375)
        return all_times, np.round(rates, 8).astype(np.float64)

    def open_interest(self, symbol: str, times_ms: Times) -> Array:
        phase = zlib.crc32(symbol.encode()) % 777
        days = times_ms / DAY_MS
        level = 5e8 / self.instruments[symbol].price
        return np.round(level * (1.0 + 0.3 * np.sin(days / 11.0 + phase) + 0.05 * np.sin(days * 9.0 + phase)), 3)

    def long_ratio(self, symbol: str, times_ms: Times) -> Array:
        """Share of accounts that are long, in (0, 1)."""
        phase = zlib.crc32(symbol.encode()) % 555
        return np.round(0.5 + 0.08 * np.sin(times_ms / DAY_MS / 3.0 + phase), 4)


def bar_open(interval: str, time_ms: int) -> int:
    """Open time of the bar that holds `time_ms`."""
    if interval == "M":
        day = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)
        return int(dt.datetime(day.year, day.month, 1, tzinfo=dt.UTC).timestamp() * 1000)
    offset = FIRST_MONDAY_MS if interval == "W" else 0
    length = INTERVALS[interval]
    return (time_ms - offset) // length * length + offset


def next_open(interval: str, open_ms: int) -> int:
    """Open time of the bar after the one that opens at `open_ms`."""
    return bar_open(interval, open_ms + 32 * DAY_MS) if interval == "M" else open_ms + INTERVALS[interval]


def bar_edges(interval: str, begin_ms: int, until_ms: int) -> Times:
    """Open times of the bars from `begin` to the one that holds `until`, and the end of that one."""
    if interval == "M":
        edges = [begin_ms]
        while edges[-1] <= until_ms:
            edges.append(next_open("M", edges[-1]))
        return np.array(edges, dtype=np.int64)
    length = INTERVALS[interval]
    return np.arange(begin_ms, bar_open(interval, until_ms) + length + 1, length, dtype=np.int64)


def _pulled(moves: Array, pull: float) -> Array:
    """level[t] = (1 - pull) level[t-1] + moves[t], in blocks (the pull is tiny, so one block is nearly a plain sum)."""
    level = np.empty_like(moves)
    last, block = 0.0, 1000
    for at in range(0, len(moves), block):
        part = last + np.cumsum(moves[at : at + block])
        level[at : at + block] = part
        last = float(part[-1]) * (1.0 - min(pull * block, 0.5))
    return level


def _none() -> Candles:
    return Candles(np.empty(0, dtype=np.int64), *(np.empty(0) for _ in range(6)))


def _cut(candles: Candles, part: slice | npt.NDArray[np.bool_]) -> Candles:
    c = candles
    return Candles(
        c.opens_ms[part], c.open[part], c.high[part], c.low[part], c.close[part], c.volume[part], c.turnover[part]
    )
