"""From the shared flags (--symbol, --interval, --source, --data ...) to a Panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from data import files as user_files
from data import simulated
from data.intervals import interval_ns, parse_interval, parse_span
from data.panel import InputError, Panel

SOURCES = ("auto", "bybit", "simulated")
DEFAULT_INTERVAL = "60"


def load_panel(
    symbols: Sequence[str],
    interval: str | None = None,
    *,
    start: str | None = None,
    end: str | None = None,
    source: str = "auto",
    files: Sequence[Path] = (),
    funding_files: Sequence[Path] = (),
    fill_gaps: bool = False,
    seed: int = 0,
    echo: Callable[[str], None] | None = None,
) -> Panel:
    """The market history a user asked for.

    interval: None means the files' own, or one hour from a source. start, end: ISO, UTC; a bar belongs to the span if
    it opens at or after `start` and has closed by `end`. files: one per symbol, in order; they replace the source.
    echo: told what a person should know (one line a call). InputError, one line, for everything the user can mend.
    """
    names = tuple(symbol.strip() for symbol in symbols)
    if not names or not all(names):
        raise InputError("no symbol given; expected --symbol BTCUSDT or --symbol BTCUSDT,ETHUSDT")
    if len(set(names)) != len(names):
        raise InputError(f"a symbol is given twice: {', '.join(names)}")
    if source not in SOURCES:
        raise InputError(f"unknown --source {source!r}; expected {', '.join(SOURCES)}")
    if interval is not None:
        interval_ns(parse_interval(interval))
    first, last = parse_span(start, end)
    say = echo or (lambda _line: None)
    if files:
        return user_files.load_files(
            names, files, interval=interval, funding_files=funding_files, start=first, end=last, fill_gaps=fill_gaps
        )
    if funding_files:
        raise InputError("--funding FILE goes with --data FILE; a source brings its own funding")
    asked = parse_interval(interval or DEFAULT_INTERVAL)
    if source == "bybit":
        raise InputError("Bybit cannot be reached from here; use --source simulated or --data FILE")
    if source == "auto":
        say(
            "SIMULATED MARKET: Bybit cannot be reached from here. These prices are invented; no result says anything about a real market."
        )
    return simulated.simulate(names, asked, start=first, end=last, seed=seed)
