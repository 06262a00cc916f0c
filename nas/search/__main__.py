"""One search on one stretch of a market, watched while it runs: `python -m nas.search --data candles.csv`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from data.atomic import make_folder, write_text
from data.commandline import application, command
from data.market_settings import MARKET
from data.progress import console_of
from data.settings import flags_of
from nas.search.request import SEARCH, SearchRequest

if TYPE_CHECKING:
    from rich.console import RenderableType

app = application()
_BARS = "▁▂▃▄▅▆▇█"
_CURVES = ("train_loss", "validation_loss", "validation_correlation", "entropy", "eigenvalue", "gap", "gradient_norm")


@command(
    app,
    "python -m nas.search --data candles.parquet --variant darts --out found",
    "python -m nas.search --source simulated --epochs 10 --json",
)
@flags_of(SearchRequest, groups=(MARKET, SEARCH))
def main(**given: Any) -> None:
    """Search one network on one stretch; the first three quarters train weights, the last quarter the architecture.

    With --out a search that was interrupted goes on: the same command, the same result."""
    asked = SearchRequest.read(given)
    # start-up time: `--help` needs no torch
    import torch
    from rich.live import Live

    from data.sources import load_market
    from nas.search.single import search
    from nas.search.variants import get_variant
    from nas.space.drawing import draw_curves

    console = console_of(asked.as_json, asked.quiet)
    rows: list[dict[str, Any]] = []
    try:
        get_variant(asked.variant)
        torch.set_num_threads(1)
        held = None
        if asked.out is not None:
            make_folder(asked.out, "--out")
            held = asked.out / "search.part"
        panel = load_market(asked, asked.seed, echo=lambda text: console.print(text, markup=False))
        if panel.simulated:
            console.print("[bold black on yellow] SIMULATED MARKET [/] no real prices")
        with Live(console=console, auto_refresh=False, transient=False) as live:

            def show(row: dict[str, Any]) -> None:
                rows.append(row)
                live.update(curves(rows, asked.epochs), refresh=True)

            found = search(
                panel, variant=asked.variant, horizon=asked.horizon, seed=asked.seed, nodes=asked.nodes, cells=asked.cells,
                cell_inputs=asked.cell_inputs,
                channels=asked.channels, epochs=asked.epochs, loss=asked.loss, fraction=asked.search_fraction, on_record=show,
                checkpoint=held,
            )  # fmt: skip
    except KeyboardInterrupt:
        kept = asked.out is not None and (asked.out / "search.part").exists()
        then = "the same command goes on from there" if kept else "nothing was written"
        typer.echo(f"\ninterrupted after {len(rows)} of {asked.epochs} epochs: {then}", err=True)
        raise typer.Exit(130) from None
    if asked.out is not None:
        write_text(asked.out / "search.json", found.to_json() + "\n")
        write_text(asked.out / "network.svg", found.svg)
        write_text(asked.out / "curves.svg", draw_curves(found.history, _CURVES))
    if asked.as_json:
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
