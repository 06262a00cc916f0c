"""Truth beside discovery, on a market in which something was planted (`--source demo`): what, where, and what each window found of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nas.space.genotype import Genotype
from reports.performance import performance
from reports.run_folder import Run

PURE = 0.9  # of the bars that a window learnt from are of one regime


@dataclass(frozen=True)
class Discovery:
    """One window. truth: what was planted in most of the bars it learnt from (share of them), in `then` in most that it traded.

    ops, inputs: of the network that was chosen, the input it leans on most first.
    """

    window: int
    truth: Mapping[str, Any]
    share: float
    then: str
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    flat: bool

    @property
    def op_found(self) -> bool:
        return self.truth["op"] in self.ops

    @property
    def input_found(self) -> bool:
        return self.inputs[:1] == (self.truth["input"],)

    @property
    def found(self) -> bool:
        """Both."""
        return self.op_found and self.input_found


@dataclass(frozen=True)
class PlantedSection:
    """planted: a sentence each. rows: by window. story: five sentences."""

    planted: tuple[str, ...]
    rows: tuple[Discovery, ...]
    story: tuple[str, ...]


def planted_section(run: Run) -> PlantedSection | None:
    """None where nothing was planted, or nothing searched."""
    planted = {str(each["regime"]): each for each in run.info.get("planted") or []}
    rows = tuple(discoveries(run, planted)) if planted else ()
    if not rows:
        return None
    told = tuple(
        f"{', '.join(_spans(run, name)) or 'outside what this run saw'}: the next return goes {name}, by {abs(each['strength']):g} of the "
        "bar's volatility for every standard deviation of it"
        for name, each in planted.items()
    )
    return PlantedSection(told, rows, _story(run, planted, rows))


def discoveries(run: Run, planted: Mapping[str, Mapping[str, Any]]) -> list[Discovery]:
    """Window by window, where a network was chosen."""
    leant = _leant(run)
    found = []
    for window in run.windows:
        if not window.get("genotype"):
            continue
        genotype = Genotype.from_dict(window["genotype"])
        shares = _shares(run, window["train"]["start"], window["validation"]["stop"])
        then = _shares(run, window["test"]["start"], window["test"]["stop"])
        name = max(planted, key=lambda regime: shares.get(regime, 0.0))
        kept = [name for name, _ in genotype.features]
        inputs = tuple(dict.fromkeys([*leant.get(int(window["window"]), ()), *kept]))
        found.append(
            Discovery(
                int(window["window"]), planted[name], shares.get(name, 0.0),
                max(planted, key=lambda regime: then.get(regime, 0.0)),
                tuple(edge.op for node in genotype.nodes for edge in node), inputs, window.get("plan") == "flat",
            )
        )  # fmt: skip
    return found


def _leant(run: Run) -> dict[int, tuple[str, ...]]:
    """By window the inputs of its network, the one whose loss costs most first (permuted on the test stretch)."""
    return {
        int(each["window"]): tuple(str(p["name"]).split(" / ")[0] for p in each["found"] if p["part"] == "input")
        for each in run.forecast_sheet.get("importance") or []
    }


def _shares(run: Run, start: str, stop: str) -> dict[str, float]:
    """Of a stretch, by regime."""
    first, last = pd.Timestamp(start), pd.Timestamp(stop)
    found: dict[str, float] = {}
    for each in run.info.get("regimes") or []:
        common = min(last, pd.Timestamp(each["stop"])) - max(first, pd.Timestamp(each["start"]))
        found[each["name"]] = found.get(each["name"], 0.0) + max(common / (last - first), 0.0)
    return found


def _spans(run: Run, name: str) -> list[str]:
    regimes = [each for each in run.info.get("regimes") or [] if each["name"] == name]
    days = [(each["start"][:10], each["stop"][:10]) for each in regimes]
    return [f"{first} to {last}" for first, last in days if first != last]


def _story(run: Run, planted: Mapping[str, Mapping[str, Any]], rows: tuple[Discovery, ...]) -> tuple[str, ...]:
    """What happened, in five sentences."""
    both, ops, inputs = (sum(getattr(row, name) for row in rows) for name in ("found", "op_found", "input_found"))
    by_name = {name: performance(run, name) for name in run.strategies}
    own = by_name[run.subject]
    other = by_name.get("buy_and_hold", own)
    flat = sum(row.flat for row in rows)
    mixed = sum(row.share < PURE for row in rows)
    told = ", in others ".join(planted)
    return (
        f"This market is invented, and something is planted in it: in some spells the next return goes {told}.",
        f"On each of {len(rows)} windows a search chose a network from bars that end before those it traded"
        + (f"; {mixed} of them learnt from both sides of a change." if mixed else "."),
        f"It found the planted op and leant most on the planted input in {both} of {len(rows)} (the op in {ops}, the input in {inputs}).",
        f"Traded on unseen bars, after {run.charged}, it returned {own.total_return:+.1%} (Sharpe {own.sharpe:.2f}); holding returned "
        f"{other.total_return:+.1%} (Sharpe {other.sharpe:.2f}).",
        (
            f"It stayed flat in {flat} window{'s' * (flat > 1)} for want of a record; "
            if flat
            else "It traded every window; "
        )
        + "on real prices nothing as strong is known, and most windows stay flat.",
    )
