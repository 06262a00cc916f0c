"""python -m data.standin.serve CANDLES.npz: the stand-in with its private part, replaying given candles, as a process of its own.

The key and secret that it accepts come from STANDIN_KEY and STANDIN_SECRET. Prints one line of JSON with its address.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Annotated

import typer


def main(
    candles: Annotated[Path, typer.Argument(help="Arrays symbol, times (ms) [n] and values [n, 5] open..volume.")],
    start_ms: Annotated[int, typer.Option(help="Where the exchange's clock starts.")] = 0,
    speed: Annotated[float, typer.Option(help="Exchange seconds per real second.")] = 1.0,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """Serve until terminated, or until the process that started it has gone."""
    import numpy as np

    from data.standin import Clock, Market, StandIn, World
    from data.standin.private import Private

    with np.load(candles) as arrays:
        symbol, times, values = str(arrays["symbol"]), arrays["times"], arrays["values"]
    market = Market.replay({symbol: (times, values)}, int(times[1] - times[0]))
    private = Private(os.environ.get("STANDIN_KEY", "local-key"), os.environ.get("STANDIN_SECRET", "local-secret"))
    clock = Clock(start_ms or int(times[0]), speed=0.0)
    with StandIn(World(market, clock), [private], port=port, tick_s=0.05) as exchange:
        typer.echo(json.dumps({"url": exchange.url}))
        clock.set(clock.now_ms(), speed)
        parent, gone = os.getppid(), threading.Event()
        while not gone.wait(1.0):
            if os.getppid() != parent:
                return


if __name__ == "__main__":
    typer.run(main)
