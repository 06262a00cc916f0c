"""The search section: how each search went, what it chose, how it fares against chance, and when it was repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nas.space.genotype import source_name
from reports.figures import Figure, Trace, label, significant
from reports.run_folder import BENCHMARK, Run
from reports.statistics import sharpes

LOSSES = {"train_loss": "training loss", "validation_loss": "validation loss"}
FORCES = {
    "gradient": "gradient of the validation loss",
    "decay": "decay",
    "regulariser": "regulariser",
    "price": "price",
}
HEALTH = {
    "entropy": "entropy of the op weights (nats)",
    "feature_entropy": "entropy of the feature weights (nats)",
    "eigenvalue": "largest eigenvalue of the validation Hessian",
    "gap": "discretisation gap (loss after minus before)",
}
MEANING = {
    "entropy": "falling: the search decides",
    "feature_entropy": "falling: the search decides what to read",
    "eigenvalue": "rising: a sharp minimum, from which searches collapse",
    "gap": "what choosing one op per edge costs",
}
REGIME_COLOURS = ("series-0", "series-1", "series-2", "series-3", "series-5", "series-7")


def window_figures(number: int, window: Mapping[str, Any]) -> list[Figure]:
    """Losses over the epochs, one small chart per measure of health (their scales differ), and the weight of every op on every edge."""
    history = [row for row in window.get("history") or [] if isinstance(row, Mapping)]
    drawn = [
        _over_epochs(f"losses-{number}", f"Losses of the search, window {number}", history, LOSSES, "loss"),
        *(
            _over_epochs(
                f"health-{number}-{key}", words[0].upper() + words[1:], history, {key: words}, "", MEANING[key]
            )
            for key, words in HEALTH.items()
        ),
    ]
    pushed = [{"epoch": row.get("epoch"), **row["forces"]} for row in history if isinstance(row.get("forces"), Mapping)]
    felt = {key: words for key, words in FORCES.items() if any(row.get(key) for row in pushed)}
    meaning = "mean size per op logit and step"
    drawn.append(
        _over_epochs(f"forces-{number}", f"Forces on the op logits, window {number}", pushed, felt, "size", meaning)
    )
    return [figure for figure in drawn if figure is not None] + _edge_figures(number, window, history)


def missing_health(history: Sequence[Any]) -> list[str]:
    """Which of the recorded-per-epoch measures this run does not have, in words."""
    rows = [row for row in history if isinstance(row, Mapping)]
    return [words for key, words in HEALTH.items() if not any(_number(row.get(key)) is not None for row in rows)]


def _over_epochs(
    name: str,
    title: str,
    history: Sequence[Mapping[str, Any]],
    keys: Mapping[str, str],
    axis: str,
    meaning: str = "",
) -> Figure | None:
    traces: list[Trace] = []
    for column, (key, words) in enumerate(keys.items()):
        points = [(row.get("epoch", k), _number(row.get(key))) for k, row in enumerate(history)]
        points = [(epoch, value) for epoch, value in points if value is not None]
        if points:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": words,
                    "x": [epoch for epoch, _ in points],
                    "y": significant(np.array([value for _, value in points]), 5),
                    "line": {"color": f"var(--series-{column})"},
                }
            )
    if not traces:
        return None
    single = len(keys) == 1
    ends = "; ".join(
        f"{'' if single else trace['name'] + ' '}from {trace['y'][0]:.3g} to {trace['y'][-1]:.3g}" for trace in traces
    )
    words = f"Over {len(history)} epochs: {ends}{f' ({meaning})' if meaning else ''}."
    layout = {
        "xaxis": {"title": {"text": "epoch"}},
        "yaxis": {"title": {"text": axis}, "nticks": 4, "exponentformat": "power"}
        if single
        else {"title": {"text": axis}},
        "hovermode": "x unified",
    }
    return Figure(name, title, words, traces, layout, 190 if single else 300)


def _edge_figures(number: int, window: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """How the weights of all edges ended, in one picture, and then edge by edge how they came there."""
    weights = window.get("weights")
    ops = [str(op) for op in weights.get("ops") or []] if isinstance(weights, Mapping) else []
    edges = weights.get("edges") or [] if isinstance(weights, Mapping) else []
    rows = [row for row in history if isinstance(row.get("op_weights"), list)]
    drawn = [(name, k) for k, name in enumerate(edge_names(edges)) if any(k < len(row["op_weights"]) for row in rows)]
    if not ops or not drawn:
        return []
    epochs = {"title": {"text": "epoch"}, "dtick": max(1, len(rows) // 6)}
    figures: list[Figure] = []
    ends, leading = [], []
    for name, k in drawn:
        grid = np.array([_numbers(row["op_weights"][k], len(ops)) for row in rows if k < len(row["op_weights"])]).T
        last = grid[:, -1]
        best = ops[int(np.nanargmax(last))] if np.isfinite(last).any() else "none"
        ends.append(last)
        leading.append(f"{name} {best} {np.nanmax(last):.2f}")
        told = f"Weight of each op on this edge over the epochs; {best} ends highest at {np.nanmax(last):.2f}."
        x = [row.get("epoch", n) for n, row in enumerate(rows)]
        map_ = _weights_map(x, [label(op) for op in ops], grid, "%{y}, epoch %{x}: %{z:.3f}")
        figures.append(
            Figure(f"alpha-{number}-{k}", name, told, [map_], {"xaxis": epochs, **_DOWN}, 22 * len(ops) + 70)
        )
    last = np.array(ends)
    told = f"One row per edge, one column per op; the darkest op of a row leads there. Highest: {'; '.join(leading)}."
    map_ = _weights_map([label(op) for op in ops], [label(name) for name, _ in drawn], last, "%{y}, %{x}: %{z:.3f}")
    title = f"Weight of every op on every edge when the search ended, window {number}"
    layout = {"xaxis": {"side": "top", "tickangle": -90, "dtick": 1}, **_DOWN}
    return [Figure(f"ends-{number}", title, told, [map_], layout, 22 * len(drawn) + 100), *figures]


_DOWN = {"yaxis": {"autorange": "reversed"}}


def _weights_map(x: list[Any], y: list[str], grid: np.ndarray, hover: str) -> Trace:
    """Weights as shades of one colour."""
    return {
        "type": "heatmap",
        "x": x,
        "y": y,
        "z": [significant(line, 3) for line in grid],
        "zmin": 0,
        "zmax": float(f"{np.nanmax(grid):.3g}") if np.isfinite(grid).any() else 1.0,
        "colorscale": [[0, "var(--card)"], [1, "var(--series-0)"]],
        "colorbar": {"thickness": 8, "len": 0.9},
        "hovertemplate": f"{hover}<extra></extra>",
    }


def edge_names(edges: Sequence[Any]) -> list[str]:
    """Of `[source, node]` pairs: the sources of the first node are the inputs of the cell."""
    pairs = [edge for edge in edges if isinstance(edge, (list, tuple)) and len(edge) == 2]
    inputs = max(1, sum(edge[1] == 0 for edge in pairs))
    return [
        f"{source_name(int(edge[0]), inputs, ' ')} to node {int(edge[1]) + 1}" if edge in pairs else f"edge {edge}"
        for edge in edges
    ]


def decided_told(window: Mapping[str, Any]) -> tuple[str, str] | None:
    """(what was decided, what became of the rest); None where the search recorded no claims."""
    found = window.get("decisions")
    if not isinstance(found, Mapping) or not found.get("text"):
        return None
    claims = [claim for claim in found.get("claims") or [] if isinstance(claim, Mapping)]
    names = edge_names([[claim.get("source"), claim.get("node")] for claim in claims])
    told = [
        f"{name}: {claim.get('first')} before {claim.get('second')} by {claim.get('margin'):.1f} standard errors"
        for name, claim in zip(names, claims, strict=True)
        if claim.get("decided")
    ]
    rest = "Where nothing was decided, an edge holds the op that the settings prefer (undecided), not one that was shown to be better."
    return str(found["text"]), f"{'; '.join(told)}. {rest}" if told else rest


def size_told(window: Mapping[str, Any]) -> str:
    """In which size the found network was trained, and of which sizes it was the best by validation."""
    sizes = [size for size in window.get("sizes") or [] if isinstance(size, Mapping)]
    if not sizes:
        return ""
    best = min(sizes, key=lambda size: float(size["validation_loss"]))
    told = f"{counted(best['cells'], 'cell')} of {counted(best['channels'], 'channel')}"
    if len(sizes) == 1:
        return f"Trained in one size: {told}."
    others = ", ".join(f"{size['cells']} x {size['channels']} ({size['validation_loss']:.5g})" for size in sizes)
    return f"Trained in {len(sizes)} sizes, cells x channels (loss on validation): {others}. Validation chose {told}."


def feature_table(run: Run) -> tuple[list[int], list[tuple[str, list[str]]]]:
    """Window numbers, and per input the pipeline each window chose."""
    chosen: list[Mapping[str, Any]] = []
    for window in run.windows:
        genotype = window.get("genotype")
        picked = genotype.get("features") if isinstance(genotype, Mapping) else None
        chosen.append(picked if isinstance(picked, Mapping) else {})
    inputs = list(dict.fromkeys(name for picked in chosen for name in picked))
    numbers = [int(window.get("window", k)) for k, window in enumerate(run.windows)]
    return numbers, [(str(name), [str(picked.get(name, "–")) for picked in chosen]) for name in inputs]


def chance_figure(run: Run) -> Figure | None:
    """Out-of-sample Sharpe ratio of every configuration, by strategy; random architectures beside the searched ones."""
    if run.trial_returns.empty:
        return None
    names = [str(name) for name in run.trial_returns.columns]
    values = sharpes(run.trial_returns.fillna(0.0).to_numpy(dtype="float64")) * math.sqrt(run.days_per_year)
    groups: dict[str, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(name.split("/")[0], []).append(float(value))
    traces = [
        {
            "type": "box",
            "name": label(_short(run, group)),
            "x": significant(np.array(found), 4),
            "boxpoints": "all",
            "jitter": 0.5,
            "pointpos": 0,
            "marker": {"color": f"var(--series-{k % 10})", "size": 6},
            "line": {"width": 1},
            "orientation": "h",
            "showlegend": False,
        }
        for k, (group, found) in enumerate(groups.items())
    ]
    medians = "; ".join(
        f"{_short(run, group)} {np.median(found):.2f} ({len(found)})" for group, found in groups.items()
    )
    return Figure(
        "chance",
        "Out-of-sample Sharpe ratio of everything that was tried",
        f"One point per configuration (architecture, seed and threshold chained over the windows); medians, with counts: {medians}.",
        traces,
        {"xaxis": {"title": {"text": "Sharpe ratio, annual"}}, "yaxis": {"autorange": "reversed"}},
        90 + 62 * len(groups),
    )


def has_random(run: Run) -> bool:
    return bool((run.trials["kind"] == "random").any()) or any(
        str(name).startswith("policy:random") for name in run.trial_returns.columns
    )


def timeline_figure(run: Run) -> Figure | None:
    """Per policy when it searched, its drift alarms, the change points found offline, and the true regimes where simulated."""
    first, last = run.equity.index[0], run.equity.index[-1]
    regimes, names = _regime_traces(run, first, last)
    marks, policies = _policy_marks(run, first, last)
    changes = [moment for moment in map(_moment, run.info.get("change_points") or []) if moment is not None]
    traces = [*regimes, *_mark_traces(marks)]
    if changes:
        points = [(_text(moment), "volatility change") for moment in changes]
        look = {"symbol": "line-ns-open", "size": 14, "color": "var(--series-3)"}
        traces.append(_marks("volatility change, found afterwards", points, look))
    if not traces:
        return None
    rows = [*["true regime"] * bool(names), *policies, *["volatility change"] * bool(changes)]
    margin = (last - first) * 0.015  # a mark on the first bar is seen whole
    return Figure(
        "timeline",
        "Regimes, searches and drift alarms",
        f"From {first:%Y-%m-%d} to {last:%Y-%m-%d}: {counted(len(marks['searched']), 'search', 'searches')}, architectures kept "
        f"{counted(len(marks['kept']), 'time')}, {counted(len(marks['alarm']), 'drift alarm')}, "
        f"{counted(len(changes), 'change')} of volatility found afterwards"
        + (f"; true regimes: {', '.join(names)}." if names else "; the market's true regimes are not known."),
        traces,
        {
            "yaxis": {"categoryorder": "array", "categoryarray": [label(row) for row in reversed(rows)]},
            "xaxis": {"type": "date", "range": [_text(first - margin), _text(last + margin)]},
        },
        120 + 44 * len(rows),
    )


def _regime_traces(run: Run, first: pd.Timestamp, last: pd.Timestamp) -> tuple[list[Trace], list[str]]:
    """A bar per stretch of each true regime, and the names of all."""
    traces: list[Trace] = []
    regimes = [entry for entry in run.info.get("regimes") or [] if isinstance(entry, Mapping)]
    names = list(dict.fromkeys(str(entry.get("name")) for entry in regimes))
    for k, name in enumerate(names):
        xs: list[str | None] = []
        for entry in regimes:
            begin, end = _moment(entry.get("start")), _moment(entry.get("stop"))
            if str(entry.get("name")) != name or begin is None or end is None or end <= first or begin >= last:
                continue
            xs += [_text(max(begin, first)), _text(min(end, last)), None]
        if xs:
            colour = f"var(--{REGIME_COLOURS[k % len(REGIME_COLOURS)]})"
            traces.append(
                {
                    "type": "scatter", "mode": "lines", "name": label(name), "x": xs,
                    "y": [None if x is None else "true regime" for x in xs],
                    "line": {"color": colour, "width": 16}, "connectgaps": False,
                }
            )  # fmt: skip
    return traces, names


Points = list[tuple[str, str]]  # time, row


def _policy_marks(run: Run, first: pd.Timestamp, last: pd.Timestamp) -> tuple[dict[str, Points], list[str]]:
    """When policies searched, kept and were alarmed; and a row for each policy."""
    rows: list[str] = []
    marks: dict[str, Points] = {"searched": [], "kept": [], "alarm": []}
    for window in run.windows:
        begin = _moment((window.get("test") or {}).get("start"))
        for entry in window.get("policies") or []:
            if not isinstance(entry, Mapping) or begin is None:
                continue
            row = f"policy {entry.get('policy')}"
            rows += [row] if row not in rows else []
            marks["searched" if entry.get("searched") else "kept"].append((_text(begin), row))
            for alarm in entry.get("drift") or []:
                moment = _moment(alarm.get("time")) if isinstance(alarm, Mapping) else None
                if moment is not None and first <= moment <= last:
                    marks["alarm"].append((_text(moment), row))
    return marks, rows


def _mark_traces(marks: Mapping[str, Points]) -> list[Trace]:
    looks = {
        "searched": ("searched again", "circle", "var(--series-2)"),
        "kept": ("architecture kept", "circle-open", "var(--benchmark)"),
        "alarm": ("drift alarm", "x", "var(--series-4)"),
    }
    return [
        _marks(name, marks[key], {"symbol": symbol, "size": 11, "color": colour})
        for key, (name, symbol, colour) in looks.items()
        if marks[key]
    ]


def _marks(name: str, points: Points, look: dict[str, Any]) -> Trace:
    x, y = [x for x, _ in points], [label(y) for _, y in points]
    return {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y, "marker": look}


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _short(run: Run, group: str) -> str:
    return run.short(group) if group != BENCHMARK else "Buy and hold"


def _numbers(row: Any, count: int) -> list[float]:
    found = [math.nan if (value := _number(cell)) is None else value for cell in (row if isinstance(row, list) else [])]
    return (found + [math.nan] * count)[:count]


def _number(value: Any) -> float | None:
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fine else None


def _moment(value: Any) -> pd.Timestamp | None:
    try:
        stamp = pd.Timestamp(value)
    except (TypeError, ValueError):
        return None
    if pd.isna(stamp):
        return None
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _text(moment: pd.Timestamp) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")
