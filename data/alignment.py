"""Values of another rhythm on a panel's bars, without look-ahead: each bar sees what was known by its close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from data.assembly import resampled
from data.intervals import interval_name, interval_ns
from data.panel import CANDLE_FIELDS, FloatArray, InputError, Panel, TimeArray


def last_known(close_times: TimeArray, stamps: TimeArray, values: FloatArray, oldest: np.timedelta64) -> FloatArray:
    """[T]: per bar, the newest value whose stamp is not after the bar's close; NaN where that is older than `oldest`.

    stamps: [n], increasing: the moment each value is known.
    """
    if not len(stamps):
        return np.full(len(close_times), np.nan)
    at = np.searchsorted(stamps, close_times, side="right") - 1
    known = np.maximum(at, 0)
    fresh = (at >= 0) & (close_times - stamps[known] <= oldest)
    return np.where(fresh, values[known], np.nan)


def add_known(
    panel: Panel, name: str, known: Mapping[str, tuple[TimeArray, FloatArray]], step_ns: int, lasting: int = 3
) -> Panel:
    """The panel with a field more: per asset, (stamps, values), each value seen from its stamp on.

    step_ns: the rhythm of the values. One lasts for `lasting` steps (or bars, where they are longer):
    then the field is NaN rather than stale.
    """
    values = np.full((len(panel), len(panel.assets)), np.nan)
    listed = np.isfinite(panel.field("close"))
    oldest = np.timedelta64(lasting * max(panel.interval_ns, step_ns), "ns")
    for a, asset in enumerate(panel.assets):
        if asset not in known:
            continue
        stamps, found = known[asset]
        values[:, a] = last_known(panel.close_times, stamps, found, oldest)
    return _with_fields(panel, (name,), np.where(listed, values, np.nan)[:, :, None])


def add_timeframe(panel: Panel, interval: str, tables: Mapping[str, pd.DataFrame]) -> Panel:
    """The panel with the candles of a longer interval as fields `open@240`, ..., `volume@240`.

    Each bar sees the last candle of the longer interval that has closed by the bar's own close. tables: per asset, candles
    indexed by open time (UTC).
    """
    length = interval_ns(interval)
    if length <= panel.interval_ns:
        raise InputError(
            f"timeframe {interval} is not longer than the bars ({interval_name(panel.interval_ns)}); "
            "give the shortest one as --interval"
        )
    rest = int(np.diff(panel.timestamps.astype(np.int64)).max(initial=panel.interval_ns)) - panel.interval_ns
    names = tuple(f"{field}@{interval}" for field in CANDLE_FIELDS)
    values = np.full((len(panel), len(panel.assets), len(names)), np.nan)
    for a, asset in enumerate(panel.assets):
        table = tables.get(asset)
        if table is None or not len(table):
            continue
        opens: TimeArray = table.index.to_numpy().astype("datetime64[ns]")
        closes: TimeArray = opens + np.timedelta64(length, "ns")
        for f, field in enumerate(CANDLE_FIELDS):
            column = table[field].to_numpy(dtype=np.float64)
            # a candle is the last one until the next has closed; one missing candle may be bridged, and a rest of the market
            values[:, a, f] = last_known(panel.close_times, closes, column, np.timedelta64(2 * length + rest, "ns"))
    listed = np.isfinite(panel.field("close"))[:, :, None]
    return _with_fields(panel, names, np.where(listed, values, np.nan))


def coarser(panel: Panel, interval: str) -> dict[str, pd.DataFrame]:
    """Complete candles of a longer interval made from the panel's own bars, per asset; days and weeks begin as Bybit's."""
    length = interval_ns(interval)
    if length % panel.interval_ns:
        raise InputError(f"timeframe {interval} is no multiple of the bars ({interval_name(panel.interval_ns)})")
    out = {}
    for asset in panel.assets:
        table = pd.DataFrame({field: panel.column(field, asset) for field in CANDLE_FIELDS}, index=panel.timestamps)
        out[asset] = resampled(table.dropna(subset="close"), panel.interval_ns, length, panel.rests)
    return out


def _with_fields(panel: Panel, names: tuple[str, ...], values: FloatArray) -> Panel:
    """values: [T, A, len(names)]. A field that is nowhere known is left out, with a note."""
    kept = [i for i in range(len(names)) if np.isfinite(values[:, :, i]).any()]
    lost = tuple(f"no values of {names[i]} in this span" for i in range(len(names)) if i not in kept)
    return replace(
        panel,
        fields=(*panel.fields, *(names[i] for i in kept)),
        values=np.concatenate([panel.values, values[:, :, kept]], axis=2),
        notes=(*panel.notes, *lost),
    )
