"""`python -m benchmarks.volatility --data BTCUSDT_1h.parquet`: volatility forecasts by hand, refitted every 60 days, by QLIKE.

Prints, per method, QLIKE and R2 of the log over all windows of all files, its difference from EWMA(48) with a 95% interval (bootstrap
over windows, those of a date together), and the worst window against EWMA. Every method gets the factor that made it right on average
over what was known at the refit. `scale` is what `--volatility harx` uses: HARX, and of the EWMA a share that falls with the history.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from data.sources import load_panel
from nas.targets import Scale, base_columns, bias, forecast_by, get_target, qlike
from nas.targets.bases import BASES, fit_base
from nas.targets.columns import DAY_NS

DAYS = 60


def windows_of(close: np.ndarray, start: str, least_days: int) -> list[int]:
    """Bars at which methods are refitted: every 60 days of the calendar, from `start` and `least_days` of history on."""
    first = max(int(np.datetime64(start, "ns").astype(np.int64)), int(close[0]) + least_days * DAY_NS)
    period = DAYS * DAY_NS
    marks = range(-(-first // period) * period, int(close[-1]) - 20 * DAY_NS, period)
    return [int(np.searchsorted(close, mark)) for mark in marks]


def main(
    data: Annotated[list[Path], typer.Option(help="Candle files; repeatable.")],
    methods: Annotated[str, typer.Option(help="Comma separated.")] = "ewma,har,harx,harxl,scale,garch,boosting",
    start: Annotated[str, typer.Option(help="First window, UTC.")] = "2022-06-01",
    horizon: Annotated[int, typer.Option(help="Bars ahead.")] = 24,
    target: Annotated[str, typer.Option(help="volatility or range.")] = "volatility",
    least_days: Annotated[int, typer.Option(help="History before the first window.")] = 180,
) -> None:
    """Volatility forecasts by hand on candle files."""
    what, names = get_target(target), methods.split(",")
    losses: dict[str, dict[tuple[int, str], float]] = {name: {} for name in names}
    squares: dict[str, list[np.ndarray]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for path in data:
        symbol = path.name.split("_")[0].split(".")[0]
        panel = load_panel((symbol,), "60", files=(path,))
        close = panel.close_times.astype("datetime64[ns]").astype(np.int64)
        refits = windows_of(close, start, least_days)
        edges = [*refits, len(panel)]
        label = what.label(panel, horizon)
        for name in names:
            began = time.perf_counter()
            if name == "scale":
                forecast = np.log(Scale.fit(panel, "harx").volatility(panel)).T
            else:
                forecast = forecast_by(name, panel, what, horizon, refits)
            seconds[name] += time.perf_counter() - began
            for k, begin in enumerate(refits):
                part = slice(begin, edges[k + 1])
                factor = 1.0
                known = slice(0, begin - horizon)
                if name in BASES:
                    columns = base_columns(name, panel, what, horizon)
                    fitted = fit_base(name, columns, label, known).forecast(columns)
                    factor = bias(label[:, known], fitted[:, known], what.power)
                elif name != "scale":  # out of sample where it was refitted before, else as it comes
                    factor = bias(label[:, known], forecast[:, known], what.power)
                loss = qlike(label[0, part], forecast[0, part], what.power, factor)
                mark = (int(close[begin]), symbol)
                losses[name][mark] = float(np.nanmean(loss))
                squares[name].append((label[0, part] - forecast[0, part] - 0.5 * np.log(factor)) ** 2)
    rng = np.random.default_rng(0)
    marks = sorted(losses[names[0]])
    dates = sorted({mark[0] for mark in marks})
    print(f"{target} of {horizon} bars, {len(data)} files, {len(marks)} windows of {DAYS} days on {len(dates)} dates")
    reference = losses[names[0]]
    for name in names:
        by_date = [np.mean([losses[name][m] - reference[m] for m in marks if m[0] == d]) for d in dates]
        drawn = [np.mean(rng.choice(by_date, len(by_date))) for _ in range(5_000)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        ratio = {m: losses[name][m] / reference[m] for m in marks}
        worst = max(ratio, key=lambda m: ratio[m])
        rmse = float(np.sqrt(np.nanmean(np.concatenate(squares[name]))))
        day = str(np.datetime64(worst[0], "ns"))[:10]
        print(
            f"  {name:9s} QLIKE {np.mean(list(losses[name].values())):.3f}  "
            f"- {names[0]} {np.mean(by_date):+.3f} ({low:+.3f} to {high:+.3f})  "
            f"RMSE of the log {rmse:.3f}  worst window {ratio[worst]:.2f} ({worst[1]} {day})  {seconds[name]:.1f} s"
        )


if __name__ == "__main__":
    typer.run(main)
