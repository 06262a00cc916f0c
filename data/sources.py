"""From the shared flags (--symbol, --interval, --source, --data ...) to a Panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data import files as user_files
from data import simulated
from data.alignment import add_timeframe, coarser
from data.columns import parse_columns
from data.intervals import interval_ns, parse_interval, parse_span
from data.panel import InputError, Panel
from data.symbols import parse_symbols

DEFAULT_INTERVAL = "60"


class Loader(Protocol):
    """A source of candles: the panel of these symbols at an interval as Bybit names it, cut to [start, end) (UTC; None is open)."""

    def __call__(
        self,
        symbols: Sequence[str],
        interval: str,
        *,
        start: np.datetime64 | None,
        end: np.datetime64 | None,
        fill_gaps: bool,
    ) -> Panel: ...


#: what `--source` may be; None: asked for with what only it needs (category, seed), in `load_panel`
SOURCES: dict[str, Loader | None] = {"auto": None, "bybit": None, "simulated": None}


def register_source(name: str, loader: Loader) -> None:
    """A further `--source NAME`. ValueError where the name is taken."""
    if name in SOURCES:
        raise ValueError(f"source {name!r} is registered already")
    SOURCES[name] = loader


def load_panel(
    symbols: Sequence[str],
    interval: str | None = None,
    *,
    start: str | None = None,
    end: str | None = None,
    source: str = "auto",
    files: Sequence[Path] = (),
    funding_files: Sequence[Path] = (),
    columns: str | Mapping[str, str] | None = None,
    timezone: str | None = None,
    any_candles: bool = False,
    fill_gaps: bool = False,
    seed: int = 0,
    timeframes: Sequence[str] = (),
    category: str = "linear",
    progress: Callable[[str], Callable[[int, int], None]] | None = None,
    echo: Callable[[str], None] | None = None,
) -> Panel:
    """The market history a user asked for.

    interval: None means the files' own, or one hour from a source. start, end: ISO, UTC; a bar belongs to the span if
    it opens at or after `start` and has closed by `end`. files: one per symbol, in order; they replace the source.
    columns, timezone, any_candles: how files are to be read where they do not say it themselves (docs/data.md).
    timeframes: longer intervals that come along as fields `close@240` and so on, each candle seen after its close only.
    source "auto": Bybit where it answers within a few seconds, else the simulated market. category, progress: of Bybit.
    echo: told what a person should know (one line a call). InputError, one line, for everything the user can mend.
    """
    names = parse_symbols(symbols)
    if source not in SOURCES:
        raise InputError(f"unknown --source {source!r}; expected {', '.join(SOURCES)}")
    if interval is not None and not files:
        interval_ns(parse_interval(interval))
    first, last = parse_span(start, end)
    say = echo or (lambda _line: None)
    longer = tuple(parse_interval(name) for name in timeframes)
    if files:
        panel = user_files.load_files(
            names, files, interval=interval, funding_files=funding_files, start=first, end=last, fill_gaps=fill_gaps,
            reading=user_files.Reading(parse_columns(columns), timezone, any_candles),
        )  # fmt: skip
        for note in panel.notes:
            say(note)
        return _with_timeframes(panel, longer)
    if funding_files:
        raise InputError("--funding FILE goes with --data FILE; a source brings its own funding")
    asked = parse_interval(interval or DEFAULT_INTERVAL)
    registered = SOURCES[source]
    if registered is not None:
        return _with_timeframes(registered(names, asked, start=first, end=last, fill_gaps=fill_gaps), longer)
    if source != "simulated":
        panel_of_bybit = _from_bybit(names, asked, first, last, source, category, longer, fill_gaps, say, progress)
        if panel_of_bybit is not None:
            return panel_of_bybit
    return _with_timeframes(simulated.simulate(names, asked, start=first, end=last, seed=seed), longer)


def _from_bybit(
    names: Sequence[str],
    interval: str,
    start: np.datetime64 | None,
    end: np.datetime64 | None,
    source: str,
    category: str,
    timeframes: Sequence[str],
    fill_gaps: bool,
    say: Callable[[str], None],
    progress: Callable[[str], Callable[[int, int], None]] | None,
) -> Panel | None:
    """None, and why is said, where the source is "auto" and Bybit does not answer."""
    # start-up time: files and simulated markets need no client
    from data.bybit import Bybit
    from data.history import History
    from data.market import load_bybit
    from data.store import Store

    client = Bybit(say=say)
    history = History(Store(), client, say)

    def load() -> Panel:
        return load_bybit(
            names, interval, start=start, end=end, category=category, timeframes=timeframes, fill_gaps=fill_gaps,
            history=history, say=say, progress=progress,
        )  # fmt: skip

    if client.reachable():
        return load()
    if source == "auto":
        say(
            f"SIMULATED MARKET: Bybit {client.why_not}. These prices are invented; no result says anything about a real market."
        )
        return None
    client.offline = True  # what the store holds needs no network
    return load()


def _with_timeframes(panel: Panel, timeframes: Sequence[str]) -> Panel:
    for name in timeframes:
        panel = add_timeframe(panel, name, coarser(panel, name))
    return panel
