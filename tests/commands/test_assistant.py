"""The commands as an assistant meets them: through the reference client, charged for every look, and without a way to trade."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mcp import Client, StdioServerParameters

from benchmarks.assistant import here
from commands.assistant import TOOLS, Desk, server
from strategies.walkforward.looks import Register
from tests.commands.small_run import swinging_market

SETTINGS = {
    "symbol": ["BTCUSDT"], "data": ["candles.parquet"], "any_candles": True, "forecasts": ["idea.parquet"], "variant": ["none"],
    "baselines": ["none"], "rules": ["none"], "train": "500", "validation": "240", "test": "240", "horizon": [3], "jobs": 1,
}  # fmt: skip


class Here:
    """Commands in this process, and what was asked of them: a process of its own for each would load everything anew."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def __call__(self, words: list[str], folder: Path) -> tuple[int, str, str]:
        self.asked.append(words)
        return await here(words, folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGIME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REGIME_BYBIT_URL", "http://127.0.0.1:9")
    table = swinging_market(1_800, 3)
    table.to_parquet(tmp_path / "candles.parquet")
    told = pd.DataFrame({"timestamp": table.index, "idea": np.random.default_rng(0).normal(size=len(table))})
    told.to_parquet(tmp_path / "idea.parquet")
    return tmp_path


def asked(folder: Path, runner: Here, budget: int, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Answers of one session, in turn; an error as its text."""

    async def session() -> list[Any]:
        found = []
        async with Client(server(Desk(folder, budget, runner))) as client:
            for name, given in calls:
                done = await client.call_tool(name, given)
                found.append(done.content[0].text if done.is_error else done.structured_content)
        return found

    return asyncio.run(session())


def test_an_assistant_plans_runs_reads_explains_and_compares(folder: Path) -> None:
    runner = Here()
    other = SETTINGS | {"thresholds": [0.25]}
    plan, ran, again, second, third = asked(
        folder, runner, 2, ("plan", {"settings": SETTINGS}), ("run", {"settings": SETTINGS}), ("run", {"settings": SETTINGS}),
        ("run", {"settings": other}), ("run", {"settings": SETTINGS | {"thresholds": [0.5]}}),
    )  # fmt: skip
    assert plan["finished"] is False
    assert all(w["train"][1] < w["validation"][0] < w["validation"][1] < w["test"][0] for w in plan["windows"])
    assert plan["budget"] == {"looks": 2, "spent": 0, "left": 2}
    assert ran["claim"] == ""
    assert set(ran["figures"]) == {"idea", "buy_and_hold"}
    assert "charged to a budget of 2" in ran["look"]
    assert again == ran  # the same look
    assert second["budget"] == {"looks": 2, "spent": 2, "left": 0}
    assert "the budget of 2 looks is spent" in third
    assert len(list((folder / "reports/runs").glob("btcusdt*"))) == 2
    # what reads is free, also where nothing is left
    names = (
        "doctor",
        "settings",
        "market_data",
        "runs",
        "read",
        "explain",
        "forecast_sheet",
        "run_settings",
        "page",
        "looks",
        "paper_status",
    )
    both = ("compare", {"runs": [ran["run"], second["run"]]})
    found = dict(zip((*names, "compare"), asked(folder, runner, 2, *((name, {}) for name in names), both), strict=True))
    assert {name for name, each in found.items() if isinstance(each, str)} == {"paper_status"}
    assert "paper" in found["paper_status"]  # there is none, told in a line
    assert [Path(each["run"]).name for each in found["runs"]["runs"]] == [
        Path(each["run"]).name for each in (second, ran)
    ]
    assert found["read"]["answer"] == second["answer"]
    assert found["explain"]["windows"][0]["plan"]
    assert found["forecast_sheet"]["forecasts"]["strategies"]
    assert found["run_settings"]["settings"]["thresholds"] == [0.25]
    assert {row["what"] for row in found["looks"]["rows"]} >= {"budget", "run", "told"}
    assert Path(found["compare"]["page"]).is_file()
    assert 'preset = "quick"' in found["settings"]["toml"]
    assert [words for words in runner.asked if "paper" in words] == [["paper", "status", "--json"]]


def test_there_are_tools_for_everything_but_trading() -> None:
    assert len(TOOLS) >= 12
    assert not {"trade", "paper", "stop", "unseal", "selftest", "download"} & set(TOOLS)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("run", {"settings": {"symbol": ["BTCUSDT"], "out": "/"}}, "out: no setting of a run"),
        ("run", {"settings": {"budget": 1_000}}, "budget: no setting of a run"),
        ("run", {"settings": SETTINGS | {"train": "soon"}}, "train"),
        ("read", {"run": "../elsewhere"}, "lies outside the folder"),
        ("page", {"run": "--quiet"}, "lies outside the folder"),  # a flag is no run
        ("read", {"run": "reports/latest"}, "is not a run folder"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_and_costs_nothing(
    folder: Path, name: str, given: dict[str, Any], says: str
) -> None:
    told, left = asked(folder, Here(), 3, (name, given), ("budget", {}))
    assert says in told
    assert "\n" not in told
    assert left["left"] == 3


def test_another_budget_than_the_first_is_refused(folder: Path) -> None:
    (told,) = asked(folder, Here(), 1, ("run", {"settings": SETTINGS}))
    assert told["budget"]["left"] == 0
    (refused,) = asked(folder, Here(), 100, ("run", {"settings": SETTINGS | {"thresholds": [0.25]}}))
    assert "began with a budget of 1 looks" in refused
    assert len({row.look for row in Register().rows()}) == 1


def test_it_serves_over_standard_input_and_output(folder: Path) -> None:
    async def session() -> tuple[list[str], Any]:
        place = StdioServerParameters(
            command=sys.executable, args=["-m", "commands", "mcp", "--folder", str(folder)], env=dict(os.environ)
        )
        async with Client(place) as client:
            listed = [tool.name for tool in (await client.list_tools()).tools]
            return listed, (await client.call_tool("budget", {})).structured_content

    assert asyncio.run(session()) == (list(TOOLS), {"looks": 20, "spent": 0, "left": 20})
