"""Several runs side by side on one page: what they found, and in which settings they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import write_text
from data.panel import InputError
from reports.figures import POINTS, SERIES_COLOURS, Figure, label, significant, thinned
from reports.luck import look_of, luck_section
from reports.page import environment, flat, json_for_script, plotly_script
from reports.performance import performance
from reports.run_folder import BENCHMARK, Run, load_run
from reports.tearsheets import best_by_hand


def write_comparison(folders: Sequence[Path], path: Path | None = None) -> Path:
    """One page over at least two runs; by default `compare.html` beside the folder `runs` of the first. Returns its path.

    Examples
    --------
    >>> from pathlib import Path
    >>> from reports import write_comparison
    >>> write_comparison([Path("reports/latest")])
    Traceback (most recent call last):
    data.errors.InputError: compare needs at least two run folders, such as reports/runs/<run-id>
    """
    if len(folders) < 2:
        raise InputError("compare needs at least two run folders, such as reports/runs/<run-id>")
    runs = [load_run(folder) for folder in folders]
    path = path or runs[0].folder.parent.parent / "compare.html"
    figure = _equity_figure(runs)
    text = environment().get_template("compare.html.j2").render(
        runs=[_described(run) for run in runs],
        differences=differences(runs),
        simulated=[run.run_id for run in runs if run.simulated],
        figure=figure,
        charts=json_for_script({figure.name: figure.specification()}),
        plotly=plotly_script(),
    )  # fmt: skip
    write_text(path, text)
    return path


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Settings and provenance that are not the same in all runs: (name, value per run)."""
    settings = [dict(flat({"config": run.info.get("config") or {}, "data": _origin(run)})) for run in runs]
    names = list(dict.fromkeys(name for one in settings for name in one))
    table = [(name, [one.get(name, "–") for one in settings]) for name in names]
    return [(name, values) for name, values in table if len(set(values)) > 1]


def _origin(run: Run) -> Mapping[str, Any]:
    return {name: value for name, value in run.provenance.items() if name not in {"packages", "notes"}}


def _described(run: Run) -> dict[str, Any]:
    luck = luck_section(run, look_of(run, "comparison"))
    rival = best_by_hand(run)
    rows = []
    for name in dict.fromkeys([run.subject, rival, BENCHMARK]):
        if name is not None and name in run.equity.columns:
            interval = None if luck.resampled is None else luck.resampled.interval(name)
            rows.append((run.short(name), performance(run, name), interval, luck.strategies[name].after_looks))
    return {
        "id": run.run_id,
        "folder": run.folder.name,
        "period": f"{run.equity.index[0]:%Y-%m-%d} to {run.equity.index[-1]:%Y-%m-%d}",
        "look": luck.look.told,
        "rows": rows,
        "pbo": None if luck.overfitting is None else luck.overfitting.pbo,
    }


def _equity_figure(runs: Sequence[Run]) -> Figure:
    traces, ends = [], []
    for column, run in enumerate(runs):
        name = run.subject
        times, values = thinned(run.equity[[name]], POINTS)
        growth = values[:, 0] / next((value for value in values[:, 0] if np.isfinite(value) and value > 0), 1.0)
        ends.append(f"{run.run_id} {growth[-1]:.2f}")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": label(run.run_id),
                "x": times,
                "y": significant(growth, 5),
                "line": {"color": f"var(--series-{column % SERIES_COLOURS})", "width": 2},
            }
        )
    return Figure(
        "equity",
        "Growth of 1, searched strategies",
        f"Equity of each run's searched strategy after costs, from 1; at the end: {'; '.join(ends)}.",
        traces,
        {"yaxis": {"title": {"text": "equity, start = 1"}}, "hovermode": "x unified"},
        420,
    )
