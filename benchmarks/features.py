"""`python -m benchmarks.features`: the feature kernels beside pandas, polars, bottleneck and TA-Lib; the bank beside pandas.

Every line is measured in one run: our kernel and its rivals in turn, round after round, the best round of each counts. Everything
runs on one thread and is timed in seconds of the processor, so that other programs on the machine disturb little. On the larger
shapes only those rivals run again that were within three times the best one on the smallest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

os.environ["POLARS_MAX_THREADS"] = "1"  # read when polars is imported

import bottleneck as bn
import numpy as np
import pandas as pd
import polars as pl
import talib
import typer

from benchmarks.tables import say, table

Run = Callable[[], Any]

SLOW_S = 2.0  # what takes longer is measured once
NEAR = 3.0  # rivals further behind than this run on the smallest shape only

app = typer.Typer(add_completion=False)


def seconds(run: Run, repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """Best of `repeats`; one call costs at least what it costs, everything above is the machine's noise."""
    best = float("inf")
    for _ in range(repeats):
        began = clock()
        run()
        best = min(best, clock() - began)
    return best


def filled(x: np.ndarray, function: Callable[..., np.ndarray], *others: np.ndarray) -> np.ndarray:
    """What knows single columns only, as one table, which is what all others return."""
    if len(x) == 1:
        return function(x[0], *(other[0] for other in others))
    out = np.empty(x.shape)
    for k, row in enumerate(x):
        out[k] = function(row, *(other[k] for other in others))
    return out


class Rivals:
    """The public libraries on the same numbers, each in the layout it likes best."""

    def __init__(self, x: np.ndarray, window: int) -> None:
        self.x, self.window = x, window
        self.pandas = pd.DataFrame(x.T)
        self.polars = pl.DataFrame({str(k): row for k, row in enumerate(x)})

    def __call__(
        self, pandas: Run | None = None, bottleneck: str = "", ta: str = "", polars: pl.Expr | None = None, **more: Any
    ) -> dict[str, Run]:
        """What was given; bottleneck and ta name a function of the window."""
        found: dict[str, Run] = {"pandas": pandas} if pandas else {}
        if bottleneck:
            found["bottleneck"] = lambda: getattr(bn, bottleneck)(self.x, self.window, axis=1, **more)
        if ta:
            function, numbers = getattr(talib, ta), {"LN": (), "MOM": (1,)}.get(ta, (self.window,))
            found["TA-Lib"] = lambda: filled(self.x, lambda row: function(row, *numbers))
        if polars is not None:
            found["polars"] = lambda: self.polars.select(polars)
        return found


def cases(x: np.ndarray, y: np.ndarray, prices: np.ndarray, window: int) -> Iterator[tuple[str, Run, dict[str, Run]]]:
    """(name, our kernel on one thread, the same by the others). x, y, prices: [C, T]."""
    from nas import kernels as k

    w, every, one = window, pl.all(), {"threads": 1}
    of, of_prices, other = Rivals(x, w), Rivals(prices, w), pd.DataFrame(y.T)
    table_, rolling, levels = of.pandas, of.pandas.rolling(w), of_prices.pandas
    both = pl.DataFrame(of.polars.get_columns() + [pl.Series(f"y{i}", row) for i, row in enumerate(y)])

    yield (
        "sum",
        lambda: k.rolling_sum(x, w, **one),
        of(rolling.sum, "move_sum", "SUM", every.rolling_sum(w)),
    )
    yield (
        "mean",
        lambda: k.rolling_mean(x, w, **one),
        of(rolling.mean, "move_mean", "SMA", every.rolling_mean(w)),
    )
    yield (
        "std",
        lambda: k.rolling_std(x, w, **one),
        of(rolling.std, "move_std", "STDDEV", every.rolling_std(w), ddof=1),
    )
    yield (
        "zscore",
        lambda: k.rolling_zscore(x, w, **one),
        of(
            lambda: (table_ - rolling.mean()) / rolling.std(),
            polars=(every - every.rolling_mean(w)) / every.rolling_std(w),
        ),
    )
    yield "min", lambda: k.rolling_min(x, w, **one), of(rolling.min, "move_min", "MIN", every.rolling_min(w))
    yield "max", lambda: k.rolling_max(x, w, **one), of(rolling.max, "move_max", "MAX", every.rolling_max(w))
    yield (
        "median",
        lambda: k.rolling_median(x, w, **one),
        of(rolling.median, "move_median", polars=every.rolling_median(w)),
    )
    yield (
        "quantile 0.1",
        lambda: k.rolling_quantile(x, w, 0.1, **one),
        of(lambda: rolling.quantile(0.1), polars=every.rolling_quantile(0.1, "linear", w)),
    )
    yield (
        "rank",
        lambda: k.rolling_rank(x, w, **one),
        of(rolling.rank, "move_rank", polars=every.rolling_rank(w)),
    )
    yield "skew", lambda: k.rolling_skew(x, w, **one), of(rolling.skew, polars=every.rolling_skew(w, bias=False))
    found = of(lambda: [rolling[c].corr(other[c]) for c in table_])
    found["TA-Lib"] = lambda: filled(x, lambda a, b: talib.CORREL(a, b, w), y)
    found["polars"] = lambda: both.select(
        *(pl.rolling_corr(str(i), f"y{i}", window_size=w).alias(str(i)) for i in range(len(x)))
    )
    yield "correlation", lambda: k.rolling_correlation(x, y, w, **one), found
    found = of(lambda: [rolling[c].cov(other[c]) / other[c].rolling(w).var() for c in table_])
    yield "beta", lambda: k.rolling_beta(x, y, w, **one), found
    yield (
        "EWM mean",
        lambda: k.ewm_mean(x, w, **one),
        of(table_.ewm(span=w).mean, ta="EMA", polars=every.ewm_mean(span=w)),
    )
    yield (
        "EWM std",
        lambda: k.ewm_std(x, w, **one),
        of(table_.ewm(span=w).std, polars=every.ewm_std(span=w)),
    )
    spans = (12, 24, 48, 96)
    yield (
        "EWM mean + std, 4 spans",
        lambda: k.ewm_moments(x, spans, threads=1),
        of(lambda: [(table_.ewm(span=s).mean(), table_.ewm(span=s).std()) for s in spans]),
    )
    yield (
        "log",
        lambda: k.log(prices, **one),
        of_prices(lambda: np.log(levels), ta="LN", polars=every.log()),
    )
    yield "difference", lambda: k.difference(x, 1, **one), of(table_.diff, ta="MOM", polars=every.diff())
    yield (
        "log return",
        lambda: k.log_return(prices, 1, **one),
        of_prices(lambda: np.log(levels).diff(), polars=every.log().diff()),
    )
    yield "RSI", lambda: k.relative_strength(prices, w, **one), of_prices(ta="RSI")
    yield (
        "close-to-close volatility",
        lambda: k.realised_volatility(prices, w),
        of_prices(lambda: np.log(levels).diff().rolling(w).std(), polars=every.log().diff().rolling_std(w)),
    )
    high, low = prices * 1.01, prices * 0.99
    above, below = pd.DataFrame(high.T), pd.DataFrame(low.T)
    yield (
        "Parkinson volatility",
        lambda: k.parkinson(high, low, w),
        {"pandas": lambda: np.sqrt((np.log(above / below) ** 2).rolling(w).mean() / (4 * np.log(2)))},
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


def pandas_bank(panel: Any, choice: dict[str, tuple[str, ...]]) -> np.ndarray:
    """The same bank by pandas, a step that pipelines share computed once as well. Raw inputs come from our own code."""
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


def measured(bars: int, columns: int, window: int, repeats: int, names: set[str], near: dict[str, set[str]]) -> Found:
    """Kernel -> (ns a value, rival -> times our time). near: kernel -> the rivals worth running; filled where it is empty."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, columns, bars))
    prices = 100.0 * np.exp(np.cumsum(0.001 * x, axis=1))
    found: Found = {}
    for name, ours, rivals in cases(x, y, prices, window):
        if names and name not in names:
            continue
        ours()  # compile
        runs = {"ours": ours, **{who: run for who, run in rivals.items() if who in near.get(name, rivals)}}
        best = dict.fromkeys(runs, float("inf"))
        for turn in range(repeats):
            for who, run in runs.items():
                if turn == 0 or best[who] < SLOW_S:
                    best[who] = min(best[who], seconds(run, 1))
        mine = best.pop("ours")
        near.setdefault(name, {who for who, spent in best.items() if spent < NEAR * min(best.values())})
        found[name] = mine / x.size * 1e9, {who: spent / mine for who, spent in best.items()}
    return found


Found = dict[str, tuple[float, dict[str, float]]]


@app.command()
def main(
    shapes: Annotated[
        str, typer.Option(help="Bars x columns, several with commas between; the smallest first.")
    ] = "100000x1,2000000x1,100000x50",
    window: Annotated[int, typer.Option(help="Bars of a window, or span.")] = 48,
    repeats: Annotated[
        int, typer.Option(help="Rounds; the best of each counts. Three times as many on the smallest shape.")
    ] = 7,
    kernels: Annotated[str, typer.Option(help="Only these kernels, with commas between.")] = "",
    bank: Annotated[bool, typer.Option(help="Also the whole candidate bank, by us and by pandas.")] = True,
) -> None:
    """Kernels on one thread beside the best public one; then the candidate bank; then a warm start."""
    sizes = [tuple(map(int, shape.split("x"))) for shape in shapes.split(",")]
    near: dict[str, set[str]] = {}
    only = {name.strip() for name in kernels.split(",") if name.strip()}
    found = [
        measured(bars, columns, window, repeats * (3 if bars * columns < 1_000_000 else 1), only, near)
        for bars, columns in sizes
    ]
    heads = [f"{bars:,} bars x {columns}" for bars, columns in sizes]
    rows = [[name, *(_cell(*each[name]) for each in found)] for name in found[0]]
    say(f"window {window}, one thread: ns a value, and how many times faster than the fastest public one")
    say(table(["kernel", *heads], rows))
    slower = sorted({name for each in found for name, (_, ratios) in each.items() if min(ratios.values()) < 1.0})
    say(f"slower than a public one somewhere: {', '.join(slower) or 'none'}")
    if bank:
        _bank()
    run = subprocess.run([sys.executable, "-c", WARM_START], capture_output=True, text=True, check=True)
    imports, first, others = (float(part) for part in run.stdout.split())
    say(
        f"warm start: imports {imports:.2f} s, numba's own start with the first call {first:.2f} s, "
        f"the first call of every transform {others:.2f} s"
    )


def _cell(nanoseconds: float, ratios: dict[str, float]) -> str:
    who = min(ratios, key=lambda rival: ratios[rival])
    return f"{nanoseconds:.2f} ns, {ratios[who]:.2f}x {who}"


def _bank() -> None:
    from nas.features.bank import build_bank
    from nas.features.inputs import INPUTS

    panel = market(5 * 365 * 24, 4)
    rows = []
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
        began = time.process_time()
        theirs = pandas_bank(panel, choice)
        pandas = time.process_time() - began
        mine = build_bank(panel, choice).values
        both = np.isfinite(mine) & np.isfinite(theirs)
        both[:, :, :1_000] = False  # exponential averages start differently
        apart = float(np.abs(np.where(both, mine - theirs, 0.0)).max())
        count = sum(map(len, choice.values()))
        rows.append(
            [
                f"{title}: {count} of {len(choice)} inputs",
                f"{ours:.2f} s",
                f"{pandas:.1f} s",
                f"{pandas / ours:.1f}x",
                f"{apart:.0e}",
            ]
        )
    say(f"bank of {len(panel):,} bars x 4 assets, seconds of one core")
    say(table(["pipelines", "ours", "pandas", "ratio", "largest difference"], rows))


if __name__ == "__main__":
    app()
