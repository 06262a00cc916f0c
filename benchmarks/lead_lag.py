"""Does the search find who leads whom? BTC leads ETH by 3 bars in the simulated market, or it does not; over many seeds.

    python -m benchmarks.lead_lag --seeds 20 --cases "link,no link,contagion"

Found: the genotype holds a lead-lag op that says BTCUSDT leads ETHUSDT by 3. False find: where no link was planted, the genotype holds a
lead-lag op that names any leader at all. The other assets' bars of the same moment are correlated in all cases. Contagion: the link holds
in the volatile regime only, a fifth of the time.

    python -m benchmarks.lead_lag --data ADAUSDT_1h.parquet --data XRPUSDT_1h.parquet --assets 50 --seeds 200

With candles: markets without links made of them (days of every coin in an order of their own), and in how many of them any leader is named
at all. A network can only name what passes this evidence, so nothing is searched.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy.stats import binomtest

from data.panel import Panel
from data.simulated import MarketRecipe, simulate
from lab.__main__ import histories_of
from lab.markets import unlinked
from nas.features.bank import build_bank
from nas.network.across import VOLATILE_ABOVE
from nas.network.links import MARKET_VOLATILITY, candidates
from nas.network.stretches import Scaler, standardised_returns
from nas.search.single import search
from nas.space.ops import ACROSS_OPS, DEFAULT_OPS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
START = np.datetime64("2023-01-01", "ns")
CASES = {
    "link": {"lead_lag_strength": 1.0},
    "contagion": {"lead_lag_strength": 1.0, "contagion_only_volatile": True},
    "no link": {"lead_lag_strength": 0.0},
}


def market(case: str, seed: int, bars: int, strength: float, assets: int = 2) -> Panel:
    planted = dict(CASES[case])
    planted["lead_lag_strength"] *= strength
    recipe = MarketRecipe(lead_lag_bars=3, **planted)  # type: ignore[arg-type]
    return simulate(
        SYMBOLS[:assets], "60", start=START, end=START + np.timedelta64(bars, "h"), seed=seed, recipe=recipe
    )


def one(
    case: str, seed: int, bars: int, strength: float, horizon: int, epochs: int, finalists: int, assets: int
) -> dict[str, Any]:
    began = time.perf_counter()
    found = search(
        market(case, seed, bars, strength, assets),
        horizon=horizon,
        seed=seed,
        ops=(*DEFAULT_OPS, *ACROSS_OPS),
        epochs=epochs,
        finalists=finalists,
    )
    links = [[k.leader, k.follower, k.lag, k.state] for node in found.genotype.nodes for c in node for k in c.links]
    chosen = any(c.op == "lead_lag" for node in found.genotype.nodes for c in node)
    column = found.space.ops.index("lead_lag")
    return {
        "found": any(link[:3] == ["BTCUSDT", "ETHUSDT", 3] for link in links),
        "volatile": ["BTCUSDT", "ETHUSDT", 3, "volatile"] in links,
        "any": bool(links),
        "chosen": chosen,
        "links": links,
        "weight": [round(row[column], 3) for row in found.op_weights],
        "text": found.text,
        "finalists": [[str(each), round(score, 6)] for each, score in found.finalists],
        "seconds": time.perf_counter() - began,
    }


def false_finds(histories: list[Panel], assets: int, bars: int, seeds: range) -> int:
    """In how many markets without links evidence names a leader."""
    named = 0
    for seed in seeds:
        panel = unlinked(histories, assets, bars, seed)
        bank = build_bank(panel, {MARKET_VOLATILITY[0]: MARKET_VOLATILITY[1:]})
        fitted = slice(bank.warmup_bars, bars)
        scaled = Scaler.fit(bank.values, fitted).apply(bank.values)[0]  # as `nas.network.links.leaders_of` reads it
        volatile = (scaled[:, 0] > VOLATILE_ABOVE).any(0)
        named += candidates(standardised_returns(panel), (fitted,), volatile).any
    return named


def main(
    seeds: Annotated[int, typer.Option(help="Markets per case.")] = 20,
    first_seed: Annotated[int, typer.Option(help="Of the first market.")] = 0,
    assets: Annotated[
        int, typer.Option(min=2, help="BTC, ETH, SOL, BNB: the first so many; any number with --data.")
    ] = 2,
    bars: Annotated[int, typer.Option(help="Hourly bars: a quarter of them for validation.")] = 5_500,
    strength: Annotated[float, typer.Option(help="Of the planted link, in volatilities of a bar.")] = 0.3,
    horizon: Annotated[int, typer.Option(help="Bars ahead that are forecast.")] = 1,
    epochs: Annotated[int, typer.Option(help="Of every search.")] = 20,
    finalists: Annotated[int, typer.Option(help="Architectures trained apart at the end of a search.")] = 1,
    cases: Annotated[str, typer.Option(help="link, no link, contagion.")] = "link,no link",
    data: Annotated[
        list[Path] | None, typer.Option(help="Candles whose days are put in another order; repeatable.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="File that keeps finished searches, to go on later.")] = None,
) -> None:
    torch.set_num_threads(1)
    if data:
        named = false_finds(histories_of(data), assets, bars, range(first_seed, first_seed + seeds))
        low, high = binomtest(named, seeds).proportion_ci(method="exact")
        print(
            f"no link, {assets} assets of {len(data)} real histories, {bars} bars, seeds {first_seed} to {first_seed + seeds - 1}: "
            f"a leader named in {named} of {seeds} ({low:.1%} to {high:.1%})"
        )
        return
    if assets > len(SYMBOLS):
        raise typer.BadParameter(f"--assets {assets}: the simulated market has {len(SYMBOLS)}; give --data for more")
    done: dict[str, Any] = json.loads(store.read_text()) if store is not None and store.is_file() else {}
    for case in cases.split(","):
        rows = []
        for seed in range(first_seed, first_seed + seeds):
            key = f"{case}/{seed}/{bars}/{strength}/{horizon}/{epochs}/{finalists}/{assets}"
            if key not in done:
                done[key] = one(case, seed, bars, strength, horizon, epochs, finalists, assets)
                if store is not None:
                    store.write_text(json.dumps(done, indent=1))
                print(f"{case:<10} seed {seed:>4}: {done[key]['seconds']:.0f} s  {done[key]['text']}", file=sys.stderr)
            rows.append(done[key])
        found, volatile, named, chosen = (
            sum(row[name] for row in rows) for name in ("found", "volatile", "any", "chosen")
        )
        print(
            f"{case:<10} strength {strength:g}, {assets} assets, seeds {first_seed} to {first_seed + seeds - 1}: "
            f"BTC leads ETH by 3 found in {found} of {seeds} ({volatile} of them when volatile only); "
            f"any leader named in {named}; lead-lag op chosen in {chosen}"
        )


if __name__ == "__main__":
    typer.run(main)
