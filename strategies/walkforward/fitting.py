"""What fits the bars: how far networks and features may look back beside the stretches they learn from.

Ops and feature windows are counted in bars. What is nine days of hours is 222 days of days: then the purge would eat the history
that is left to learn from. Ops and candidate pipelines that reach too far are left out, and the plan says which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from data.errors import InputError
from data.panel import Panel
from nas.space.ops import get_op
from nas.space.search_space import SearchSpace
from strategies.walkforward.config import RunConfig, bars_of

PURGE_SHARE = 8  # a purge may take this part of the training stretch ...
PURGE_DAYS = 14.0  # ... or so many days, whichever is more
MEMORY_DAYS = 30.0  # features may remember the training stretch, or so many days
SHORT_OPS_BARS = 3  # ops that reach no further are always kept
FEW_BARS = 500  # a training stretch below that is said to be short


@dataclass(frozen=True)
class Reach:
    """Most bars of a purge and of a feature's memory that fit. day_bars: bars of one day of the calendar."""

    train_bars: int
    purge_bars: int
    memory_bars: int
    day_bars: float

    @staticmethod
    def of(config: RunConfig, panel: Panel) -> Reach:
        day = panel.bars_per_year / 365.0
        train = bars_of(config.train, 86_400e9 / day, "train")
        return Reach(train, max(train // PURGE_SHARE, int(PURGE_DAYS * day)), max(train, int(MEMORY_DAYS * day)), day)

    def days(self, bars: int) -> str:
        return f"{bars} bars ({bars / self.day_bars:.1f} days)"


def fitting_space(config: RunConfig, space: SearchSpace, reach: Reach) -> tuple[SearchSpace, list[str]]:
    """The space with the ops that fit, and what is to be said. Ops of the user's own are kept; InputError where they cannot fit."""

    def purge(ops: tuple[str, ...]) -> int:
        return max(config.horizon) + 1 + replace(space, ops=ops).receptive_field

    said = []
    if reach.train_bars < FEW_BARS:
        said.append(
            f"--train {config.train} is {reach.days(reach.train_bars)}: networks learn little from so few; give a longer one"
        )
    needed = purge(space.ops)
    if needed <= reach.purge_bars:
        return space, said
    beside = f"{reach.days(needed)} beside {reach.days(reach.train_bars)} of training"
    if config.ops:
        if needed > reach.train_bars // 2:
            raise InputError(
                f"--ops {','.join(space.ops)} look so far back that the purge would be {beside}; give ops of shorter reach, e.g. "
                "--ops zero,identity,dense,conv3,diff1, fewer --nodes, or a longer --train"
            )
        return space, [*said, f"purge: {beside}"]
    kept = space.ops
    while purge(kept) > reach.purge_bars:
        longest = max(get_op(name).receptive_field for name in kept)
        if longest <= SHORT_OPS_BARS:
            break
        kept = tuple(name for name in kept if get_op(name).receptive_field < longest)
    left = ", ".join(name for name in space.ops if name not in kept)
    said.append(f"purge: it would be {beside}; without {left} it is {reach.days(purge(kept))} (--ops keeps them)")
    return replace(space, ops=kept), said


def left_out(longer: tuple[str, ...], reach: Reach) -> str:
    """Which candidate pipelines remember too much, in one line."""
    shown = ", ".join(longer[:3]) + (f" and {len(longer) - 3} more" if len(longer) > 3 else "")
    return f"features that remember more than {reach.days(reach.memory_bars)} are left out: {shown}"
