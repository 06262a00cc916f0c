"""Records of `lab forecast` beside what others print."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import ttest_1samp, wilcoxon

from data.panel import FloatArray
from lab.forecast import BATCHES, HORIZONS, PUBLISHED, SHARE, patchtst_parameters
from lab.tables import markdown
from lab.units import Record, grouped

#: PatchTST/64's errors are to be reached within this; ETTh2-336 has a goal of its own (issue 27: 5%)
NEAR, NEAR_336 = 0.03, 0.05
ARMS = ("closed form", "best network", "mean")
PREAMBLE = (
    "Test MSE, mean over seeds ± their spread. Published tables leave the last, partial batch of the test windows "
    "out, and the code of each paper has its own: DLinear whole batches of 32 "
    "(its repository of today keeps the last one), PatchTST of 128. Each rival stands "
    "beside our error over its own windows; all windows are told as well. The search sees the training and validation "
    "part only, and is fitted on the training part alone, as published. Repeat-last proves the protocol (published: "
    "ETTh1-96 1.295 / 0.713, Exchange-96 0.081 / 0.196). Rivals as printed (Zeng et al. 2023, table 2; Nie et al. "
    "2023, table 3). PatchTST/64 has {sizes} parameters at 96, 192, 336, 720 (counted from the settings of its "
    "authors: 3 layers of width 16 over 64 patches and one flat head).\n\n"
)
TESTS = (
    "\n\n"
    "### Paired tests\n\n"
    "Per table and horizon our seeds against the printed figure (t-test of one sample, two-sided), and over tables "
    "and horizons our means against the printed ones (Wilcoxon's signed ranks, two-sided).\n\n"
)
LIMITS = (
    "\n\n"
    "Limits of these tests: a printed figure is one number without a spread of its own, the mean of few runs or a "
    "single one; seeds say how much a result hangs on chance in training, not on which months were tested, which are "
    "one stretch for all; the horizons of a table share their months, so the signed ranks overstate how much was "
    "seen. Where validation fell back on closed forms, seeds hardly differ and a p-value says no more than that the "
    "two figures are not the same.\n\n"
    "### What each part gives\n\n"
    "Whole batches of 32, mean over seeds. The judged forecast is the mean of closed form and networks that "
    "validation likes, or the last value.\n\n"
)


def _mse(mine: Sequence[Record], name: str = "mse", arm: str = "") -> FloatArray:
    return np.array([(r.result["arms"][arm] if arm else r.result["test"])[name] for r in mine])


def _printed(data: str, horizon: int) -> dict[str, float]:
    """Rival -> printed MSE."""
    if horizon not in HORIZONS:
        return {}
    return {
        name: values[HORIZONS.index(horizon)] for name, values in PUBLISHED.get(data, {}).items() if name in BATCHES
    }


def _missed(mine: Sequence[Record], data: str, horizon: int) -> list[str]:
    """Which targets a row misses."""
    found, others = [], _printed(data, horizon)
    if not data.startswith("ETTh"):
        ours, last = _mse(mine), np.array([r.result["repeat_last"]["mse"] for r in mine])
        return (
            [f"{ours.mean():.3f} against the last value's {last.mean():.3f}"]
            if ours.mean() > last.mean() + 0.0005
            else []
        )
    if (
        "DLinear" in others and (own := _mse(mine, "mse_32").mean()) > others["DLinear"] + 0.0005
    ):  # printed with three digits
        found.append(f"{own:.3f} against DLinear {others['DLinear']:.3f}")
    if "PatchTST/64" in others:
        gap, wide = (_mse(mine, f"mse_{n}").mean() / others["PatchTST/64"] - 1.0 for n in (128, 32))
        if gap > (NEAR_336 if (data, horizon) == ("ETTh2", 336) else NEAR):
            found.append(f"{gap:+.1%} of PatchTST/64 ({wide:+.1%} over batches of 32, as was compared before)")
    largest, allowed = max(r.result["parameters"] for r in mine), patchtst_parameters(horizon) * SHARE
    if largest >= allowed:
        found.append(f"{largest:,} parameters, 1/20 is {allowed:,.0f}")
    if (slowest := max(r.seconds for r in mine)) > 600:
        found.append(f"{slowest:.0f} s")
    return found


def _p(values: FloatArray, printed: float) -> str:
    """Difference in percent and the p-value of a t-test against one number."""
    gap = f"{values.mean() / printed - 1.0:+.1%}"
    if len(values) < 2:
        return f"{gap} (one seed)"
    if np.ptp(values) == 0.0:
        return f"{gap} (seeds do not differ)"
    return f"{gap} (p = {ttest_1samp(values, printed).pvalue:.2g})"


def _tests(rows: dict[tuple[str, int], list[Record]]) -> str:
    """Markdown of both kinds of tests."""
    lines: list[list[str]] = []
    for (data, horizon), mine in rows.items():
        others = _printed(data, horizon)
        cells = [_p(_mse(mine, f"mse_{n}"), others[name]) if name in others else "" for name, n in BATCHES.items()]
        if any(cells):
            lines.append([data, str(horizon), *cells])
    over = []
    for name, n in BATCHES.items():
        pairs = [
            (_mse(mine, f"mse_{n}").mean(), _printed(*row)[name])
            for row, mine in rows.items()
            if name in _printed(*row)
        ]
        if len(pairs) < 2:
            continue
        ours, theirs = np.array(pairs).T
        lower = int((ours < theirs).sum())
        ratio = float(np.exp(np.log(ours / theirs).mean()))
        told = f"{name}: ours is lower in {lower} of {len(pairs)}, {ratio - 1.0:+.1%} in the geometric mean"
        over.append(f"{told}, p = {wilcoxon(ours, theirs).pvalue:.2g}.")
    return markdown(["table", "horizon", *BATCHES], lines) + "\n\n" + " ".join(over)


def forecast_table(found: Sequence[Record]) -> tuple[str, str]:
    """One row per table, horizon and way of searching; tests and parts are of the first way."""
    table, missed, parts = [], [], []
    first: dict[tuple[str, int], list[Record]] = {}
    for (variant, data, horizon), mine in sorted(grouped(found, "variant", "data", "horizon").items()):
        if variant == found[0].settings["variant"]:
            first[data, horizon] = mine
            missed += [f"{data} {horizon}: {why}" for why in _missed(mine, data, horizon)]
        results, others = [r.result for r in mine], _printed(data, horizon)
        repeat = results[0]["repeat_last"]
        own = {n: _mse(mine, f"mse_{n}") for n in BATCHES.values()}
        chosen = [" + ".join(r["chosen"]) for r in results]
        table.append(
            [
                data, str(horizon), variant, str(len(mine)), f"{repeat['mse_32']:.3f} / {repeat['mae_32']:.3f}",
                *(cell for name, n in BATCHES.items() for cell in (str(others.get(name, "")), f"{own[n].mean():.3f} ± {own[n].std():.3f}")),
                f"{_mse(mine).mean():.3f} / {_mse(mine, 'mae').mean():.3f}", f"{max(r['parameters'] for r in results):,}",
                f"{max(r.seconds for r in mine):.0f} s", "; ".join(f"{chosen.count(c)} x {c}" for c in sorted(set(chosen))),
            ]
        )  # fmt: skip
        arms = [f"{_mse(mine, 'mse_32', arm).mean():.3f} ± {_mse(mine, 'mse_32', arm).std():.3f}" for arm in ARMS]
        base = results[0]["base"]
        how = f"level {base['level']}, weight {base['weight']:g}, penalty {base['penalty']:g}, rank {base['rank']}"
        parts.append([data, str(horizon), variant, *arms, f"{repeat['mse_32']:.3f}", how])
    verdict = (
        "All targets hold: at most DLinear, within 3% of PatchTST/64 (5% on ETTh2-336) at less than 1/20 of its parameters, under 10 "
        "minutes, never worse than the last value on exchange rates."
        if not missed
        else "Not all targets hold: " + "; ".join(missed) + "."
    )
    head = [
        "table", "horizon", "variants", "seeds", "repeat-last, MSE / MAE", "DLinear", "ours, whole 32", "PatchTST/64", "ours, whole 128",
        "all windows, MSE / MAE", "parameters", "slowest", "chosen by validation",
    ]  # fmt: skip
    sizes = ", ".join(f"{patchtst_parameters(h):,}" for h in HORIZONS)
    body = PREAMBLE.format(sizes=sizes) + markdown(head, table) + TESTS + _tests(first) + LIMITS
    return verdict, body + markdown(
        ["table", "horizon", "variants", *ARMS, "last value", "settings of the closed form"], parts
    )
