"""What a model reads beside its own candles and funding: statistics, longer candles, candles of other symbols. Followed live.

The rows are those that the batch loads (data.market), fetched from the same anchor, so that the features are the same numbers. A
bar counts only once everything that was known by its close is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data.bybit import Bybit
from data.intervals import interval_ns
from data.market import FURTHER, with_further, with_timeframe
from data.panel import CANDLE_FIELDS, InputError, Panel
from data.series import KINDS, Rows, SeriesKey, last_closed, merge, no_rows, on_grid, open_times, series_key
from nas.features.inputs import raw_input
from strategies.paper.orders.connection import Unavailable
from strategies.paper.records.journal import Journal

#: answers that must agree on a hole before it is the exchange's own
ANSWERS = 4
_KIND_OF = {field: kind for kind, (field, _) in FURTHER.items()}


def companions_of(
    inputs: Iterable[str], symbols: Sequence[str], traded: Sequence[str], interval: str
) -> tuple[SeriesKey, ...]:
    """The series that raw inputs need beside candles and funding of the traded symbols. InputError where one cannot be had live."""
    keys: dict[SeriesKey, None] = {}
    for name in inputs:
        raw = raw_input(name)
        if raw is None:
            raise InputError(f"the model reads the input {name!r}, which this version does not have")
        if raw.assets > 1:
            keys |= {SeriesKey("linear", other, "klines", interval): None for other in symbols if other not in traded}
        for field in raw.needs:
            if field in _KIND_OF:
                keys |= {series_key("linear", symbol, _KIND_OF[field], interval): None for symbol in traded}
            elif "@" in field:
                longer = field.partition("@")[2]
                keys |= {series_key("linear", symbol, "klines", longer): None for symbol in traded}
            elif field not in (*CANDLE_FIELDS, "funding_rate"):
                raise InputError(
                    f"the model reads {field!r} of a recorded order book, of which there is no history to begin with; rerun the "
                    "walk-forward without the recording"
                )
    return tuple(keys)


def with_companions(panel: Panel, symbols: Sequence[str], rows: Mapping[SeriesKey, Rows], interval: str) -> Panel:
    """The panel with their fields. Other symbols' candles are in it already (`strategies.paper.decisions.history`)."""
    groups: dict[tuple[str, str], dict[str, Rows]] = {}
    for key, found in rows.items():
        if key.symbol in symbols:
            groups.setdefault((key.kind, key.interval), {})[key.symbol] = found
    for (kind, length), found_by in groups.items():
        if kind in FURTHER:
            panel = with_further(panel, SeriesKey("linear", symbols[0], kind, length), found_by)
        elif length != interval:
            panel = with_timeframe(panel, length, found_by)
    return panel


class Companions:
    """Keeps the series of a model from the anchor to the present, in the journal and here."""

    def __init__(self, journal: Journal, client: Bybit | None, keys: Sequence[SeriesKey] = ()) -> None:
        self._journal, self._client = journal, client
        self.rows: dict[SeriesKey, Rows] = {}
        self.follow(keys)

    def follow(self, keys: Sequence[SeriesKey]) -> None:
        """These from now on (what the journal holds of them is here at once)."""
        for key in keys:
            if key not in self.rows:
                found = self._journal.companion_rows(str(key))
                width = len(KINDS[key.kind].columns)
                self.rows[key] = Rows(
                    np.array([time for time, _ in found], dtype=np.int64), np.array([v for _, v in found]).reshape(-1, width)
                ) if found else no_rows(width)  # fmt: skip

    def news(self, keys: Sequence[SeriesKey], first_ms: int, moment_ms: int) -> dict[SeriesKey, Rows]:
        """Rows not yet here that were known by `moment`. Unavailable where one of them may still come."""
        return {key: rows for key in keys if len(rows := self._news(key, first_ms, moment_ms))}

    def take(self, news: Mapping[SeriesKey, Rows]) -> None:
        for key, rows in news.items():
            self._journal.add_companion_rows(str(key), zip(rows.times.tolist(), rows.values.tolist(), strict=True))
            self.rows[key] = merge([self.rows[key], rows])

    def _news(self, key: SeriesKey, first_ms: int, moment_ms: int) -> Rows:
        if self._client is None:
            raise Unavailable(f"{key} cannot be followed: no source of public data")
        length, bars = interval_ns(key.interval) // 1_000_000, len(KINDS[key.kind].columns) > 1
        known = self.rows[key]
        # of a bar: complete by `moment`; of a statistic: stamped before it
        until = last_closed(key.interval, moment_ms if bars else moment_ms - 1)
        newest = until - length if bars else until
        # as much before the anchor as data.market loads, so that the first bars see the same
        early = (3 if key.kind in FURTHER else 2) * length
        since = int(known.times[-1]) + 1 if len(known) else max(first_ms - early, 1)
        # asked from inside a bar, the exchange gives that bar too
        since = int(open_times(key.interval, since, since + 2 * length)[0])
        if len(known) and known.times[-1] >= newest:
            return no_rows(known.values.shape[1])
        parts: list[Rows] = []
        for _ in range(ANSWERS):
            try:
                parts.append(self._client.page(key, since, moment_ms if bars else moment_ms - 1))
            except InputError as error:
                raise Unavailable(f"{key}: {error}") from None
            rows = merge(parts)
            if len(rows) and rows.times[-1] >= until and not _has_hole(key, rows):
                break
        # a bar is complete once a newer one exists: no clock decides that
        if not len(rows) or rows.times[-1] < until:
            raise Unavailable(f"{key} of the newest bar is not there yet; asked again")
        return rows.within(0, newest + 1)


def _has_hole(key: SeriesKey, rows: Rows) -> bool:
    expected = open_times(key.interval, int(rows.times[0]), int(rows.times[-1]) + 1)
    return not on_grid(key.interval, rows.times) or len(expected) != len(rows)
