"""python -m data.standin: the stand-in exchange on loopback, until interrupted."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from data.commandline import Json, application, command
from data.standin import Clock, Market, StandIn, World

app = application()


@command(app, "python -m data.standin --port 8765 --speed 60", interrupted="ended")
def main(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8765,
    seed: Annotated[int, typer.Option(help="Of the simulated prices.")] = 0,
    speed: Annotated[float, typer.Option(min=0.0, help="Exchange seconds per real second.")] = 1.0,
    json_: Json = False,
) -> None:
    """Serve a simulated Bybit v5 on loopback (HTTP and WebSocket)."""
    with StandIn(World(Market(seed=seed), Clock(speed=speed)), port=port) as exchange:
        typer.echo(
            json.dumps({"url": exchange.url}) if json_ else f"stand-in exchange: {exchange.url}  (Ctrl-C ends it)"
        )
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    app(prog_name="python -m data.standin")
