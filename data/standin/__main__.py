"""python -m data.standin: the stand-in exchange on loopback, until interrupted."""

from __future__ import annotations

import json
import os
import time
from typing import Annotated

import typer

from data.commandline import Json, application, command
from data.standin import Clock, Market, StandIn, World
from data.standin.private import Private

app = application()


@command(app, "python -m data.standin --port 8765 --speed 60", interrupted="ended")
def main(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8765,
    seed: Annotated[int, typer.Option(help="Of the simulated prices.")] = 0,
    speed: Annotated[float, typer.Option(min=0.0, help="Exchange seconds per real second.")] = 1.0,
    json_: Json = False,
) -> None:
    """Serve a simulated Bybit v5 on loopback (HTTP and WebSocket), with an account of 100,000 USDT.

    Its key and secret are local-key and local-secret, or STANDIN_KEY and STANDIN_SECRET; requests are limited as Bybit limits them.
    """
    keys = os.environ.get("STANDIN_KEY", "local-key"), os.environ.get("STANDIN_SECRET", "local-secret")
    world = World(Market(seed=seed), Clock(speed=speed), user_limits_s=1.0)
    with StandIn(world, [Private(*keys)], port=port) as exchange:
        typer.echo(
            json.dumps({"url": exchange.url}) if json_ else f"stand-in exchange: {exchange.url}  (Ctrl-C ends it)"
        )
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    app(prog_name="python -m data.standin")
