"""python -m data.standin: the stand-in exchange on loopback, until interrupted."""

from __future__ import annotations

import time
from typing import Annotated

import typer


def main(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8765,
    seed: Annotated[int, typer.Option(help="Of the simulated prices.")] = 0,
    speed: Annotated[float, typer.Option(help="Exchange seconds per real second.")] = 1.0,
) -> None:
    """Serve a simulated Bybit v5 on loopback (HTTP and WebSocket)."""
    from data.standin import Clock, Market, StandIn, World

    with StandIn(World(Market(seed=seed), Clock(speed=speed)), port=port) as exchange:
        typer.echo(f"stand-in exchange: {exchange.url}  (Ctrl-C ends it)")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


if __name__ == "__main__":
    typer.run(main)
