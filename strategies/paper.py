"""python -m strategies.paper: the chosen network trades Bybit testnet (or demo, or the stand-in on this machine), unattended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True,
    help="Paper trading: --run RUN --symbol BTCUSDT trades; status and stop look after it.",
    epilog="Examples:  python -m strategies.paper --venue local  |  python -m strategies.paper status  |  python -m strategies.paper stop",
)  # fmt: skip
OutOption = Annotated[Path, typer.Option(help="Folder of paper/<id>/ and paper/<id>.html.")]


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    run: Annotated[Path, typer.Option(help="A walk-forward run's folder; its last window's model trades.")] = Path(
        "reports/latest"
    ),
    symbol: Annotated[str, typer.Option(help="One symbol of that run.")] = "BTCUSDT",
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
    leverage: Annotated[int, typer.Option(help="Leverage set at the exchange.")] = 10,
    foreign: Annotated[str, typer.Option(help="Positions and orders not ours: halt, adopt or flatten.")] = "halt",
    max_position: Annotated[float, typer.Option(help="Largest |position|, in equities.")] = 3.0,
    daily_loss: Annotated[float, typer.Option(help="Loss of a day (fraction) that halts.")] = 0.10,
    drawdown: Annotated[float, typer.Option(help="Drawdown (fraction) that halts.")] = 0.30,
    orders_per_bar: Annotated[int, typer.Option(help="Orders for one bar that halt.")] = 10,
    collar_bps: Annotated[
        float, typer.Option(help="No order while the price is further from the close than this.")
    ] = 300.0,
    stale_s: Annotated[
        float, typer.Option(help="Seconds without data after which nothing is entered (default: 3 bars, at least 180).")
    ] = 0.0,
    on_stop: Annotated[str, typer.Option(help="keep or flatten the position when stopped (SIGTERM, Ctrl-C).")] = "keep",
    on_halt: Annotated[str, typer.Option(help="keep or flatten the position on a halt.")] = "keep",
    resume: Annotated[bool, typer.Option("--resume", help="Go on after a halt; losses count anew.")] = False,
    research: Annotated[str | None, typer.Option(help="Search again in a second process: weekly or drift.")] = None,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Trade a model made by another version of the code.")
    ] = False,
    webhook: Annotated[str | None, typer.Option(envvar="PAPER_WEBHOOK", help="URL told of a halt (JSON POST).")] = None,
    bars: Annotated[int | None, typer.Option(help="Stop after so many bars.")] = None,
    history: Annotated[
        int | None, typer.Option(help="Closed bars loaded at the first start (default: what the model needs).")
    ] = None,
    speed: Annotated[float, typer.Option(help="venue local: exchange seconds per real second.")] = 7_200.0,
    endpoint: Annotated[str | None, typer.Option(help="venue local: a stand-in that runs already.")] = None,
    out: OutOption = Path("reports"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No live view.")] = False,
) -> None:
    """Trade until stopped. The same command goes on from where it was, whatever ended it."""
    if context.invoked_subcommand is not None:
        return
    flags = {name: value for name, value in locals().items() if name != "context"}

    def begin() -> int:
        from strategies.session import Settings, trade

        return trade(Settings(**flags))

    _guarded(begin)


@app.command()
def status(
    id: Annotated[str | None, typer.Argument(help="Which (default: all).")] = None, out: OutOption = Path("reports")
) -> None:
    """State, position, equity and the last events; of all paper accounts, or one."""
    from strategies.oversight import show_status

    _guarded(lambda: show_status(out, id))


@app.command()
def stop(
    id: Annotated[str | None, typer.Argument(help="Which (default: the only one that runs).")] = None,
    flatten: Annotated[bool, typer.Option("--flatten", help="Close the position too.")] = False,
    keys: Annotated[
        Path | None, typer.Option(help="Key file; needed where no process runs and the account must be cleaned up.")
    ] = None,
    out: OutOption = Path("reports"),
) -> None:
    """The kill switch: cancels orders, closes the position if asked, ends the process."""
    from strategies.oversight import stop_paper

    _guarded(lambda: stop_paper(out, id, flatten, keys))


@app.command()
def replay(
    id: Annotated[str | None, typer.Argument(help="Which (default: the newest).")] = None,
    out: OutOption = Path("reports"),
) -> None:
    """The same bars through the backtest: are the targets identical, and where does the profit differ? Writes the page anew."""
    from strategies.oversight import show_replay

    _guarded(lambda: show_replay(out, id))


def _guarded(act: Any) -> None:
    from data.panel import InputError

    try:
        code = act()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: the journal is kept; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    raise typer.Exit(int(code or 0))


if __name__ == "__main__":
    sys.exit(app())
