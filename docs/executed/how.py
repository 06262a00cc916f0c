"""How each shown command is executed. A command that no row names is in no class, and a test fails.

`TEST`: by tests/docs/test_shown_commands.py, in a folder like a stranger's, on a market so small that it takes seconds.
`DOCS`: by `make docs` (`python -m docs.executed`), in a copy of the checkout: what takes longer, or writes into the checkout.
`EXAMPLE`: by tests/docs/test_examples.py, which also compares what it prints.
Either way the words of the page go to the real command line; `more` is put behind them to make it small (of two equal flags
the later one wins).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from docs.executed.pages import Command

TEST, DOCS, EXAMPLE = "a test", "make docs", "the test of the examples"

#: what other commands read: a finished run, and paper trading of its network
FIRST: Command = ("python", "-m", "strategies.walkforward", "--symbol", "BTCUSDT", "--preset", "quick")
PAPER: Command = ("python", "-m", "strategies.paper", "--run", "reports/latest", "--symbol", "BTCUSDT")


@dataclass(frozen=True)
class How:
    """by: TEST, DOCS or EXAMPLE. exchange: needs a stand-in exchange that answers. until: runs until it is interrupted, which is done
    once it has printed this. trading: needs paper trading beside it. code: exit code of a success."""

    by: str
    more: str = ""
    exchange: bool = False
    until: str = ""
    trading: bool = False
    code: int = 0


SMALL = "--config small.toml --jobs 1"
#: the same where no file can be given
TINY = (
    "--train 500 --validation 240 --test 240 --horizon 3 --nodes 1 --channels 4 "
    "--ops zero,identity,conv3,ema4,diff1 --search-epochs 2 --training-epochs 3 --baselines none --jobs 1 --no-pages"
)
FLAGS = f"--source simulated --start 2024-01-01 --end 2024-03-24 {TINY}"
LAB = "--seeds 1 --minutes 0.001 --quiet"  # one unit

#: words that a command contains, the first ones in this order -> how; of several rows the one with most words holds
HOW: dict[str, How] = {
    "python -m strategies.walkforward": How(TEST, SMALL),
    "python -m strategies.walkforward --help": How(TEST),
    # starts itself anew, which a test's process would not survive; tests/strategies/walkforward/test_reproduced.py runs it
    "python -m strategies.walkforward --reproducible": How(DOCS, SMALL),
    "python -m strategies.walkforward --config run.toml": How(
        TEST, "--jobs 1 --seeds 1 --variant darts --symbol BTCUSDT"
    ),
    "python -m strategies.walkforward --config my.toml": How(TEST, "--jobs 1"),
    "python -m strategies.walkforward --baselines": How(TEST, f"{SMALL} --end 2024-03-01"),
    "python -m strategies.walkforward --variant": How(TEST, f"{SMALL} --end 2024-03-01"),
    "python -m strategies.walkforward --baselines examples.own_models:Ridge": How(TEST, f"{SMALL} --source simulated"),
    "python -m strategies.walkforward --forecasts": How(TEST, f"{SMALL} --source simulated"),
    "python -m strategies.walkforward --target": How(TEST, f"{SMALL} --no-pages --end 2024-03-11"),
    "python -m strategies.walkforward --train": How(TEST, f"{SMALL} --train 500 --test 240 --step 240"),
    "python -m strategies.walkforward --source bybit": How(TEST, SMALL, exchange=True),
    "python -m strategies.walkforward --source bundled": How(TEST, f"--start 1999-01-01 --end 2005-01-01 {TINY}"),
    "python -m strategies.walkforward --preset tour": How(
        TEST, f"--end 2021-12-01 --horizon 3 --nodes 1 --jobs 1 --no-pages {TINY}"
    ),
    "python -m strategies.walkforward --engine ray": How(DOCS, "--config small.toml"),
    "nextopen walkforward": How(TEST, SMALL),
    "nextopen mcp": How(TEST, "--tools"),
    "nextopen walkforward --dry-run": How(TEST, SMALL),
    "nextopen walkforward --print-config": How(TEST),
    "nextopen read": How(TEST),
    "nextopen runs": How(TEST),
    "nextopen looks": How(TEST),
    "regime-nas": How(TEST, code=2),  # the old name: without a command, the list of commands
    "nextopen doctor": How(TEST),
    "nextopen report": How(TEST),
    "nextopen --install-completion": How(DOCS),
    "python -m strategies.audit": How(TEST),
    "python -m strategies.doctor": How(TEST),
    "python -m strategies.doctor --compile": How(DOCS),
    "python -m strategies.doctor --reproducible": How(DOCS),
    "python -m strategies.paper": How(TEST, "--venue local --speed 72000 --bars 6 --out reports"),
    # `latest` is whichever command ran before; tests/commands/test_own_models.py runs the session and its replay
    "python -m strategies.paper --model": How(TEST, "--run nowhere", code=2),
    "python -m strategies.paper status": How(TEST),
    "python -m strategies.paper replay": How(TEST),
    "python -m strategies.paper verify": How(TEST),
    "python -m strategies.paper live": How(DOCS, "--port 0", until="live page: http", code=130),
    "python -m strategies.paper selftest": How(DOCS, "--venue local"),
    "python -m strategies.paper stop": How(DOCS, trading=True),
    "python -m reports": How(TEST),
    "python -m reports unseal": How(TEST, code=2),  # the run of these pages has no sealed holdout: told
    "python -m data.download": How(TEST, "--start 2024-03-01 --end 2024-03-08", exchange=True),
    "python -m data.info": How(TEST),
    "python -m data.record": How(TEST, "--bars 2 --interval 1", exchange=True),
    "python -m data.record --archive": How(TEST),
    "python -m data.standin": How(DOCS, "--port 0", until="stand-in exchange: http", code=130),
    "python -m nas.search": How(TEST, "--end 2024-03-24 --epochs 2 --channels 4"),
    "python -m nas.features.feature_docs": How(DOCS),
    "python -m lab": How(TEST, code=2),  # without a command: the list of commands
    "python -m lab --help": How(TEST),
    "python -m lab null": How(DOCS, LAB),
    "python -m lab power": How(DOCS, LAB),
    "python -m lab risk": How(DOCS, f"{LAB} --days 40,10,5 --target range:6"),
    "python -m nas.lab": How(TEST, code=2),  # names the new command
    "python -m benchmarks.long_search": How(DOCS, "--seeds 1 --epochs 1 --ops narrow --variants plus"),
    "python -m lab bar": How(DOCS, "--runs 1 --days 300 --steps 60 --plans 1"),
    "python -m lab verdict": How(DOCS, "--seeds 2"),
    "python -m lab timing": How(DOCS),
    "python -m lab cpcv": How(DOCS, "--seeds 2"),
    "python -m lab court": How(DOCS, "--seeds 1 --bars 3000"),
    "python -m lab noise": How(DOCS, "--seeds 1 --days 60 --quiet"),
    "python -m lab leaks": How(DOCS, "--seeds 3"),
    "python -m lab importance": How(DOCS, "--seeds 3"),
    "python -m lab decisions": How(DOCS, LAB),
    "python -m lab ranks": How(DOCS, f"{LAB} --cells 3"),
    "python -m lab kinds": How(DOCS, "--minutes 0.001 --quiet"),
    "python -m lab pooled": How(DOCS, "--stretches 1 --minutes 0.001 --quiet"),
    "python -m lab search-vs-random": How(DOCS, f"{LAB} --randoms 2"),
    "python -m lab forecast": How(DOCS, f"{LAB} --horizon 96"),
    "python -m lab evidence": How(DOCS),
    "python -m lab tabular": How(DOCS, "--minutes 0.01 --quiet"),
    "python -m lab tabular-searches": How(DOCS, "--minutes 0.001 --quiet"),
    "python -m lab rivals": How(DOCS, "--runs 1 --budget 10"),
    "python -m examples.save_candles": How(TEST),
    "python -m examples.search_forecaster": How(DOCS),
    **{
        f"python -m examples.{name}": How(EXAMPLE)
        for name in (
            "add_op",
            "add_variant",
            "add_rule",
            "add_feature",
            "add_data_source",
            "add_network",
            "add_sequences",
            "add_graph",
            "volatility",
            "several_assets",
            "own_forecasts",
            "order_book",
            "lead_lag",
            "paper_trading",
            "cpcv",
            "bundled_stocks",
            "cluster",
        )
    },
    "python -m benchmarks.account": How(DOCS, "--bars 300 --shifts 3 --repeats 1"),
    "python -m benchmarks.assistant": How(DOCS, "--markets 1 --ideas 3 --budget 2"),
    "python -m benchmarks.cluster": How(DOCS, "--rounds 1 --searches 2"),
    "python -m benchmarks.drift": How(DOCS, "--markets 3"),
    "python -m benchmarks.features": How(DOCS, "--shapes 2000x2 --repeats 1 --no-bank"),
    "python -m benchmarks.gpu": How(DOCS),
    "python -m benchmarks.kills": How(DOCS, f"--kills 1 --arguments '{FLAGS}'"),
    "python -m benchmarks.last_round": How(DOCS, "--seeds 1"),
    "python -m benchmarks.lead_lag": How(DOCS, "--seeds 1 --bars 2000 --epochs 1"),
    "python -m benchmarks.many_assets": How(DOCS, "--assets 2 --bars 800 --repeats 1"),
    "python -m benchmarks.market_data": How(DOCS, "--pages 2 --years 0.1 --messages 500"),
    "python -m benchmarks.overfitting": How(DOCS, "--matrices 1 --cases 1"),
    "python -m benchmarks.partial_memory": How(DOCS),
    "python -m benchmarks.op_times": How(DOCS, "--least 0.01"),
    "python -m benchmarks.page": How(DOCS, "--only gpu"),
    "python -m benchmarks.planted_features": How(DOCS, "--seeds 1 --epochs 1"),
    "python -m benchmarks.portability": How(DOCS, "--start 2022-08-10 --folder nowhere"),
    "python -m benchmarks.portability --cost": How(DOCS, "--start 2022-08-10 --pairs 1"),
    "python -m benchmarks.recovery": How(DOCS, "--seeds 1 --variant darts --op conv3 --minutes 0.001"),
    "python -m benchmarks.regimes": How(DOCS, "--seeds 1 --switches 1"),
    "python -m benchmarks.volatility": How(DOCS, "--methods ewma,har"),
    "python -m benchmarks.roofline": How(DOCS, "--least 0.01"),
    "python -m benchmarks.spa_size": How(DOCS, "--markets 2"),
    "python -m benchmarks.speed_search": How(DOCS, "--short --least 0.01"),
    "python -m benchmarks.speed_job": How(DOCS, "--short"),
    "python -m benchmarks.tabular": How(DOCS, "--questions 1000 --cells 2"),
    "python -m benchmarks.tasks": How(DOCS, "--windows 1 --preset quick"),
    "python -m docs.executed": How(TEST, "--list"),
    "python -m docs.pictures": How(DOCS),
    "python -m docs.pictures.screenshots": How(DOCS),
    "python -m tests.data.standin.clients": How(DOCS),
    "python -m tests.strategies.paper.delays": How(DOCS),
    "python -m tests.strategies.paper.table": How(DOCS),
    "python -m tests.strategies.paper.soak": How(DOCS, "--bars 12 --kills 1"),
    "python -m tests.strategies.paper.simulation": How(DOCS, "--bars 12 --sessions 2"),
    # its recipe is read as a page is: whatever it starts stands in this table too
    "make": How(TEST),
    ". .venv/bin/activate": How(TEST),
    "export": How(TEST),
    "pre-commit": How(DOCS),
}

#: words that stand for something
MEANT = {
    "RUN": "reports/latest", "DIR": "reports/latest", "RUN_FOLDER": "reports/latest", "reports/runs/RUN": "reports/latest",
    "PAPER_PAGE": "reports/paper/*.html", "btcusdt-testnet-1a2b3c": "PAPER_ID", "NAME": "relaxation",
    "URI": "file:mlruns", "http://127.0.0.1:5000": "file:mlruns", "FILE": "candles.parquet",
    "ETTh1.csv": "../shared/forecast/ETTh1.csv",
    "BTCUSDT_1h.parquet": "../shared/market/BTCUSDT_1h.parquet", "2024-12-01_XRPUSDT_ob500.data.zip": "archive.zip",
}  # fmt: skip


def how(command: Command) -> How | None:
    """The row that holds for a command; None where there is none."""
    found = []
    for key in HOW:
        names = key.split()
        head = 3 if names[0] == "python" else 1
        if command[:head] == tuple(names[:head]) and set(names[head:]) <= set(command[head:]):
            found.append(key)
    return HOW[max(found, key=lambda key: len(key.split()))] if found else None


def executed(command: Command) -> Command:
    """The command with what stands for something put in, and made small."""
    row = how(command)
    assert row is not None, command
    words = [MEANT.get(word, word) for word in command]
    if "--funding" in words:
        words[words.index("--funding") + 1] = "funding.parquet"
    at = words.index(">") if ">" in words else len(words)
    return (*words[:at], *shlex.split(row.more), *words[at:])
