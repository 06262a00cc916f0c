"""python -m strategies.paper: the chosen network trades Bybit testnet (or demo, or the stand-in on this machine), unattended."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data.arithmetic import pin_as
from data.commandline import Json, application, command, shown, with_settings
from data.settings import flags_of
from strategies.paper.settings import GROUPS, OUT_HELP, PaperSettings

KEPT = "interrupted: the journal is kept; the same command goes on from here"
app = application(invoke_without_command=True)
OutOption = Annotated[Path, typer.Option(help=OUT_HELP)]


@flags_of(PaperSettings, groups=GROUPS)
def run(context: typer.Context, **given: Any) -> None:
    """Trade until stopped; status, stop and replay look after it. The same command goes on from where it was, whatever ended it."""
    if context.invoked_subcommand is not None:
        return
    asked = PaperSettings.read(given)
    pin_as(asked.run)  # before torch is loaded
    # start-up time: `--help` and the other commands need no model
    from reports.paper import build_paper_page  # start-up time: `--help` and the other commands need no model
    from strategies.paper.session import trade

    raise typer.Exit(trade(asked, build_paper_page))


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
    from strategies.paper.supervision import show_status  # start-up time

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
    from strategies.paper.supervision import stop_paper  # start-up time

    raise typer.Exit(stop_paper(out, id, flatten, keys, json_, wait_s))


@command(app, "python -m strategies.paper replay", "python -m strategies.paper replay btcusdt-testnet-1a2b3c --json")
def replay(
    id: Annotated[str | None, typer.Argument(help="Which (default: the newest).")] = None,
    model: Annotated[
        str | None, typer.Option(help="A model of your own that traded, module:Name: its code is run.")
    ] = None,
    out: OutOption = Path("reports"),
    json_: Json = False,
) -> None:
    """The same bars through the backtest: are the targets identical, and where does the profit differ? Writes the page anew."""
    from nas.baselines.own import trust  # start-up time
    from reports.paper import build_paper_page  # start-up time: `--help` and the other commands need no model
    from strategies.paper.supervision import show_replay

    trust(model)
    raise typer.Exit(show_replay(out, id, json_, build_paper_page))


@command(
    app,
    "python -m strategies.paper selftest --venue local",
    "python -m strategies.paper selftest --keys testnet.env",
    "python -m strategies.paper selftest --dry-run",
)
def selftest(
    venue: Annotated[str, typer.Option(help="testnet, demo or local (the stand-in; needs no keys).")] = "testnet",
    symbol: Annotated[str, typer.Option(help="What is bought and sold, in the smallest size.")] = "BTCUSDT",
    keys: Annotated[Path | None, typer.Option(help="Key file, mode 0600 (default: environment).")] = None,
    leverage: Annotated[int, typer.Option(min=1, max=125, help="Leverage set at the exchange.")] = 10,
    endpoint: Annotated[str | None, typer.Option(help="venue local: a stand-in that runs already.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing to the venue: play on this machine, show the requests.")
    ] = False,
    out: OutOption = Path("reports"),
    json_: Json = False,
) -> None:
    """Before the first night: some 20 cards (keys, account, clock, orders, stop, streams), each with what was seen; ends flat."""
    from strategies.paper.selftest import selftest as tried  # start-up time
    from strategies.paper.settings import PaperSettings  # start-up time

    PaperSettings.read({"venue": venue, "symbol": symbol})  # told in one line where they cannot be
    raise typer.Exit(tried(venue, symbol, keys, leverage, endpoint, out, dry_run, json_))


@command(app, "python -m strategies.paper live", interrupted="no longer served; trading goes on")
def live(
    id: Annotated[str | None, typer.Argument(help="Which (default: the newest).")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0: any that is free.")] = 8766,
    out: OutOption = Path("reports"),
    json_: Json = False,
) -> None:
    """A page that follows an account while it trades: read-only, on this machine only, without reload. Ctrl-C ends it."""
    from reports.paper_live import LiveServer  # start-up time
    from strategies.paper.supervision import newest  # start-up time

    with LiveServer(newest(out, id) / "journal.sqlite", port) as server:
        typer.echo(json.dumps({"url": server.url}) if json_ else f"live page: {server.url}")
        server.serve_forever()


@command(app, "python -m strategies.paper verify")
def verify(
    id: Annotated[str | None, typer.Argument(help="Which (default: all).")] = None,
    out: OutOption = Path("reports"),
    json_: Json = False,
) -> None:
    """Are the journals sound? Integrity of the file, then every value; exit 1 where one is not."""
    from strategies.paper.supervision import verify as check  # start-up time

    raise typer.Exit(check(out, id, json_))


if __name__ == "__main__":
    sys.exit(app())
