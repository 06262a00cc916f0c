"""Which column of a file is what: by the names that exchanges and charting programs give, by `--columns`, or by the numbers themselves."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.dialect import Sheet, key
from data.errors import InputError, nearest, shortened
from data.panel import CANDLE_FIELDS, FloatArray

#: further columns a candle file may carry; each must be known at the bar's close
FURTHER_FIELDS = (
    "turnover", "open_interest", "mark_price", "index_price", "premium", "long_ratio", "spread", "imbalance",
)  # fmt: skip
CLOCK = ("time", "hour", "clock")
#: names in small letters and digits only, the first one wins. Times of opening go before times of closing
TIMES = (
    "opentime", "timeopen", "starttime", "startat", "timeperiodstart", "candlebegintime", "klineopentime", "windowstart", "tsevent",
    "fundingtime", "calctime", "fundingratetimestamp",
    "settletime",
    "timestamp", "unixtimestamp", "timestamputc", "unix", "unixtime", "epoch", "ts", "t", "datetime", "datetimeutc", "gmttime",
    "localtime", "begin", "start", "dateutc", "timeutc", "utc", "date", "time", "dt", "day", "opendate", "tradedate",
)  # fmt: skip
#: what may stand behind such a name
TIME_UNITS = ("", "utc", "gmt", "ms", "us", "ns", "s")
UNNAMED = ("", "index", "unnamed0", "level0")
CLOSING_TIMES = ("closetime", "timeclose", "endtime", "timeperiodend", "end", "closedate")
PRICES = {
    "open": ("open", "o", "openprice", "priceopen", "openbid", "bidopen", "openingprice"),
    "high": ("high", "h", "highprice", "pricehigh", "max", "highbid", "bidhigh", "highest"),
    "low": ("low", "l", "lowprice", "pricelow", "min", "lowbid", "bidlow", "lowest"),
    "close": ("close", "c", "closeprice", "priceclose", "closelast", "last", "price", "closebid", "bidclose", "closingprice"),
}  # fmt: skip
VOLUMES = (
    "volume",
    "vol",
    "v",
    "volumebase",
    "basevolume",
    "volumefrom",
    "realvolume",
    "tickvolume",
    "tickvol",
    "totalvolume",
    "quantity",
)
#: names of a funding rate, and what a rate of 1 is as a fraction
RATES = {
    "fundingrate": 1.0, "lastfundingrate": 1.0, "rate": 1.0, "funding": 1.0,
    "fundingratepercent": 0.01, "fundingpercent": 0.01, "fundingbps": 1e-4, "fundingratebps": 1e-4,
}  # fmt: skip
KNOWN = {
    *TIMES,
    *CLOSING_TIMES,
    *CLOCK,
    *itertools.chain(*PRICES.values()),
    *VOLUMES,
    *RATES,
    *map(key, FURTHER_FIELDS),
}
TRADES = {
    "side",
    "tickdirection",
    "trdmatchid",
    "isbuyermaker",
    "tradeid",
    "aggtradeid",
    "price",
    "size",
    "qty",
    "takerside",
}
CANDLE_TARGETS = ("time", *CANDLE_FIELDS, *FURTHER_FIELDS)
FUNDING_TARGETS = ("time", "funding_rate", "funding_percent", "funding_bps")
_FRACTION = {"funding_rate": 1.0, "funding_percent": 0.01, "funding_bps": 1e-4}


def parse_columns(text: str | Mapping[str, str] | None) -> dict[str, str]:
    """`time=ts,volume=vol` as a table: what a column is -> its name (or its number, from 1, in a file without a header)."""
    given = dict(text) if isinstance(text, Mapping) else {}
    for part in filter(None, (part.strip() for part in text.split(","))) if isinstance(text, str) else ():
        target, sign, name = (piece.strip() for piece in part.partition("="))
        if not sign or not name:
            raise InputError(
                f"--columns {part!r} says nothing: give e.g. time=ts,volume=vol (what it is = its name in the file)"
            )
        given[target] = name
    known = (*CANDLE_TARGETS, *FUNDING_TARGETS[1:])
    for target in given:
        if target not in known:
            raise InputError(f"--columns knows no {target!r}{nearest(target, known)}; it names {', '.join(known)}")
    return given


class Columns:
    """The places of a sheet's columns by what they are. given: of `--columns`. InputError says what was found and what to type."""

    def __init__(self, sheet: Sheet, path: Path, given: Mapping[str, str]) -> None:
        self.sheet, self.path, self.given = sheet, path, given
        self.places: dict[str, int] = {}
        for place, name in enumerate(sheet.names):
            if key(name) in self.places and (key(name) in KNOWN or key(name) in map(key, given.values())):
                raise InputError(
                    f"{path} has the column {shortened(name.lower())!r} twice (capital letters make no difference); {sheet.found()}"
                )
            if key(name):
                self.places[key(name)] = place
        self.unnamed = [
            i for i, name in enumerate(sheet.names) if key(name) in UNNAMED and not row_numbers(sheet.table[i])
        ]
        self.used: set[int] = set()

    def take(self, target: str, names: Sequence[str]) -> int | None:
        """The place of a column, as `--columns` or the first known name says."""
        place = self._given(target)
        if place is None:
            place = next((self.places[name] for name in names if name in self.places), None)
        if place is not None:
            self.used.add(place)
        return place

    def _given(self, target: str) -> int | None:
        wanted = self.given.get(target)
        if wanted is None:
            return None
        if key(wanted) in self.places:
            return self.places[key(wanted)]
        width = self.sheet.table.shape[1]
        if not self.sheet.names and wanted.isdigit() and 1 <= int(wanted) <= width:
            return int(wanted) - 1
        raise InputError(f"{self.path} has no column {wanted!r} (--columns {target}={wanted}); {self.sheet.found()}")

    def times(self) -> tuple[list[int], bool]:
        """Places of the time (two where date and clock stand apart), and whether it is the time of closing by its name."""
        place = self._given("time")
        if place is not None:
            self.used.add(place)
            return [place], False
        date = self.places.get("date", self.places.get("day"))
        clock = next((self.places[name] for name in CLOCK if name in self.places), None)
        if date is not None and clock is not None and _is_clock(self.sheet.table[clock]):
            found, closing = [date, clock], False
        else:
            known = [self.places[n + unit] for n in TIMES for unit in TIME_UNITS if n + unit in self.places]
            late = [self.places[n] for n in CLOSING_TIMES if n in self.places]
            found, closing = (known or late or self.unnamed)[:1], not known and bool(late)
        if not found:
            raise InputError(
                f"{self.path} has no time column; {self.sheet.found()}; say which it is, e.g. --columns time={self._example()}"
            )
        self.used.update(found)
        return found, closing

    def _example(self) -> str:
        return shortened(self.sheet.names[0]) or "NAME" if self.sheet.names else "1"

    def ignored(self) -> tuple[str, ...]:
        return tuple(
            shortened(name.lower())
            for place, name in enumerate(self.sheet.names)
            if place not in self.used and key(name)
        )

    def candles(self) -> dict[str, int]:
        """Places of open, high, low, close, and of further fields. The volume is apart: there may be several."""
        found = {name: self.take(name, names) for name, names in PRICES.items()}
        missing = [name for name, place in found.items() if place is None]
        if len(missing) >= 3 and len(TRADES & set(self.places)) >= 2:
            raise InputError(
                f"{self.path} holds trades, not candles; {self.sheet.found()}; "
                "make bars of them first, e.g. with pandas: trades.price.resample('1h').ohlc()"
            )
        volumes = self.volumes()
        if missing or not volumes:
            lost = [*missing, *([] if volumes else ["volume"])]
            raise InputError(
                f"{self.path} lacks the column{'s' * (len(lost) > 1)} {', '.join(lost)}; {self.sheet.found()}; say which it is, "
                f"e.g. --columns {lost[0]}={'NAME' if self.sheet.names else 'NUMBER'}"
            )
        further = {name: self.take(name, (key(name),)) for name in FURTHER_FIELDS}
        return {name: place for name, place in (found | further).items() if place is not None}

    def volumes(self) -> list[int]:
        """Places of all columns that may be the volume."""
        place = self._given("volume")
        if place is not None:
            self.used.add(place)
            return [place]
        others = [name for name in self.places if name.startswith(("volume", "vol")) and name not in VOLUMES]
        return [self.places[name] for name in (*VOLUMES, *others) if name in self.places]

    def rate(self) -> tuple[int, float | None]:
        """Place of the funding rate, and its unit as a fraction where somebody said so (1: a fraction)."""
        for target in FUNDING_TARGETS[1:]:
            place = self._given(target)
            if place is not None:
                self.used.add(place)
                return place, _FRACTION[target]
        place = self.take("", tuple(RATES))
        if place is not None:
            name = self.sheet.names[place].lower()
            unit = RATES[key(name)]
            if unit == 1.0 and ("%" in name or "bps" in name):
                unit = 0.01 if "%" in name else 1e-4
            return place, None if unit == 1.0 else unit
        flat = [self.places.get(n) for n in ("high", "low", "close")]
        if "open" in self.places and None not in flat and all((self.sheet.table[i] == 0).all() for i in flat):
            self.used.update(i for i in (*flat, self.places["open"], self.places.get("volume")) if i is not None)
            return self.places["open"], None  # as freqtrade keeps it
        if not self.sheet.names and self.sheet.table.shape[1] == 2:
            return 1, None
        raise InputError(
            f"{self.path} lacks the column funding_rate; {self.sheet.found()}; say which it is, e.g. --columns funding_rate=NAME"
        )


def _is_clock(cells: pd.Series) -> bool:
    """Whether a column holds times of the day only."""
    if pd.api.types.is_numeric_dtype(cells):  # 153000 as Stooq writes it
        return bool(len(cells) and cells.between(0, 235_959).all())
    clock = r"\s*\d{1,2}:\d\d(:\d\d(\.\d+)?)?\s*([ap]m)?\s*"
    return len(cells) > 0 and re.fullmatch(clock, str(cells.iloc[0]), re.IGNORECASE) is not None


def row_numbers(cells: pd.Series) -> bool:
    """0, 1, 2, ... in any order, as pandas writes an index that nobody asked for."""
    if not pd.api.types.is_numeric_dtype(cells) or len(cells) < 2 or cells.min() not in (0, 1):
        return False
    return bool((np.sort(cells.to_numpy(np.float64)) == np.arange(len(cells)) + cells.min()).all())


#: orders of the four prices in files without a header: Binance, Bybit, MetaTrader; Coinbase; Bitfinex, KuCoin
ORDERS = (("open", "high", "low", "close"), ("low", "high", "open", "close"), ("open", "close", "high", "low"))


def price_order(prices: FloatArray) -> tuple[str, ...] | None:
    """What four columns of prices are, oldest row first; None where that is not clear. prices: [T, 4].

    A high is the highest of its row, a low the lowest; a bar opens near the close before.
    """
    fitting = []
    for order in ORDERS:
        opens, highs, lows, closes = (prices[:, order.index(name)] for name in ("open", "high", "low", "close"))
        share = np.mean((highs >= prices.max(1)) & (lows <= prices.min(1))) if len(prices) else 0.0
        if share > 0.98:
            fitting.append((float(np.abs(opens[1:] - closes[:-1]).mean()) if len(prices) > 1 else 0.0, order))
    fitting.sort(key=lambda pair: pair[0])
    if not fitting or (len(fitting) > 1 and fitting[0][0] > 0.8 * fitting[1][0] and fitting[1][0] > 0):
        return None
    return fitting[0][1]


def base_volume(volumes: Mapping[str, FloatArray], close: FloatArray) -> str:
    """Which of several volumes counts pieces of what is traded: the one whose product with the price is another of them.

    Where none is, the first that is not always zero. volumes: by name, [T].
    """
    alive = [name for name, v in volumes.items() if np.nansum(np.abs(v)) > 0] or list(volumes)
    for base, quote in itertools.permutations(alive, 2):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nanmedian(volumes[quote] / volumes[base] / close)
        if 0.9 < ratio < 1.1 and not 0.9 < float(np.nanmedian(close)) < 1.1:
            return base
    return alive[0]
