"""python -m tests.strategies.paper.simulation: thousands of sessions of paper trading in one process, from seeds, with faults and kills.

Prints one JSON object; exit code 0 where nothing was doubled, lost or otherwise wrong. A failing seed is played again with
`--first SEED --sessions 1`: `--log` shows what went over the wires, `--shorten` leaves out what does not matter.
"""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated, Any

import torch
import typer

from tests.strategies.paper.simulation.bugs import BUGS, planted
from tests.strategies.paper.simulation.markets import BAR_S, DECIDED
from tests.strategies.paper.simulation.plan import Kill, Plan, plan_of
from tests.strategies.paper.simulation.session import Outcome, simulate, simulating
from tests.strategies.paper.simulation.shorten import shorten


class Tally:
    """What all sessions add up to."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.halts: Counter[str] = Counter()
        self.failed: list[dict[str, Any]] = []
        self.digest = hashlib.sha256()

    def add(self, o: Outcome) -> None:
        for name in ("bars", "faults", "kills", "starts", "orders", "fills", "points"):
            self.of[name] += getattr(o, name)
        self.of["sessions"] += 1
        self.of["wrong"] += bool(o.wrong)
        self.faults.update({k: n for k, n in o.counts.items() if not k.startswith(("told", "ended"))})
        self.halts[f"{len(o.halts)} halts"] += 1
        self.digest.update(o.image + o.digest.to_bytes(8, "big"))
        if o.wrong:
            self.failed.append({"seed": o.plan.seed, "wrong": o.wrong})

    def report(self, seconds: float) -> dict[str, Any]:
        return {
            **self.of, "processor_seconds": round(seconds, 1), "bars_per_processor_second": round(self.of["bars"] / seconds, 1),
            "digest": self.digest.hexdigest()[:16], "decisions_computed": f"{len(DECIDED.known)} of {DECIDED.asked} asked",
            "faults_by_kind": dict(self.faults.most_common()), "failed": self.failed[:20],
        }  # fmt: skip


def _every_point(bars: int) -> Any:
    """The same calm session, killed at its first await or write, at its second, and so on."""
    for end in ("stop", "flatten"):
        calm = Plan(7, bars, stop_loss=3.0, end=end)
        whole = simulate(calm)
        for point in range(1, whole.points + 1):
            yield replace(calm, kills=(Kill(-BAR_S, point, 0.3, False),))


def main(
    first: Annotated[int, typer.Option(help="The first seed.")] = 0,
    sessions: Annotated[int, typer.Option(help="Seeds, one session each.")] = 100,
    bars: Annotated[int, typer.Option(min=1, max=240, help="Bars of a session.")] = 200,
    faults: Annotated[float, typer.Option(help="Faults per bar.")] = 0.15,
    kills: Annotated[float, typer.Option(help="Kills per bar.")] = 0.013,
    minutes: Annotated[float, typer.Option(help="Begin no session after so many minutes.")] = 1e9,
    bug: Annotated[
        str, typer.Option(help=f"Plant a bug and stop at the first seed that finds it: {', '.join(BUGS)}.")
    ] = "",
    every_point: Annotated[
        bool, typer.Option(help="Instead: one calm session, killed at each of its awaits and writes.")
    ] = False,
    make_shorter: Annotated[bool, typer.Option("--shorten", help="Show the shortest plan that still fails.")] = False,
    log: Annotated[bool, typer.Option(help="Print what went over the wires.")] = False,
) -> None:
    """Simulate, and say what was found."""
    torch.set_num_threads(1)
    tally, began, wall = Tally(), time.process_time(), time.monotonic()
    with simulating(), planted(bug) if bug else nullcontext():
        plans = (
            _every_point(bars) if every_point else (plan_of(first + k, bars, faults, kills) for k in range(sessions))
        )
        gc.disable()
        for number, plan in enumerate(plans):
            if time.monotonic() - wall > 60 * minutes:
                break
            outcome = simulate(plan, log)
            tally.add(outcome)
            if log:
                typer.echo("\n".join(outcome.log))
            if outcome.wrong and make_shorter:
                typer.echo(shorten(plan, lambda shorter: bool(simulate(shorter).wrong)), err=True)
            if outcome.wrong:
                typer.echo(f"seed {plan.seed}: {outcome.wrong[0]}", err=True)
                if bug:
                    break
            if number % 25 == 24:
                gc.collect()
            if number % 20 == 19:
                typer.echo(f"{number + 1} sessions: {json.dumps(tally.of)}", err=True)
        gc.enable()
    typer.echo(json.dumps(tally.report(time.process_time() - began), indent=1))
    raise typer.Exit(1 if tally.failed else 0)


if __name__ == "__main__":
    typer.run(main)
