"""From the shared flags (--symbol, --interval, --source, --data ...) to a Panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data import files as user_files
from data import simulated
from data.alignment import add_timeframe, coarser
from data.columns import parse_columns
from data.intervals import interval_ns, parse_interval, parse_span
from data.market_settings import MarketSettings
from data.panel import InputError, Panel
from data.symbols import parse_symbols

DEFAULT_INTERVAL = "60"
REAL_OFFLINE = "Real prices without a network: --source bundled --symbol SP500. Where something is there to be found: --preset tour"


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
    ) -> Panel:
        """InputError where this source lacks what is asked for."""


def _bundled(symbols: Sequence[str], interval: str, **asked: Any) -> Panel:
    from data.bundled import load_bundled  # start-up time

    return load_bundled(symbols, interval, **asked)


#: what `--source` may be; None: asked for with what only it needs (category, seed), in `load_panel`
SOURCES: dict[str, Loader | None] = {"auto": None, "bybit": None, "simulated": None, "demo": None, "bundled": _bundled}


def register_source(name: str, loader: Loader) -> None:
    """A further `--source NAME`.

    Parameters
    ----------
    name : str
        As the flag and `load_panel` take it.
    loader : callable
        `(symbols, interval, *, start, end, fill_gaps) -> Panel`, cut to [start, end) (UTC; None is open).

    Raises
    ------
    ValueError
        Where the name is taken.

    Examples
    --------
    >>> from data import load_panel, register_source, simulate
    >>> def calm(symbols, interval, *, start, end, fill_gaps):
    ...     return simulate(symbols, interval, start=start, end=end, seed=7)
    >>> register_source("calm", calm)
    >>> len(load_panel(["BTCUSDT"], source="calm", start="2024-01-01", end="2024-01-03"))
    48
    """
    if name in SOURCES:
        raise ValueError(f"source {name!r} is registered already")
    SOURCES[name] = loader


def load_market(asked: MarketSettings, seed: int = 0, **telling: Any) -> Panel:
    """`load_panel` of a command's settings. telling: its `echo` and `progress`."""
    return load_panel(
        asked.symbol,
        asked.interval,
        start=asked.start,
        end=asked.end,
        source=asked.source,
        files=tuple(map(Path, asked.data)),
        funding_files=tuple(map(Path, asked.funding)),
        columns=",".join(asked.columns),
        timezone=asked.timezone,
        any_candles=asked.any_candles,
        fill_gaps=asked.fill_gaps,
        seed=seed,
        timeframes=asked.timeframes,
        category=asked.category,
        **telling,
    )


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

    Parameters
    ----------
    symbols : sequence of str
        E.g. `["BTCUSDT", "ETHUSDT"]`.
    interval : str, optional
        As Bybit names it: `"60"` is an hour, `"D"` a day; of files any multiple of their own. None means the files' own, or one hour
        from a source.
    start, end : str, optional
        ISO, UTC. A bar belongs to the span if it opens at or after `start` and has closed by `end`.
    source : str
        `auto` (Bybit where it answers within a few seconds, else the simulated market), `bybit`, `simulated`, `demo` (simulated,
        with something to be found), `bundled` (real daily prices of stocks, without a network), or a registered name.
    files, funding_files : sequence of Path
        Candles, one file per symbol, in order, in place of the source; and their funding settlements.
    columns : str or mapping, optional
        What columns of files are, where their names do not say it: `"time=ts,volume=vol"`.
    timezone : str, optional
        Of times in files that say none (UTC otherwise): `"Europe/Berlin"`, or `"data=UTC,funding=Europe/Berlin"`.
    any_candles : bool
        Take candles that are no prices (Heikin-Ashi), too.
    fill_gaps : bool
        Fill missing bars with the last close, instead of refusing them.
    seed : int
        Of the simulated market.
    timeframes : sequence of str
        Longer intervals that come along as fields `close@240` and so on, each candle seen after its close only.
    category, progress
        Of Bybit: linear, inverse or spot; and who is told how far a download is.
    echo : callable
        Told what a person should know, one line a call.

    Raises
    ------
    InputError
        One line, for everything the user can mend.

    Examples
    --------
    >>> from data import load_panel
    >>> load_panel(["BTCUSDT"], "240", source="simulated", start="2024-01-01", end="2024-02-01").values.shape
    (186, 1, 6)
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
    asked = parse_interval(interval or ("D" if source == "bundled" else DEFAULT_INTERVAL))
    registered = SOURCES[source]
    if registered is not None:
        return _with_timeframes(registered(names, asked, start=first, end=last, fill_gaps=fill_gaps), longer)
    if source not in ("simulated", "demo"):
        panel_of_bybit = _from_bybit(names, asked, first, last, source, category, longer, fill_gaps, say, progress)
        if panel_of_bybit is not None:
            return panel_of_bybit
    recipe = simulated.DEMO if source == "demo" else None
    return _with_timeframes(simulated.simulate(names, asked, start=first, end=last, seed=seed, recipe=recipe), longer)


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
            f"SIMULATED MARKET: Bybit {client.why_not}. These prices are invented; no result says anything about a real market. "
            f"{REAL_OFFLINE}"
        )
        return None
    client.offline = True  # what the store holds needs no network
    return load()


def _with_timeframes(panel: Panel, timeframes: Sequence[str]) -> Panel:
    for name in timeframes:
        panel = add_timeframe(panel, name, coarser(panel, name))
    return panel
