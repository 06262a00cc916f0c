"""What the paths of `--policy cpcv` earned: their Sharpe ratios, after and before costs."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from reports.figures import Figure
from reports.run_folder import Run

FILE = "cpcv.json"


@dataclass(frozen=True)
class Crossed:
    """told: the distribution in words."""

    told: str
    groups: int
    held: int
    splits: int


def cpcv_section(run: Run) -> tuple[Crossed | None, list[Figure]]:
    """None for a run without `--policy cpcv`."""
    path = run.folder / FILE
    if not path.is_file():
        return None, []
    found = json.loads(path.read_text(encoding="utf-8"))
    net, gross = (sorted(each[name] for each in found["paths"]) for name in ("sharpe", "sharpe_before_costs"))
    figure = Figure(
        "cpcv-paths",
        "Sharpe ratio of every path",
        f"{len(net)} paths, each through all bars by forecasts of searches that held them out, in order of their Sharpe ratio after and "
        "before costs.",
        [
            {
                "type": "scatter",
                "mode": "markers",
                "x": values,
                "y": list(range(1, len(values) + 1)),
                "name": name,
                "marker": {"color": colour, "size": 10},
            }
            for name, values, colour in (
                ("after costs", net, "var(--series-0)"),
                ("before costs", gross, "var(--benchmark)"),
            )
        ],
        {
            "xaxis": {"title": {"text": "Sharpe ratio, annual"}},
            "yaxis": {"title": {"text": "path, by rank"}, "dtick": 1},
        },
        320,
    )
    return Crossed(told(net, gross), len(found["groups"]), int(found["held"]), int(found["splits"])), [figure]


def told(net: list[float], gross: list[float]) -> str:
    """The distribution in words.

    Examples
    --------
    >>> told([-1.0, -0.5, 0.25], [0.0, 0.5, 1.0])
    'Of 3 paths 1 earned anything after costs: Sharpe ratio -0.50 in the middle, -1.00 to 0.25; before costs 0.50 in the middle.'
    """
    won = sum(value > 0.0 for value in net)
    return (
        f"Of {len(net)} paths {won or 'none'} earned anything after costs: Sharpe ratio {np.median(net):.2f} in the middle, "
        f"{min(net):.2f} to {max(net):.2f}; before costs {np.median(gross):.2f} in the middle."
    )
