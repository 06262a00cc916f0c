"""python -m data.standin.serve CANDLES.npz: the stand-in with its private part, replaying given candles, as a process of its own.

The key and secret that it accepts come from STANDIN_KEY and STANDIN_SECRET. Prints one line of JSON with its address.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from data.standin import Clock, Market, StandIn, World
from data.standin.private import Private


def main(
    candles: Annotated[
        Path,
        typer.Argument(help="Array symbols, and of each SYMBOL/times (ms) [n] and SYMBOL/values [n, 5] open..volume."),
    ],
    start_ms: Annotated[int, typer.Option(help="Where the exchange's clock starts.")] = 0,
    speed: Annotated[float, typer.Option(help="Exchange seconds per real second.")] = 1.0,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """Serve until terminated, or until the process that started it has gone."""
    with np.load(candles) as arrays:
        tables = {str(s): (arrays[f"{s}/times"], arrays[f"{s}/values"]) for s in arrays["symbols"]}
    first, second = next(iter(tables.values()))[0][:2]
    market = Market.replay(tables, int(second - first))
    private = Private(os.environ.get("STANDIN_KEY", "local-key"), os.environ.get("STANDIN_SECRET", "local-secret"))
    clock = Clock(start_ms or int(first), speed=0.0)
    with StandIn(World(market, clock), [private], port=port, tick_s=0.05) as exchange:
        typer.echo(json.dumps({"url": exchange.url}))
        clock.set(clock.now_ms(), speed)
        parent, gone = os.getppid(), threading.Event()
        while not gone.wait(1.0):
            if os.getppid() != parent:
                return


if __name__ == "__main__":
    typer.run(main)
