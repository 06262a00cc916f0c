"""How many bars a second the accounts walk, one core: `python -m benchmarks.account`.

    python -m benchmarks.account --data BTCUSDT.parquet --funding BTCUSDT_funding.parquet

One asset with funding and margin, positions of -1, 0 or 1 that change every so many bars: the kernel on many plans at once, against the
kernel before it (one plan a call; now the tests' reference, compiled here), Backtrader, and vectorbt (without funding and margin)
where it is installed. Then the timing null: thousands of shifts of one position. The least of `--repeats`,
processor seconds; every pair is measured in turn.
"""

from __future__ import annotations

import importlib.util
import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numba
import numpy as np
import typer

from benchmarks.tables import say, table
from data.files import load_files
from data.panel import FloatArray, Panel
from data.simulated import simulate
from strategies.backtest.accounting import account_for, accounts_for
from strategies.backtest.execution import backtest
from strategies.backtest.terms import Costs

HOLDS = (1, 6, 24, 96)
PLANS = 64


def market(data: Path | None, funding: Path | None, bars: int) -> Panel:
    if data is not None:
        panel = load_files(["BTCUSDT"], [data], funding_files=[funding] if funding else [])
        return panel.cut(0, min(bars, len(panel)))
    start = np.datetime64("2022-01-01")
    return simulate(["BTCUSDT"], "60", start=start, end=start + np.timedelta64(bars, "h"))


def positions(bars: int, hold: int, plans: int) -> FloatArray:
    drawn = np.random.default_rng(hold).choice([-1.0, 0.0, 1.0], (plans, bars // hold + 1, 1))
    return np.ascontiguousarray(np.repeat(drawn, hold, axis=1)[:, :bars])


def least(work: Callable[[], Any], repeats: int) -> float:
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def kernel_before() -> Callable[..., Any]:
    """The account as it was: the reference of the tests, its functions compiled."""
    from tests.strategies.backtest import reference_account as before

    for name, function in list(vars(before).items()):
        if inspect.isfunction(function) and name.startswith("_") and name != "_settlements":
            setattr(before, name, numba.njit(function))
    return before.reference_account


def with_vectorbt(panel: Panel, targets: FloatArray, costs: Costs) -> Callable[[], Any] | None:
    """The same positions (sizes of one account, no funding, no margin) through vectorbt's kernel; None where it is not installed."""
    if importlib.util.find_spec("vectorbt") is None:
        return None
    import vectorbt
    from vectorbt.portfolio.enums import SizeType

    close = panel.field("open")
    decided = np.vstack([np.zeros((1, len(targets))), targets[:, :-1, 0].T])
    changed = np.vstack([decided[:1] != 0.0, decided[1:] != decided[:-1]])
    size = np.where(changed, decided, np.nan)

    def run() -> Any:
        return vectorbt.Portfolio.from_orders(
            close, size, size_type=SizeType.TargetPercent, fees=costs.taker_fee_bps * 1e-4,
            slippage=costs.slippage_bps * 1e-4, init_cash=100_000.0, freq="1h",
        )  # fmt: skip

    return run


def main(
    data: Annotated[Path | None, typer.Option(help="Hourly candles (default: the simulated market).")] = None,
    funding: Annotated[Path | None, typer.Option(help="Their funding settlements.")] = None,
    bars: Annotated[int, typer.Option(help="Bars of a plan.", min=100)] = 21_888,
    shifts: Annotated[int, typer.Option(help="Shifted positions of the timing null.", min=1)] = 5_000,
    repeats: Annotated[int, typer.Option(help="Of each measurement; the least counts.", min=1)] = 5,
) -> None:
    panel = market(data, funding, bars)
    count, costs = len(panel), Costs()
    stretch: dict[str, Any] = {"start": 0, "stop": count, "costs": costs}
    began = time.perf_counter()
    accounts_for(panel, positions(count, 24, 1), **stretch)
    account_for(panel, positions(count, 24, 1)[0], **stretch)
    say(f"{count:,} bars; ready after {time.perf_counter() - began:.1f} s (compiled, or from the cache)")
    before = kernel_before()
    before(panel, positions(count, 24, 1)[0], **stretch)
    say("million bars a second, one core")
    rows = []
    for hold in HOLDS:
        plans = positions(count, hold, PLANS)
        many = PLANS * count / least(lambda p=plans: accounts_for(panel, p, **stretch), repeats) / 1e6
        one = count / least(lambda p=plans: account_for(panel, p[0], **stretch), 4 * repeats) / 1e6
        old = count / least(lambda p=plans: before(panel, p[0], **stretch), 4 * repeats) / 1e6
        slow = count / least(lambda p=plans: backtest(panel, p[0], name="x", **stretch), 1) / 1e6
        other = with_vectorbt(panel, plans, costs)
        if other is not None:
            other()
        told = f"{PLANS * count / least(other, repeats) / 1e6:.1f}" if other is not None else "not installed"
        rows.append([f"{hold} bars", f"{many:.1f}", f"{one:.1f}", f"{old:.1f}", f"{slow:.3f}", told])
    say(table(["changes every", "many plans", "one plan a call", "kernel before", "Backtrader", "vectorbt"], rows))
    held = positions(count, 24, 1)[0]
    ends = np.arange(23, count, 24)
    began = time.process_time()
    done = 0
    for first in range(0, shifts, 250):
        part = range(first, min(first + 250, shifts))
        shifted = np.stack([np.roll(held, 1 + k * (count - 2) // shifts, axis=0) for k in part])
        done += len(accounts_for(panel, shifted, kept=ends, **stretch))
    say(f"timing null: {done:,} shifts of {count:,} bars in {time.process_time() - began:.1f} s")


if __name__ == "__main__":
    typer.run(main)
