"""What the funding of a panel covers, and what it does not, in words: an account that is charged nothing must not claim costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.intervals import say_time
from data.panel import InputError, Panel, TimeArray

EIGHT_HOURS_NS = 8 * 3_600_000_000_000  # between settlements of most perpetuals, and the longest that is usual
#: sum of the settled rates of Bybit's BTCUSDT (2,736 settlements)
USUAL = "BTCUSDT's longs on Bybit paid 23.1% of notional from 2023-01 to 2025-06"


@dataclass(frozen=True)
class Coverage:
    """charged: `all`, `part` or `none` of the funding of a stretch. said: one line for each asset that lacks some."""

    charged: str
    said: tuple[str, ...]


def funding_coverage(panel: Panel, start: int = 0, stop: int | None = None) -> Coverage:
    """Whether every asset has its settlements while it has bars in start..stop.

    A hole is longer than the usual step between the asset's settlements by a half, and than eight hours.
    """
    window = slice(start, len(panel) if stop is None else stop)
    said, bare = [], []
    for a, asset in enumerate(panel.assets):
        bars = np.flatnonzero(np.isfinite(panel.field("close")[window, a])) + window.start
        if not len(bars):
            continue
        begin, end = panel.timestamps[bars[0]], panel.close_times[bars[-1]]
        known = panel.settlements.get(asset)
        times = known.timestamps[np.isfinite(known.rates)] if known is not None else np.empty(0, dtype="datetime64[ns]")
        step = _usual_step(times)
        inside = times[(times >= begin) & (times < end)]
        if not len(inside):
            if end - begin > step:  # a shorter stretch may hold none
                bare.append(asset)
            continue
        holes = _holes(inside, begin, end, step)
        if holes:
            lost = sum(int((b - a) / step) for a, b in holes)
            spans = ", ".join(f"{_day(a)} to {_day(b)}" for a, b in holes[:3])
            more = f" and {len(holes) - 3} more holes" if len(holes) > 3 else ""
            said.append(f"{asset}: funding is known in part; not charged {spans}{more} (about {lost} settlements)")
    if bare:
        said.insert(0, f"{', '.join(bare)}: funding not charged, no settlements are known ({USUAL})")
    listed = np.isfinite(panel.field("close")[window]).any(0).sum()
    charged = "none" if bare and len(bare) == listed else "part" if said else "all"
    return Coverage(charged, tuple(said))


def check_covers(panel: Panel, asset: str, times: TimeArray, name: str) -> None:
    """InputError where a funding file holds no settlement of the bars it was given for."""
    bars = np.flatnonzero(np.isfinite(panel.column("close", asset)))
    begin, end = panel.timestamps[bars[0]], panel.close_times[bars[-1]]
    if not np.any((times >= begin) & (times < end)):
        raise InputError(
            f"{name} covers no bar of {asset}: its settlements run from {say_time(times[0])} to {say_time(times[-1])}, the candles from "
            f"{say_time(begin)} to {say_time(end)}; give the funding of that time, or leave --funding out (then none is charged)"
        )


def _usual_step(times: TimeArray) -> np.timedelta64:
    usual = int(np.median(np.diff(times.astype(np.int64)))) if len(times) > 1 else EIGHT_HOURS_NS
    return np.timedelta64(usual, "ns")


def _holes(
    times: TimeArray, begin: np.datetime64, end: np.datetime64, step: np.timedelta64
) -> list[tuple[np.datetime64, np.datetime64]]:
    """Stretches without a settlement that should have one."""
    longest = max(1.5 * float(step / np.timedelta64(1, "ns")), 1.001 * EIGHT_HOURS_NS)
    edges = np.concatenate([[begin], times, [end]])
    steps = np.diff(edges.astype(np.int64)).astype(np.float64)
    return [(edges[k], edges[k + 1]) for k in np.flatnonzero(steps > longest)]


def _day(stamp: np.datetime64) -> str:
    return str(stamp)[:10]
