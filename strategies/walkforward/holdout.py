"""The sealed holdout: the last bars of a history, which no run with `--holdout` reads."""

from __future__ import annotations

from data.panel import InputError, Panel
from strategies.walkforward.config import RunConfig, bars_of


def sealed_bars(config: RunConfig, panel: Panel) -> int:
    """How many bars the holdout keeps back; 0 without one."""
    if config.holdout is None:
        return 0
    return bars_of(config.holdout, 365.0 * 86_400e9 / panel.bars_per_year, "holdout")


def seen(config: RunConfig, panel: Panel) -> Panel:
    """The panel without its holdout. InputError where nothing is left."""
    sealed = sealed_bars(config, panel)
    if sealed >= len(panel):
        raise InputError(
            f"--holdout {config.holdout} seals all {len(panel):,} bars; choose a shorter one or an earlier --start"
        )
    return panel.cut(0, len(panel) - sealed) if sealed else panel
