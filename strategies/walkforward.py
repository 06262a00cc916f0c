"""The main job: `python -m strategies.walkforward --symbol BTCUSDT`."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_EPILOG = (
    "Examples:  python -m strategies.walkforward --symbol BTCUSDT --preset quick  |  "
    "python -m strategies.walkforward --symbol BTCUSDT --data candles.parquet --funding funding.parquet  |  "
    "python -m strategies.walkforward --preset thorough --print-config > run.toml, then --config run.toml"
)


@app.command(epilog=_EPILOG)
def main(
    symbol: Annotated[str | None, typer.Option(help="One symbol or several: BTCUSDT,ETHUSDT.")] = None,
    interval: Annotated[str | None, typer.Option(help="Bar length as Bybit names it: 1 5 15 30 60 240 D.")] = None,
    start: Annotated[str | None, typer.Option(help="First bar, UTC, e.g. 2023-01-01.")] = None,
    end: Annotated[str | None, typer.Option(help="History ends before this time, UTC.")] = None,
    source: Annotated[str | None, typer.Option(help="auto, bybit or simulated.")] = None,
    category: Annotated[
        str | None, typer.Option(help="linear (perpetuals) or spot (no shorts, no funding, spot fees).")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="CSV or Parquet candles instead of a source; one per symbol.")
    ] = None,
    funding: Annotated[list[Path] | None, typer.Option(help="Funding settlements of the same symbols.")] = None,
    timeframes: Annotated[
        str | None, typer.Option(help="Longer candles the features may use: 240,D (each seen after its close).")
    ] = None,
    fill_gaps: Annotated[
        bool | None, typer.Option("--fill-gaps", help="Fill missing bars with the last close.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="quick, default or thorough (default: default).")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any of these flags (fill_gaps = true) and settings.")
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", help="Print every setting as it would be used, as a file for --config, and stop."
        ),
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Same seed, same data, same code: same bytes.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Searches per window, the best by validation trades.")] = None,
    train: Annotated[str | None, typer.Option(help="Training stretch, e.g. 180d or bars.")] = None,
    validation: Annotated[str | None, typer.Option(help="Validation stretch.")] = None,
    test: Annotated[str | None, typer.Option(help="Unseen stretch that is traded.")] = None,
    step: Annotated[str | None, typer.Option(help="How far each window moves (default: the test length).")] = None,
    purge: Annotated[
        str | None, typer.Option(help="Bars between train and validation (default: what labels and network reach).")
    ] = None,
    embargo: Annotated[str | None, typer.Option(help="Bars between validation and test (default: the purge).")] = None,
    anchored: Annotated[
        bool | None, typer.Option("--anchored", help="Every training stretch starts at the first bar.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="When to search again, several side by side: every, period:N, drift, never, frozen, random."),
    ] = None,
    warm_start: Annotated[
        bool | None, typer.Option("--warm-start", help="Each search starts from the last window's relaxed weights.")
    ] = None,
    ensemble: Annotated[
        bool | None, typer.Option("--ensemble", help="Trade the mean forecast of the seeds instead of the best seed.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Search variants that compete (docs/variants.md); validation chooses.")
    ] = None,
    search_fraction: Annotated[
        float | None, typer.Option(help="Share of the training stretches that a search epoch looks at.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="huber, squared, direction or sharpe.")] = None,
    share: Annotated[
        str | None, typer.Option(help="Several symbols: all weights shared, embedding (and a vector each), or none.")
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(
            help="Several symbols: equal_risk, volatility_target, long_short, mean_risk or hrp (docs/many-assets.md)."
        ),
    ] = None,
    gross_limit: Annotated[float | None, typer.Option(help="Most sum of |weights|, in equities.")] = None,
    net_limit: Annotated[float | None, typer.Option(help="Most |sum of weights|, in equities.")] = None,
    fees: Annotated[
        str | None,
        typer.Option(
            help="Fees of single symbols in basis points, taker or taker/maker: BTCUSDT=4,SOLUSDT=10/4. "
            "The others pay taker_fee_bps and maker_fee_bps."
        ),
    ] = None,
    horizon: Annotated[str | None, typer.Option(help="Bars ahead that are forecast; the first one trades.")] = None,
    baselines: Annotated[str | None, typer.Option(help="Rivals: all, none, or names of networks and rules.")] = None,
    rules: Annotated[str | None, typer.Option(help="Trading rules to compete with.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes (default: all cores).")] = None,
    device: Annotated[str | None, typer.Option(help="Where networks are trained: cpu, cuda or auto.")] = None,
    engine: Annotated[str | None, typer.Option(help="Where tasks run: local (processes, the default) or ray.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to use (default: one started on this machine).")
    ] = None,
    gpus_per_task: Annotated[
        float | None, typer.Option(help="Share of a GPU that each task holds on Ray (default: 0).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs/, latest and index.html (default: reports).")
    ] = None,
    fresh: Annotated[
        bool | None, typer.Option("--fresh", help="Forget what an earlier run of this command finished.")
    ] = None,
    dry_run: Annotated[bool | None, typer.Option("--dry-run", help="Show the windows and stop.")] = None,
    pages: Annotated[
        bool | None,
        typer.Option("--pages/--no-pages", help="Write the HTML pages (the default), or only the data files."),
    ] = None,
    profile: Annotated[bool | None, typer.Option("--profile", help="Seconds per stage, the slowest named.")] = None,
    tensorboard: Annotated[
        bool | None, typer.Option("--tensorboard", help="Also write the searches for TensorBoard, while they run.")
    ] = None,
    mlflow: Annotated[str | None, typer.Option(help="Also log the run to this MLflow server or store.")] = None,
    quiet: Annotated[bool | None, typer.Option("--quiet", help="No progress, only the result.")] = None,
    json_: Annotated[bool | None, typer.Option("--json", help="Headline figures as JSON on standard output.")] = None,
) -> None:
    """Search a network on every rolling window, trade it out of sample under costs, compare it with hand-designed rivals.

    Writes OUT/runs/<id>/index.html (OUT/latest points to it). The same command resumes an interrupted run.
    """
    given: dict[str, Any] = dict(locals())
    from data.panel import InputError

    try:
        from strategies.config import RunConfig, resolve_all, to_toml
        from strategies.job import Options, options_of, run_job

        how = [field.name for field in fields(Options)]
        flags = {name: value for name, value in given.items() if name in RunConfig.model_fields or name in how}
        flags["data"] = tuple(str(p) for p in data) if data else None
        flags["funding"] = tuple(str(p) for p in funding) if funding else None
        flags["json"] = json_
        settings, rest = resolve_all(preset, config, flags, how)
        options = options_of(rest)
        if print_config:
            sys.stdout.write(to_toml(settings.model_dump()) + to_toml(asdict(options)))
            return
        run_job(settings, options)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: finished tasks are kept; the same command goes on from here", err=True)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    sys.exit(app())
