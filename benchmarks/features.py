"""`python -m benchmarks.features`: how fast the feature kernels are beside pandas, bottleneck, TA-Lib and a plain copy of the memory.

Every line is measured in one run: the copy, our kernel and its rivals in turn, round after round, the best round of each
counts. Single-threaded work is timed in seconds of the processor, so that other programs on the machine disturb little.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

Run = Callable[[], Any]

SLOW_S = 2.0  # what takes longer is measured once

app = typer.Typer(add_completion=False)


def seconds(run: Run, repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """Best of `repeats`; one call costs at least what it costs, everything above is the machine's noise."""
    best = float("inf")
    for _ in range(repeats):
        began = clock()
        run()
        best = min(best, clock() - began)
    return best


def cases(x: np.ndarray, y: np.ndarray, prices: np.ndarray, window: int) -> Iterator[tuple[str, Run, dict[str, Run]]]:
    """(name, our kernel on one thread with a reused buffer, the same by the others). x, y, prices: [C, T]."""
    import pandas as pd

    from nas import kernels as k

    table, other, levels = pd.DataFrame(x.T), pd.DataFrame(y.T), pd.DataFrame(prices.T)
    rolling, w = table.rolling(window), window
    ours: dict[str, Any] = {"threads": 1}
    try:
        import bottleneck as bn
    except ImportError:
        bn = None
    try:
        import talib
    except ImportError:
        talib = None

    def rivals(
        pandas: Run | None = None, bottleneck: str = "", ta: str = "", data: np.ndarray = x, **more: Any
    ) -> dict[str, Run]:
        found: dict[str, Run] = {"pandas": pandas} if pandas else {}
        if bottleneck and bn is not None:
            found["bottleneck"] = lambda: getattr(bn, bottleneck)(data, w, axis=1, **more)
        if ta and talib is not None:
            function = getattr(talib, ta)
            if ta in ("CORREL", "BETA"):
                found["TA-Lib"] = lambda: [function(a, b, w) for a, b in zip(x, y, strict=True)]
            elif ta == "LN":
                found["TA-Lib"] = lambda: [function(row) for row in data]
            else:
                found["TA-Lib"] = lambda: [function(row, 1 if ta == "MOM" else w) for row in data]
        return found

    yield "sum", lambda: k.rolling_sum(x, w, **ours), rivals(rolling.sum, "move_sum", "SUM")
    yield "mean", lambda: k.rolling_mean(x, w, **ours), rivals(rolling.mean, "move_mean", "SMA")
    yield "std", lambda: k.rolling_std(x, w, **ours), rivals(rolling.std, "move_std", "STDDEV", ddof=1)
    yield (
        "zscore",
        lambda: k.rolling_zscore(x, w, **ours),
        rivals(lambda: (table - rolling.mean()) / rolling.std()),
    )
    yield "min", lambda: k.rolling_min(x, w, **ours), rivals(rolling.min, "move_min", "MIN")
    yield "max", lambda: k.rolling_max(x, w, **ours), rivals(rolling.max, "move_max", "MAX")
    yield "median", lambda: k.rolling_median(x, w, **ours), rivals(rolling.median, "move_median")
    yield "quantile 0.1", lambda: k.rolling_quantile(x, w, 0.1, **ours), rivals(lambda: rolling.quantile(0.1))
    yield "rank", lambda: k.rolling_rank(x, w, **ours), rivals(rolling.rank, "move_rank")
    yield "skew", lambda: k.rolling_skew(x, w, **ours), rivals(rolling.skew)
    yield (
        "correlation",
        lambda: k.rolling_correlation(x, y, w, **ours),
        rivals(lambda: [rolling[c].corr(other[c]) for c in table], ta="CORREL"),
    )
    yield (
        "beta",
        lambda: k.rolling_beta(x, y, w, **ours),
        rivals(lambda: [rolling[c].cov(other[c]) / other[c].rolling(w).var() for c in table], ta="BETA"),
    )
    yield "EWM mean", lambda: k.ewm_mean(x, w, **ours), rivals(table.ewm(span=w).mean, ta="EMA")
    yield "EWM std", lambda: k.ewm_std(x, w, **ours), rivals(table.ewm(span=w).std)
    yield (
        "EWM mean + std, 4 spans",
        lambda: k.ewm_moments(x, (12, 24, 48, 96), threads=1),
        rivals(lambda: [(table.ewm(span=s).mean(), table.ewm(span=s).std()) for s in (12, 24, 48, 96)]),
    )
    yield "log", lambda: k.log(prices, **ours), rivals(lambda: np.log(levels), ta="LN", data=prices)
    yield "difference", lambda: k.difference(x, 1, **ours), rivals(table.diff, ta="MOM")
    yield (
        "log return",
        lambda: k.log_return(prices, 1, **ours),
        rivals(lambda: np.log(levels).diff(), data=prices),
    )
    yield "fractional difference, 48 wide", lambda: k.fractional_difference(x, 0.4, 48, **ours), {}
    yield "RSI", lambda: k.relative_strength(prices, w, **ours), rivals(ta="RSI", data=prices)
    yield (
        "close-to-close volatility",
        lambda: k.realised_volatility(prices, w),
        rivals(lambda: np.log(levels).diff().rolling(w).std()),
    )
    high, low = prices * 1.01, prices * 0.99
    pairs = pd.DataFrame(high.T), pd.DataFrame(low.T)
    yield (
        "Parkinson volatility",
        lambda: k.parkinson(high, low, w),
        rivals(lambda: np.sqrt((np.log(pairs[0] / pairs[1]) ** 2).rolling(w).mean() / (4 * np.log(2)))),
    )


def market(bars: int, assets: int) -> Any:
    """A panel with every field an input asks for."""
    from data.panel import Panel

    rng = np.random.default_rng(0)
    shape = (bars, assets)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, shape), axis=0))
    opening = close * np.exp(rng.normal(0, 0.005, shape))
    values = {
        "open": opening,
        "high": np.maximum(opening, close) * np.exp(rng.exponential(0.002, shape)),
        "low": np.minimum(opening, close) * np.exp(-rng.exponential(0.002, shape)),
        "close": close,
        "volume": rng.lognormal(3, 1, shape),
        "funding_rate": np.repeat(rng.normal(1e-4, 1e-4, (bars // 8 + 1, assets)), 8, axis=0)[:bars],
        "open_interest": rng.lognormal(8, 0.1, shape),
        "premium": rng.normal(0, 1e-4, shape),
        "spread": rng.lognormal(-9, 0.3, shape),
        "imbalance": rng.uniform(-1, 1, shape),
    }
    stamps = np.datetime64("2020-01-01", "ns") + np.arange(bars) * np.timedelta64(3_600_000_000_000, "ns")
    names = tuple(f"A{i}" for i in range(assets))
    return Panel(stamps, names, tuple(values), np.stack(list(values.values()), axis=-1), 3_600_000_000_000, "benchmark")


def pandas_bank(panel: Any, choice: dict[str, tuple[str, ...]], advance: Callable[[], None]) -> np.ndarray:
    """The same bank by pandas, a step that pipelines share computed once as well. Raw inputs come from our own code."""
    import pandas as pd

    from nas.features.inputs import INPUTS
    from nas.features.transforms import CLIP_WINDOW, FRACTIONAL_WIDTH, parse_pipeline
    from nas.kernels import fractional_weights

    def fractional(table: pd.DataFrame, tenths: int) -> pd.DataFrame:
        weights = fractional_weights(tenths / 10.0, FRACTIONAL_WIDTH)
        total = table * weights[0]
        for lag, weight in enumerate(weights[1:], 1):
            total = total + table.shift(lag) * weight
        return total

    def clip(table: pd.DataFrame, deviations: int) -> pd.DataFrame:
        mean, std = table.rolling(CLIP_WINDOW).mean(), table.rolling(CLIP_WINDOW).std()
        return table.clip(mean - deviations * std, mean + deviations * std)

    def ewm(table: pd.DataFrame, span: int) -> pd.DataFrame:
        window = table.ewm(span=span, min_periods=span // 2)
        return (table - window.mean()) / window.std()

    def rsi(table: pd.DataFrame, span: int) -> pd.DataFrame:
        change = table.diff()
        up = change.clip(lower=0).ewm(alpha=1 / span, adjust=False).mean()
        down = (-change.clip(upper=0)).ewm(alpha=1 / span, adjust=False).mean()
        return 2 * up / (up + down) - 1

    steps: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
        "raw": lambda table, _: table,
        "log": lambda table, _: np.log(table.where(table > 0)),
        "diff": lambda table, n: table.diff(n),
        "fracdiff": fractional,
        "sum": lambda table, n: table.rolling(n).sum(),
        "zscore": lambda table, n: (table - table.rolling(n).mean()) / table.rolling(n).std(),
        "rank": lambda table, n: (table.rolling(n).rank() - 1) * (2 / (n - 1)) - 1,
        "ewm": ewm,
        "clip": clip,
        "rsi": rsi,
    }
    rows = []
    for name, pipelines in choice.items():
        done = {"": pd.DataFrame(INPUTS[name].compute(panel).T)}
        for pipeline in pipelines:
            key, table = "", done[""]
            for step, number in parse_pipeline(pipeline):
                key += f">{step.name}{number}"
                if key not in done:
                    done[key] = steps[step.name](table, number)
                table = done[key]
            rows.append(table.to_numpy(dtype=np.float32).T)
            advance()
    return np.stack(rows, axis=1)


WARM_START = """
import time
began = time.process_time()
import numpy, numba
import nas.kernels as k, nas.features.transforms as t
imported = time.process_time()
x = numpy.exp(numpy.random.default_rng(0).standard_normal((2, 400)))
k.log(x)
started = time.process_time()
for step in t.TRANSFORMS.values():
    step.apply(x, step.parameter or 0)
print(imported - began, started - imported, time.process_time() - started)
"""


@app.command()
def main(
    bars: Annotated[int, typer.Option(help="Bars of each column.")] = 1_000_000,
    columns: Annotated[int, typer.Option(help="Columns.")] = 20,
    window: Annotated[int, typer.Option(help="Bars of a window, or span.")] = 48,
    repeats: Annotated[int, typer.Option(help="Rounds; the best of each counts.")] = 5,
    bank: Annotated[bool, typer.Option(help="Also the whole candidate bank, by us and by pandas.")] = True,
) -> None:
    """Kernels on one thread beside pandas, bottleneck, TA-Lib and a copy; then the candidate bank; then a warm start."""
    console = Console()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, columns, bars))
    prices = 100.0 * np.exp(np.cumsum(0.001 * x, axis=1))
    target = np.zeros(x.shape)
    values = x.size
    table = Table(title=f"{bars:,} bars x {columns} columns, window {window}, one thread; how many times faster than")
    for heading in ("kernel", "ns a value", "pandas", "bottleneck", "TA-Lib", "times a copy"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    slower = []
    with console.status("") as status:
        for name, ours, rivals in cases(x, y, prices, window):
            status.update(f"measuring {name}")
            ours()  # compile, touch the buffer
            runs = {"copy": lambda: np.copyto(target, x), "ours": ours, **rivals}
            best = dict.fromkeys(runs, float("inf"))
            for turn in range(repeats):
                for who, run in runs.items():
                    if turn == 0 or best[who] < SLOW_S:
                        best[who] = min(best[who], seconds(run, 1))
            copy, mine = best["copy"], best["ours"]
            ratios = {rival: best[rival] / mine for rival in rivals}
            slower += [f"{name} ({rival} {ratio:.2f})" for rival, ratio in ratios.items() if ratio < 1.0]
            table.add_row(
                name,
                f"{mine / values * 1e9:.2f}",
                *(f"{ratios[r]:.1f}x" if r in ratios else "" for r in ("pandas", "bottleneck", "TA-Lib")),
                f"{mine / copy:.1f}",
            )
    console.print(table)
    console.print(f"slower than a rival: {', '.join(slower) or 'none'}", markup=False)
    _threads(console, x, window, repeats)
    if bank:
        _bank(console)
    run = subprocess.run([sys.executable, "-c", WARM_START], capture_output=True, text=True, check=True)
    imports, first, others = (float(part) for part in run.stdout.split())
    console.print(
        f"warm start: imports {imports:.2f} s, numba's own start with the first call {first:.2f} s, "
        f"the first call of every transform {others:.2f} s"
    )


def _threads(console: Console, x: np.ndarray, window: int, repeats: int) -> None:
    from nas import kernels

    for name in ("rolling_mean", "rolling_zscore", "rolling_rank"):
        kernel = getattr(kernels, name)
        one, two = (seconds(partial(kernel, x, window, threads=n), repeats, time.perf_counter) for n in (1, 2))
        console.print(f"{name} on 2 threads: {one / two:.2f}x")


def _bank(console: Console) -> None:
    from rich.progress import Progress

    from nas.features.bank import build_bank
    from nas.features.inputs import INPUTS

    panel = market(5 * 365 * 24, 4)
    for title, all_of_them in (("default candidates", False), ("every two-step pipeline", True)):
        choice = {
            name: tuple(
                p for p in (raw.all_candidates if all_of_them else raw.candidates) if not p.startswith("log>diff24")
            )
            for name, raw in INPUTS.items()
            if raw.candidates
        }
        build_bank(panel.cut(0, 400), choice)
        ours = seconds(partial(build_bank, panel, choice, threads=1), 3)
        wall = seconds(partial(build_bank, panel, choice, threads=2), 3, time.perf_counter)
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("the same by pandas", total=sum(map(len, choice.values())))
            began, clock = time.process_time(), time.perf_counter()
            theirs = pandas_bank(panel, choice, lambda: progress.advance(bar))  # noqa: B023
            pandas, pandas_wall = time.process_time() - began, time.perf_counter() - clock
        mine = build_bank(panel, choice).values
        both = np.isfinite(mine) & np.isfinite(theirs)
        both[:, :, :1_000] = False  # exponential averages start differently
        apart = float(np.abs(np.where(both, mine - theirs, 0.0)).max())
        rows = sum(map(len, choice.values()))
        console.print(
            f"bank of {title}: {rows} pipelines of {len(choice)} inputs, {len(panel):,} bars x 4 assets: {ours:.2f} s of the "
            f"processor, pandas {pandas:.1f} s: {pandas / ours:.1f}x; by the clock {wall:.2f} s on 2 threads, pandas {pandas_wall:.1f} s: "
            f"{pandas_wall / wall:.1f}x (largest difference {apart:.1e})"
        )


if __name__ == "__main__":
    app()
