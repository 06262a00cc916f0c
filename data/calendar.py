"""When a market rests: weekends, nights and holidays of stocks and currencies are no gaps. Read from the bars themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data.intervals import DAY_NS, MINUTE_NS
from data.panel import BoolArray, TimeArray

#: Saturdays (of those between the first and the last bar) that hold a bar where a market rests at weekends
MOST_SATURDAYS = 0.02
#: trading days that a market may be closed for without a gap (the Chinese new year takes six or seven)
LONGEST_REST_DAYS = 8


def rests_at_weekends(times: TimeArray, interval: int) -> bool:
    """Whether bars of a day or less leave the weekends out. times: [n], increasing."""
    if interval > DAY_NS or len(times) < 2 or (times[-1] - times[0]) < np.timedelta64(7, "D"):
        return False
    days = _days(times, interval)
    span = np.arange(days[0] + 1, days[-1])
    saturdays = span[(span + 3) % 7 == 5]  # 1970-01-01 was a Thursday: Monday is 0
    return len(saturdays) > 0 and np.isin(saturdays, days).mean() <= MOST_SATURDAYS


def rests(times: TimeArray, interval: int) -> BoolArray:
    """[n - 1]: which steps between bars are rest. All False for a market that never closes.

    Rest leads from a day to a later one and ends at an hour at which the market often opens; or it is the same break of most days.
    """
    steps = np.diff(times.astype(np.int64))
    gaps = np.flatnonzero(steps > interval)
    out: BoolArray = np.zeros(len(steps), dtype=np.bool_)
    if not len(gaps) or not rests_at_weekends(times, interval):
        return out
    days = _days(times, interval)
    opens = times[gaps + 1].astype(np.int64) % DAY_NS
    found, counts = np.unique(opens, return_counts=True)
    weeks = max(1.0, (days[-1] - days[0]) / 7)
    # once in four weeks: also the hour that is UTC's for half a year only. The first minutes of a session may lack trades
    usual = found[counts >= max(1.0, 0.25 * weeks)] if interval < DAY_NS else found
    near = np.abs(opens[:, None] - usual[None, :])
    often = (
        (np.minimum(near, DAY_NS - near) <= (15 * MINUTE_NS if interval < 15 * MINUTE_NS else 0)).any(1)
        if len(usual)
        else np.zeros(len(gaps), bool)
    )
    later = days[gaps + 1] > days[gaps]
    closed = np.busday_count(_date(days[gaps] + 1), _date(days[gaps + 1]))
    within, times_seen = np.unique(opens[~later], return_counts=True)
    breaks = within[
        times_seen >= 0.2 * len(np.unique(days))
    ]  # at noon, or for maintenance; two hours of UTC where clocks change
    out[gaps] = np.where(later, often & (closed <= LONGEST_REST_DAYS), np.isin(opens, breaks))
    return out


def _days(times: TimeArray, interval: int) -> npt.NDArray[np.int64]:
    """[n]: the day each bar belongs to: of its middle, as days of a place may begin on the evening before UTC's."""
    return (times.astype(np.int64) + interval // 2) // DAY_NS


def _date(days: npt.NDArray[np.int64]) -> npt.NDArray[np.datetime64]:
    return days.astype("datetime64[D]")
