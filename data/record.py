"""python -m data.record: keep order books from the public stream (or an archive) and store their features per bar."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from data.commandline import Category, Json, Quiet, Symbols, application, command, symbols_of
from data.errors import InputError
from data.progress import console_of

app = application()


@command(
    app,
    "python -m data.record --symbol BTCUSDT --depth 50   (Ctrl-C ends it)",
    interrupted="stopped: every bar that closed is in the store (python -m data.info)",
)
def main(
    symbol: Symbols,
    depth: Annotated[int, typer.Option(help="Levels a side: 1, 50, 200 or 1000.")] = 50,
    interval: Annotated[str, typer.Option(help="Bars to store, in minutes: 1, or several: 1,5,60.")] = "1,60",
    category: Category = "linear",
    archive: Annotated[
        Path | None, typer.Option(help="Read Bybit's order book archive (zip) instead of the stream.")
    ] = None,
    bars: Annotated[int | None, typer.Option(min=1, help="Stop after this many stored bars.")] = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Record order books. Features per bar: docs/data.md. What was recorded is in the store at once."""
    # start-up time: `--help` needs no numpy
    from data.bybit import Bybit, Unreachable
    from data.intervals import parse_interval
    from data.recorder import BookBars, Recorder, store_archive
    from data.series import series_key
    from data.store import Store

    console = console_of(stderr=True, quiet=quiet)
    symbols = symbols_of(symbol)
    intervals = [parse_interval(name) for name in interval.split(",")]
    for name in symbols:
        series_key(category, name, "orderbook", intervals[0])
    store = Store()
    if archive is not None:
        if len(symbols) > 1:
            raise InputError("an archive holds one symbol; give one --symbol")
        with console.status("reading the archive") as status:
            count, stored = store_archive(
                archive, store, category, symbols[0], {name: BookBars(name, depth) for name in intervals}, status.update
            )
        console.print(f"{count:,} messages, {stored} closed bars stored", markup=False)
        if json_:
            sys.stdout.write(json.dumps({"messages": count, "bars": stored, "gaps": 0}) + "\n")
        return
    client = Bybit()
    if not client.reachable():
        raise Unreachable(f"Bybit {client.why_not}; check the network or a proxy")
    for name in symbols:
        client.instrument(category, name)
    recorder = Recorder(
        symbols, intervals, store, depth=depth, category=category,
        say=lambda line: console.print(line, markup=False, soft_wrap=True),
    )  # fmt: skip

    async def watch() -> None:
        work = asyncio.create_task(recorder.run(bars))
        with console.status("connecting") as status:
            while not work.done():
                await asyncio.wait([work], timeout=0.5)
                status.update(
                    f"{recorder.messages:,} messages, {recorder.stored} bars stored, {recorder.resubscribed} gaps"
                )
        await work

    asyncio.run(watch())
    if json_:
        told = {"messages": recorder.messages, "bars": recorder.stored, "gaps": recorder.resubscribed}
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    sys.exit(app())
