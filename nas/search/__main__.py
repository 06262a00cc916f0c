"""One search on one stretch of a market, watched while it runs: `python -m nas.search --data candles.csv`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

from data.atomic import make_folder, write_text
from data.commandline import Json, Quiet, application, command
from data.errors import InputError
from data.progress import console_of

app = application()
_BARS = "▁▂▃▄▅▆▇█"
_CURVES = ("train_loss", "validation_loss", "validation_correlation", "entropy", "eigenvalue", "gap", "gradient_norm")


@command(
    app,
    "python -m nas.search --data candles.parquet --variant darts --out found",
    "python -m nas.search --source simulated --epochs 10 --json",
)
def main(
    data: Annotated[
        list[Path] | None, typer.Option(help="CSV or Parquet candles instead of a source; one per symbol.")
    ] = None,
    funding: Annotated[list[Path] | None, typer.Option(help="Funding settlements of the same symbols.")] = None,
    symbol: Annotated[str, typer.Option(help="One symbol or several: BTCUSDT,ETHUSDT.")] = "BTCUSDT",
    interval: Annotated[str, typer.Option(help="Bar length as Bybit names it: 1 5 15 30 60 240 D.")] = "60",
    start: Annotated[str | None, typer.Option(help="First bar, UTC, e.g. 2023-01-01.")] = None,
    end: Annotated[str | None, typer.Option(help="History ends before this time, UTC.")] = None,
    source: Annotated[str, typer.Option(help="auto, bybit or simulated.")] = "auto",
    fill_gaps: Annotated[bool, typer.Option("--fill-gaps", help="Fill missing bars with the last close.")] = False,
    variant: Annotated[
        str, typer.Option(help="Search variant, e.g. darts, darts-2nd, pc, fair, plus, gdas.")
    ] = "darts",
    horizon: Annotated[str, typer.Option(help="Bars ahead that are forecast: 6 or 1,6,24.")] = "6",
    loss: Annotated[str, typer.Option(help="huber, squared, direction or sharpe.")] = "huber",
    epochs: Annotated[
        int, typer.Option("--search-epochs", "--epochs", help="Passes of a search over its training stretch.")
    ] = 50,
    search_fraction: Annotated[
        float, typer.Option(help="Share of the training stretches that a search epoch looks at.")
    ] = 1.0,
    nodes: Annotated[int, typer.Option(help="Nodes of the cell.")] = 2,
    cell_inputs: Annotated[int, typer.Option(help="What a cell reads: 1, the cell before; 2, the two before.")] = 1,
    cells: Annotated[int, typer.Option(help="Cells on top of each other.")] = 1,
    channels: Annotated[int, typer.Option(help="Channels of the network.")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Same seed, same data, same code: same bytes.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for search.json, network.svg and curves.svg.")] = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Search one network on one stretch; the first three quarters train weights, the last quarter the architecture."""
    # start-up time: `--help` needs no torch
    import torch
    from rich.live import Live

    from data.sources import load_panel
    from nas.search.single import search
    from nas.search.variants import get_variant
    from nas.space.drawing import draw_curves

    console = console_of(json_, quiet)
    rows: list[dict[str, Any]] = []
    try:
        get_variant(variant)
        torch.set_num_threads(1)
        if not all(part.strip().isdigit() and int(part) for part in horizon.split(",")):
            raise InputError(f"--horizon {horizon!r} is no list of bars ahead: give e.g. 6 or 1,6,24")
        if out is not None:
            make_folder(out, "--out")
        panel = load_panel(
            tuple(s.strip() for s in symbol.split(",")), interval, start=start, end=end, source=source,
            files=tuple(data or ()), funding_files=tuple(funding or ()), fill_gaps=fill_gaps, seed=seed,
            echo=lambda text: console.print(text, markup=False),
        )  # fmt: skip
        if panel.simulated:
            console.print("[bold black on yellow] SIMULATED MARKET [/] no real prices")
        with Live(console=console, auto_refresh=False, transient=False) as live:

            def show(row: dict[str, Any]) -> None:
                rows.append(row)
                live.update(curves(rows, epochs), refresh=True)

            found = search(
                panel, variant=variant, horizon=[int(part) for part in horizon.split(",")], seed=seed, nodes=nodes, cells=cells,
                cell_inputs=cell_inputs,
                channels=channels, epochs=epochs, loss=loss, fraction=search_fraction, on_record=show,
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted after {len(rows)} of {epochs} epochs: nothing was written", err=True)
        raise typer.Exit(130) from None
    if out is not None:
        write_text(out / "search.json", found.to_json() + "\n")
        write_text(out / "network.svg", found.svg)
        write_text(out / "curves.svg", draw_curves(found.history, _CURVES))
    if json_:
        typer.echo(found.to_json())
        return
    typer.echo(found.text)
    typer.echo("reads " + ", ".join(f"{name} as {pipeline}" for name, pipeline in found.genotype.features))
    if found.decisions is not None:
        typer.echo(found.decisions.text)
    if found.note:
        typer.echo(found.note)


def curves(rows: list[dict[str, Any]], epochs: int) -> RenderableType:
    """The history so far: one line per measured field, the leading ops below."""
    from rich.table import Table  # start-up time

    table = Table(title=f"epoch {len(rows)} of {epochs}", title_justify="left", box=None, padding=(0, 1))
    for name in ("", "course", "now"):
        table.add_column(name)
    for name in _CURVES:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            table.add_row(name.replace("_", " "), spark(values), f"{values[-1]:.4g}")
    leading = ", ".join(f"{op} {count}" for op, count in rows[-1]["op_histogram"].items())
    table.add_row("leading ops", leading, "")
    return table


def spark(values: list[float], width: int = 50) -> str:
    """The last `width` values as block characters between their least and greatest."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BARS[round((v - low) / span * (len(_BARS) - 1))] for v in shown)


if __name__ == "__main__":
    sys.exit(app())
