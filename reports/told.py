"""A run's answer for programs and for those who read it in a terminal: what its page says, computed by what computes the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reports.luck import look_of, luck_section
from reports.performance import performance
from reports.run_folder import Run, list_runs, load_run
from reports.verdict import verdict

#: of a window, what explains it; curves and tables of weights stay in windows.json
EXPLAINS = (
    "window", "train", "validation", "test", "policy", "searched", "variant", "text", "plan", "threshold", "evidence", "drift",
    "distance", "diagnostics",
)  # fmt: skip
PARTS = ("answer", "windows", "forecasts", "settings")


def told(folder: Path, part: str = "answer") -> dict[str, Any]:
    """One of PARTS of a run: verdict and figures; what each window found and why it traded or not; forecast sheet; settings.

    What is not a number is None: JSON knows no NaN.
    """
    text = json.dumps(_part(load_run(folder), part), default=str)
    found: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return found


def _part(run: Run, part: str) -> dict[str, Any]:
    found: dict[str, Any] = {"run": str(run.folder), "simulated": run.simulated}
    if part == "windows":
        return found | {part: [{name: each[name] for name in EXPLAINS if name in each} for each in run.windows]}
    if part == "forecasts":
        return found | {part: run.forecast_sheet}
    if part == "settings":
        return found | {part: run.info.get("config"), "provenance": run.provenance}
    return found | _answer(run)


def _answer(run: Run) -> dict[str, Any]:
    rows = [performance(run, strategy) for strategy in run.strategies]
    luck = luck_section(run, look_of(run, "told"), controlled=False)
    said = verdict(run, rows, luck)
    return {
        "answer": said.headline, "details": list(said.details), "claim": said.claim, "look": luck.look.told,
        "costs": run.charged, "not_charged": list(run.uncharged),
        "figures": {
            row.strategy: {"title": run.title(row.strategy), "return": row.total_return, "sharpe": row.sharpe,
                           "max_drawdown": row.max_drawdown, "fills": row.fills}
            for row in rows
        },
    }  # fmt: skip


def listed(reports: Path) -> list[dict[str, Any]]:
    """Every finished run below a folder, newest first, in a line of figures."""
    found = []
    for folder in list_runs(reports):
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        origin = info.get("provenance") or {}
        kept = {name: origin.get(name) for name in ("symbols", "interval", "start", "end", "simulated")}
        found.append({"run": str(folder), **kept, "figures": info.get("headline")})
    return found
