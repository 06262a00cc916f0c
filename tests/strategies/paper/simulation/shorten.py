"""A failing plan made shorter: as few faults and kills, and as few bars, as still fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.strategies.paper.simulation.plan import Plan


def shorten(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Halves, quarters and so on of what happens are left out as long as it fails without them; then bars from the end."""
    parts: list[Any] = [*plan.events, *plan.kills]
    size = max(len(parts) // 2, 1)
    while parts:
        at = 0
        while at < len(parts):
            fewer = parts[:at] + parts[at + size :]
            if fails(_with(plan, fewer)):
                parts = fewer
            else:
                at += size
        if size == 1:
            break
        size //= 2
    plan = _with(plan, parts)
    for bars in (plan.bars // 8, plan.bars // 4, plan.bars // 2):
        if bars and fails(replace(plan, bars=bars)):
            return replace(plan, bars=bars)
    return plan


def _with(plan: Plan, parts: list[Any]) -> Plan:
    return replace(
        plan, events=tuple(e for e in plan.events if e in parts), kills=tuple(k for k in plan.kills if k in parts)
    )
