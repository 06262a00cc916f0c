"""python -m data.download: fetch history from Bybit into the store."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from data.commandline import Category, Json, Quiet, Symbols, application, command, symbols_of
from data.errors import InputError
from data.progress import console_of, download_progress

app = application()


@command(
    app,
    "python -m data.download --symbol BTCUSDT,ETHUSDT --start 2023-01-01",
    "python -m data.download --symbol BTCUSDT --interval 5,60 --what klines,funding,open-interest",
    interrupted="interrupted: what was fetched is kept; the same command goes on from here",
)
def main(
    symbol: Symbols,
    interval: Annotated[str, typer.Option(help="Bar length, or several: 1 3 5 15 30 60 120 240 360 720 D W M.")] = "60",
    start: Annotated[
        str | None, typer.Option(help="First bar, UTC, e.g. 2023-01-01 (default: two years before the end).")
    ] = None,
    end: Annotated[str | None, typer.Option(help="History ends before this time, UTC (default: now).")] = None,
    what: Annotated[
        str,
        typer.Option(
            help="klines, funding, open-interest, mark-price, index-price, premium-index, long-short-ratio; or all."
        ),
    ] = "klines,funding",
    category: Category = "linear",
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Pages asked for at once.")] = 16,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Download history; only what the store lacks is asked for. An interrupted download goes on where it was."""
    # start-up time: `--help` needs no numpy
    import numpy as np

    from data.bybit import Bybit, Unreachable
    from data.history import History
    from data.intervals import parse_interval, parse_span
    from data.market import DEFAULT_SPAN
    from data.series import downloads_of
    from data.store import Store

    keys = downloads_of(category, symbols_of(symbol), what, [parse_interval(name) for name in interval.split(",")])
    first, last = parse_span(start, end)
    if last is None:
        last = np.datetime64(int(time.time() * 1000), "ms").astype("datetime64[ns]")
    if first is None:
        first = last - DEFAULT_SPAN
    if first >= last:
        raise InputError(f"--start {start} lies in the future; history ends now")
    low, high = (int(t.astype("datetime64[ms]").astype(np.int64)) for t in (first, last))
    store = Store()
    with download_progress(console_of(stderr=True), hidden=quiet) as (say, progress):
        client = Bybit(say=say)
        if any(store.series(key).missing(low, high) for key in keys) and not client.reachable():
            raise Unreachable(f"Bybit {client.why_not}; check the network or a proxy")
        history = History(store, client, say, parallel)
        fetched = []
        for key in keys:
            rows = history.load(key, low, high, progress(str(key)))
            holes = history.holes(key, rows)
            for hole in holes:
                say(hole)
            fetched.append({**key.__dict__, "rows": len(rows), "holes": holes})
    if json_:
        span = {"start": str(first), "end": str(last)}
        told = {"store": str(store.root), **span, "requests": client.requests, "series": fetched}
        sys.stdout.write(json.dumps(told) + "\n")
    if not quiet:
        typer.echo(
            f"store: {store.root} ({client.requests} requests); python -m data.info shows what it holds", err=True
        )


if __name__ == "__main__":
    sys.exit(app())
