"""Market calendars read from the bars themselves: nights, weekends and holidays of a market that rests are no gaps."""

from __future__ import annotations

import numpy as np

from data.panel import BoolArray, TimeArray

DAY_NS = 86_400_000_000_000
LEAST_WEEKS = 2.0  # of history before a rhythm can be told from an accident
LEAST_SHARE = 0.6  # of the weeks in which a rest recurs
LONGEST_REST_DAYS = 12  # the Chinese new year with its weekends
HOLIDAY_BARS = 5  # of a market with daily or longer bars that rests at weekends: a holiday without a weekend


def rests(times: TimeArray, interval_ns: int) -> BoolArray:
    """Per step between two bars (len(times) - 1) whether it is a rest of the market.

    A market rests where holes of about one length (within a quarter) recur in most weeks: nights, weekends. Then every hole of at
    least that length, up to LONGEST_REST_DAYS, is a rest too (a holiday). What is shorter (bars lost inside a session) or longer
    is none, nor is any hole of a market that never rests.
    """
    stamps = times.astype("datetime64[ns]").astype(np.int64)
    steps = np.diff(stamps)
    holes = steps > interval_ns
    none: BoolArray = np.zeros(len(steps), dtype=np.bool_)
    weeks = float(stamps[-1] - stamps[0]) / (7 * DAY_NS) if len(stamps) else 0.0
    if not holes.any() or weeks < LEAST_WEEKS:
        return none
    lengths = np.sort(steps[holes] - interval_ns)  # of what is missing
    counts = np.searchsorted(lengths, 1.25 * lengths, side="right") - np.searchsorted(lengths, 0.75 * lengths)
    usual = lengths[counts >= LEAST_SHARE * weeks]
    if not len(usual):
        return none
    missing = steps - interval_ns
    long_enough = missing >= 0.75 * usual[0]
    if interval_ns >= DAY_NS:
        long_enough |= missing <= HOLIDAY_BARS * interval_ns
    out: BoolArray = holes & long_enough & (missing <= LONGEST_REST_DAYS * DAY_NS)
    return out
