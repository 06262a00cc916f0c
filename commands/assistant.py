"""`nextopen mcp`: the commands as tools of an assistant (Model Context Protocol), which is charged for every look it takes.

A tool is a command with `--json` in a process of its own; nothing is computed here. None trades, unseals a holdout, or reaches outside
the folder. What a run shows of unseen days costs one look of a budget that the register keeps (`strategies.walkforward.looks`), also where
the run fails; each such run is judged as after the whole budget.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from data.atomic import write_text
from data.commandline import Json, application, command
from data.errors import InputError
from data.settings import declared
from data.settings_file import to_toml
from strategies.walkforward.config import RunConfig
from strategies.walkforward.looks import BUDGET

if TYPE_CHECKING:
    from mcp.server import MCPServer

#: words of a command, and the folder it works in -> exit code, standard output, standard error
Runner = Callable[[list[str], Path], Awaitable[tuple[int, str, str]]]
Told = dict[str, Any]
Settings = dict[str, Any]

INSTRUCTIONS = """Nextopen searches networks on rolling windows of a market, trades each on the unseen weeks after it under costs,
and judges. Begin with doctor and plan (free). run costs one look of a fixed budget, because choosing the best of many runs is how luck
looks like skill: the same settings again are free, other settings are another look. The field `claim` of read and run says what may be
claimed: "beat" (it earned, and more than its best rival), "earned" (it earned more than luck explains), or "" (nothing). Report a run
without a claim as not proven, whatever its figures. Simulated markets say nothing about real ones. Nothing here trades."""

app = application()


async def in_own_process(words: list[str], folder: Path) -> tuple[int, str, str]:
    """A command as a person would start it; ended where the call is cancelled."""
    done = await anyio.run_process(
        [sys.executable, "-m", "commands", *words], cwd=folder, check=False, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Desk:
    """The tools: every public method is one, its docstring is what the assistant reads."""

    def __init__(self, folder: Path, budget: int, runner: Runner = in_own_process) -> None:
        self._folder, self._budget, self._runner = folder.resolve(), budget, runner

    async def doctor(self) -> Told:
        """Check that runs will work here: Python, packages, disk, store, exchange. Free."""
        return await self._told("doctor")

    async def settings(self, preset: str = "quick") -> Told:
        """Every setting of plan and run, with its value in a preset (quick, default, thorough), its choices and what it means. Free."""
        _, text, _ = await self._runner(["walkforward", "--preset", preset, "--print-config"], self._folder)
        means = {name: str(field.description) for name, field, _ in declared(RunConfig)}
        return {"toml": text, "means": means}

    async def market_data(self) -> Told:
        """Which histories lie in the store on this machine. Free."""
        return {"series": await self._asked("info")}

    async def plan(self, settings: Settings) -> Told:
        """The windows that run would walk through and about the seconds it takes. Shows no result, so it is free.

        settings: as the tool of that name lists them, such as {"symbol": ["BTCUSDT"], "preset": "quick"}; data: ["candles.csv"] is a
        file of the folder.
        """
        return await self._told("walkforward", "--dry-run", *self._file_of(settings)) | {"budget": await self.budget()}

    async def run(self, settings: Settings) -> Told:
        """Search, train, trade the unseen weeks, judge. Costs one look, unless these settings were run before. Minutes to hours: see plan.

        settings: as of plan. Answers with read's answer and what is left of the budget.
        """
        charged = ("--budget", str(self._budget), "--quiet", "--no-pages")
        ran = await self._told("walkforward", *charged, *self._file_of(settings))
        return await self.read(ran["run"]) | {"budget": await self.budget()}

    async def read(self, run: str = "reports/latest") -> Told:
        """The verdict of a run in words, its figures after costs, and `claim`: what may be claimed. Free."""
        return await self._told("read", self._inside(run))

    async def explain(self, run: str = "reports/latest") -> Told:
        """Why each window traded as it did: the network that was found, its plan, its record against luck, drift. Free."""
        return await self._told("read", self._inside(run), "--part", "windows")

    async def forecast_sheet(self, run: str = "reports/latest") -> Told:
        """What a run's forecasts were worth before costs: IC by horizon, window, regime and hour, lead-lag, importance of inputs. Free."""
        return await self._told("read", self._inside(run), "--part", "forecasts")

    async def run_settings(self, run: str = "reports/latest") -> Told:
        """The settings of a run and where its results come from (data, code, packages). Free."""
        return await self._told("read", self._inside(run), "--part", "settings")

    async def runs(self) -> Told:
        """All finished runs, newest first. Free."""
        return await self._told("runs")

    async def compare(self, runs: list[str]) -> Told:
        """Write a page that sets runs side by side; and their answers. Free."""
        found = await self._told("compare", *(self._inside(each) for each in runs))
        return found | {"runs": [await self.read(each) for each in runs]}

    async def page(self, run: str = "reports/latest") -> Told:
        """Write a run's page for a person to read; answers with its path. Free."""
        return await self._told("report", self._inside(run), "--quiet")

    async def audit(self, run: str = "reports/latest") -> Told:
        """Repeat a run with another future, bar by bar and one bar late, and report any look-ahead. Minutes. Free."""
        return await self._told("audit", "--run", self._inside(run), "--quiet")

    async def looks(self) -> Told:
        """Every look at unseen days that the register holds, whoever took it. Free."""
        return await self._told("looks")

    async def budget(self) -> Told:
        """How many looks there were, and how many are left. Free."""
        rows = (await self._told("looks"))["rows"]
        spent = len({row["run"] for row in rows if row["what"] == BUDGET})
        return {"looks": self._budget, "spent": spent, "left": max(0, self._budget - spent)}

    async def paper_status(self) -> Told:
        """Paper accounts of this folder as they stand. Starting, stopping and keys are a person's. Free."""
        return {"accounts": await self._asked("paper", "status")}

    def _file_of(self, settings: Settings) -> tuple[str, str]:
        """The settings as a file that stays, so that a person can repeat the run."""
        known = {name for name, *_ in declared(RunConfig)} | {"preset", "jobs"}
        if wrong := sorted(set(settings) - known):
            raise InputError(f"{', '.join(wrong)}: no setting of a run; the tool settings lists them")
        text = to_toml(settings)
        path = self._folder / "reports" / "assistant" / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        return "--config", str(path.relative_to(self._folder))

    def _inside(self, run: str) -> str:
        if run.startswith("-") or not (self._folder / run).resolve().is_relative_to(self._folder):
            raise InputError(f"{run} lies outside the folder of this server; the tool runs lists its runs")
        return run

    async def _told(self, *words: str) -> Told:
        """The answer of a command that answers with an object."""
        found: Told = await self._asked(*words)
        return found

    async def _asked(self, *words: str) -> Any:
        code, answer, said = await self._runner([*words, "--json"], self._folder)
        try:
            return json.loads(answer)
        except ValueError:
            lines = said.strip().splitlines() or [f"ended with exit code {code}"]
            raise InputError(lines[-1].removeprefix("error: ")) from None


TOOLS = tuple(name for name in vars(Desk) if not name.startswith("_"))


def server(desk: Desk) -> MCPServer:
    """The tools of a desk, to be served. InputError where the optional package is missing."""
    try:
        # optional
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError:
        raise InputError('the server needs the package mcp: pip install "nextopen[mcp]"') from None

    def told(tool: Callable[..., Awaitable[Told]]) -> Callable[..., Awaitable[Told]]:
        @functools.wraps(tool)
        async def answer(*given: Any, **named: Any) -> Told:
            try:
                return await tool(*given, **named)
            except InputError as error:
                raise ToolError(str(error)) from None

        return answer

    found = MCPServer("nextopen", instructions=INSTRUCTIONS, version=metadata.version("nextopen"), log_level="WARNING")
    for name in TOOLS:
        found.add_tool(told(getattr(desk, name)), name=name)
    return found


@command(app, "nextopen mcp", "nextopen mcp --budget 40 --folder .", "nextopen mcp --tools")
def main(
    folder: Annotated[Path, typer.Option(help="Where it works: reports/, files of candles.")] = Path(),
    budget: Annotated[
        int, typer.Option(min=1, help="Looks that assistants have in this register, in all; fixed by the first.")
    ] = 20,
    tools: Annotated[bool, typer.Option("--tools", help="List the tools and stop.")] = False,
    json_: Json = False,
) -> None:
    """Serve the commands as tools to an assistant over standard input and output; none trades, and every look is charged."""
    if not folder.is_dir():
        raise InputError(f"--folder {folder} is no folder")
    listed = {name: " ".join(str(getattr(Desk, name).__doc__).split()) for name in TOOLS}
    if json_:
        print(json.dumps(listed))
    elif tools:
        print("\n".join(f"{name:15} {does}" for name, does in listed.items()))
    else:
        server(Desk(folder, budget)).run()
