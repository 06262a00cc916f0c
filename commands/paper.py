"""python -m strategies.paper: the chosen network trades Bybit testnet (or demo, or the stand-in on this machine), unattended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from data.commandline import Json, Quiet, application, command, shown, with_settings

KEPT = "interrupted: the journal is kept; the same command goes on from here"
app = application(invoke_without_command=True)
OutOption = Annotated[Path, typer.Option(help="Folder of paper/<id>/ and paper/<id>.html.")]


def run(
    context: typer.Context,
    run: Annotated[Path, typer.Option(help="A walk-forward run's folder; its last window's model trades.")] = Path(
        "reports/latest"
    ),
    symbol: Annotated[
        str | None, typer.Option(help="Symbols of that run, with commas (default: all of them, from one account).")
    ] = None,
    venue: Annotated[
        str, typer.Option(help="testnet, demo or local (the stand-in; needs no keys). Mainnet is not offered.")
    ] = "testnet",
    keys: Annotated[
        Path | None,
        typer.Option(help="File with BYBIT_API_KEY=... and BYBIT_API_SECRET=..., mode 0600 (default: environment)."),
    ] = None,
    interval: Annotated[str | None, typer.Option(help="Checked against the model's.")] = None,
    orders: Annotated[str, typer.Option(help="market, or limit: post-only, re-priced, the rest by market.")] = "market",
    hedge: Annotated[bool, typer.Option("--hedge/--one-way", help="Position mode of the account.")] = False,
    leverage: Annotated[int, typer.Option(min=1, max=125, help="Leverage set at the exchange.")] = 10,
    foreign: Annotated[str, typer.Option(help="Positions and orders not ours: halt, adopt or flatten.")] = "halt",
    max_position: Annotated[
        float, typer.Option(min=0.0, help="Largest sum of |position| over all symbols, in equities.")
    ] = 3.0,
    daily_loss: Annotated[float, typer.Option(min=0.0, max=1.0, help="Loss of a day (fraction) that halts.")] = 0.10,
    drawdown: Annotated[float, typer.Option(min=0.0, max=1.0, help="Drawdown (fraction) that halts.")] = 0.30,
    orders_per_bar: Annotated[int, typer.Option(min=1, help="Orders of one symbol for one bar that halt.")] = 10,
    collar_bps: Annotated[
        float, typer.Option(min=0.0, help="No order while the price is further from the close than this.")
    ] = 300.0,
    stale_s: Annotated[
        float,
        typer.Option(
            min=0.0, help="Seconds without data after which nothing is entered (default: 3 bars, at least 180)."
        ),
    ] = 0.0,
    on_stop: Annotated[
        str, typer.Option(help="keep or flatten the positions when stopped (SIGTERM, Ctrl-C).")
    ] = "keep",
    on_halt: Annotated[str, typer.Option(help="keep or flatten the positions on a halt.")] = "keep",
    resume: Annotated[bool, typer.Option("--resume", help="Go on after a halt; losses count anew.")] = False,
    research: Annotated[str | None, typer.Option(help="Search again in a second process: weekly or drift.")] = None,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Trade a model made by another version of the code.")
    ] = False,
    webhook: Annotated[str | None, typer.Option(envvar="PAPER_WEBHOOK", help="URL told of a halt (JSON POST).")] = None,
    bars: Annotated[int | None, typer.Option(min=1, help="Stop after so many bars.")] = None,
    history: Annotated[
        int | None, typer.Option(min=1, help="Closed bars loaded at the first start (default: what the model needs).")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="venue local: exchange seconds per real second.")] = 7_200.0,
    endpoint: Annotated[str | None, typer.Option(help="venue local: a stand-in that runs already.")] = None,
    out: OutOption = Path("reports"),
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Trade until stopped; status, stop and replay look after it. The same command goes on from where it was, whatever ended it."""
    if context.invoked_subcommand is not None:
        return
    flags = {name.rstrip("_"): value for name, value in locals().items() if name != "context"}
    from reports.paper import build_paper_page
    from strategies.paper.session import Settings, trade

    raise typer.Exit(trade(Settings(**flags), build_paper_page))


app.callback(
    invoke_without_command=True,
    epilog=shown(
        "python -m strategies.paper --venue local --bars 100",
        "python -m strategies.paper --run reports/latest --keys testnet.env",
        "python -m strategies.paper status",
        "python -m strategies.paper stop --flatten",
    ),
)(with_settings(run, KEPT))


@command(app, "python -m strategies.paper status", "python -m strategies.paper status btcusdt-testnet-1a2b3c --json")
def status(
    id: Annotated[str | None, typer.Argument(help="Which (default: all).")] = None,
    out: OutOption = Path("reports"),
    json_: Json = False,
) -> None:
    """State, position, equity and the last events; of all paper accounts, or one."""
    from strategies.paper.supervision import show_status

    raise typer.Exit(show_status(out, id, json_))


@command(
    app,
    "python -m strategies.paper stop",
    "python -m strategies.paper stop --flatten --keys testnet.env",
    interrupted=KEPT,
)
def stop(
    id: Annotated[str | None, typer.Argument(help="Which (default: the only one that runs).")] = None,
    flatten: Annotated[bool, typer.Option("--flatten", help="Close the positions too.")] = False,
    keys: Annotated[
        Path | None, typer.Option(help="Key file; needed where no process runs and the account must be cleaned up.")
    ] = None,
    wait_s: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for a clean end; where it does not come: exit 1.")
    ] = 600.0,
    out: OutOption = Path("reports"),
    json_: Json = False,
) -> None:
    """The kill switch: cancels our orders, closes the positions if asked, ends the process. Exit 0 only where that was reached."""
    from strategies.paper.supervision import stop_paper

    raise typer.Exit(stop_paper(out, id, flatten, keys, json_, wait_s))


@command(app, "python -m strategies.paper replay", "python -m strategies.paper replay btcusdt-testnet-1a2b3c --json")
def replay(
    id: Annotated[str | None, typer.Argument(help="Which (default: the newest).")] = None,
    out: OutOption = Path("reports"),
    json_: Json = False,
) -> None:
    """The same bars through the backtest: are the targets identical, and where does the profit differ? Writes the page anew."""
    from reports.paper import build_paper_page
    from strategies.paper.supervision import show_replay

    raise typer.Exit(show_replay(out, id, json_, build_paper_page))


@command(app, "python -m strategies.paper verify")
def verify(
    id: Annotated[str | None, typer.Argument(help="Which (default: all).")] = None,
    out: OutOption = Path("reports"),
    json_: Json = False,
) -> None:
    """Are the journals sound? Integrity of the file, then every value; exit 1 where one is not."""
    from strategies.paper.supervision import verify as check

    raise typer.Exit(check(out, id, json_))


if __name__ == "__main__":
    sys.exit(app())
