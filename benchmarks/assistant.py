"""An assistant that tries 200 ideas on noise: does it end with a claim?

python -m benchmarks.assistant --markets 40 --ideas 200

Every market is a GARCH(1,1) without signal, with a register of looks of its own; costs are zero, so that trading without skill does not
lose by itself. A scripted assistant speaks to the server of `nextopen mcp` through the reference client. Its ideas are forecasts without
skill, half of them held for a day; it runs one after the other, is refused where the budget is spent (it insists twice), and
claims whatever the field `claim` lets it. Beside it stands what it would have said by itself: its best idea, judged as the only one.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from mcp import Client
from typer.testing import CliRunner

from commands.__main__ import app as nextopen
from commands.assistant import Desk, server
from data.panel import CANDLE_FIELDS
from lab.markets import garch
from reports.luck import daily_frame
from reports.run_folder import load_run
from reports.statistics import CONFIDENCE, proof

SETTINGS = {
    "symbol": ["BTCUSDT"], "data": ["candles.parquet"], "any_candles": True, "variant": ["none"], "baselines": ["none"], "rules": ["none"],
    "train": "200", "validation": "200", "test": "250", "horizon": [6], "evidence": 1.0, "jobs": 1, "slippage_bps": 0.0,
    "taker_fee_bps": 0.0, "maker_fee_bps": 0.0,
}  # fmt: skip


INSISTS = 2


async def here(words: list[str], folder: Path) -> tuple[int, str, str]:
    """A command in this process, from its folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(nextopen, words)
    finally:
        os.chdir(before)
    return done.exit_code, done.stdout, done.stderr


def market(folder: Path, seed: int, bars: int) -> pd.DatetimeIndex:
    """Writes its candles; returns when its bars open."""
    panel = garch(bars, seed)
    times = pd.date_range("2024-01-01", periods=bars, freq="4h")  # a quarter of the bars trades as many days
    table = pd.DataFrame({name: panel.field(name)[:, 0] for name in CANDLE_FIELDS}, index=times)
    table.rename_axis("timestamp").reset_index().to_parquet(folder / "candles.parquet")
    return times


def idea(folder: Path, times: pd.DatetimeIndex, seed: int, number: int) -> str:
    """A forecast without skill, in a file."""
    rng = np.random.default_rng([seed, number, 26])
    drawn = rng.standard_normal(len(times))
    if number % 2:
        drawn = np.repeat(drawn[: -(-len(times) // 6)], 6)[: len(times)]
    path = folder / f"idea{number}.parquet"
    pd.DataFrame({"timestamp": times, "idea": drawn}).to_parquet(path)
    return path.name


async def session(folder: Path, times: pd.DatetimeIndex, seed: int, ideas: int, budget: int) -> dict[str, Any]:
    """Everything one assistant does on one market."""
    claims, best, looks, refused = [], 0.0, 0, 0
    async with Client(server(Desk(folder, budget, here))) as client:
        for number in range(ideas):
            given = {"settings": SETTINGS | {"forecasts": [idea(folder, times, seed, number)]}}
            done = await client.call_tool("run", given)
            if done.is_error:
                assert "budget" in done.content[0].text, done.content[0].text
                refused += 1
                if refused > INSISTS:
                    break
                continue
            looks += 1
            told: Any = done.structured_content
            claims += [told["claim"]] if told["claim"] else []
            daily = daily_frame(load_run(Path(told["run"])).equity)
            best = max(best, proof(daily["idea"].to_numpy(), daily["buy_and_hold"].to_numpy(), 1, 365.0).positive)
    return {"seed": seed, "claims": claims, "looks": looks, "not_run": ideas - looks, "alone": best >= CONFIDENCE}


def main(
    markets: Annotated[int, typer.Option(help="Markets, each with an assistant.")] = 40,
    ideas: Annotated[int, typer.Option(help="Ideas that each tries.")] = 200,
    budget: Annotated[int, typer.Option(help="Looks that each has.")] = 20,
    bars: Annotated[int, typer.Option(help="Bars of four hours of each market.")] = 1_400,
    first_seed: Annotated[int, typer.Option(help="Of the markets.")] = 0,
) -> None:
    """Count the assistants that end with a claim."""
    claimed = alone = 0
    began = time.process_time()
    for seed in range(first_seed, first_seed + markets):
        with tempfile.TemporaryDirectory() as place:
            os.environ["REGIME_CACHE"] = place
            times = market(Path(place), seed, bars)
            found = asyncio.run(session(Path(place), times, seed, ideas, budget))
        claimed += bool(found["claims"])
        alone += found["alone"]
        print(json.dumps(found), flush=True)
    print(f"{claimed} of {markets} assistants ended with a claim: {ideas} ideas each, a budget of {budget} looks")
    print(f"{alone} of {markets} would have claimed their best idea, had it been judged as the only one")
    print(f"{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    typer.run(main)
