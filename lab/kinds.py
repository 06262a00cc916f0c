"""Does pooled evidence decide between kinds of architectures, and does deciding pay? Windows one after the other, files pooled in groups.

Of every window and file: cheap scores of every kind (`nas.tasks.kinds`), and of the first groups networks of every kind as they ship,
with the moments of what they forecast on test, from which the error of the mean of any of them follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from data.panel import FloatArray, InputError, Panel
from lab.risk import GAP_BARS, KINDS, WARM_UP_DAYS
from lab.tables import markdown, with_interval
from lab.units import Record, Result, Unit, grouped
from nas.network.residual import Problem
from nas.network.residual_fit import ResidualSettings, fit_residual
from nas.search.pooling import Decision, Score, decide
from nas.space.kinds import BASE_INPUT, COLUMNS_KIND, draw
from nas.targets import get_target
from nas.targets.columns import DAY_NS
from nas.tasks.kinds import CHEAP, PER_KIND, KindsTask, scores_of
from nas.tasks.windows import Window, WindowPlan

DAYS = (150, 50, 30)  # to learn from, to validate, unseen; one validation stretch follows the other
NETWORKS = 2  # of each kind, as they ship
SHARE = ResidualSettings().share
FROM_WINDOW = 4  # the fifth: decisions before are told, not judged
LESSER = ("small",)  # the family that was behind on other coins; the others are `convolutions`


def windows_of(panel: Panel, days: tuple[int, int, int] = DAYS) -> tuple[Window, ...]:
    """Rolling windows whose validation stretches do not overlap. InputError where none fits."""
    day = DAY_NS // panel.interval_ns
    if day < 1:
        raise InputError(f"{panel.assets[0]}: bars of more than a day are too long for windows of {sum(days)} days")
    train, validation, test = (n * day for n in days)
    plan = WindowPlan(train, validation, min(test, validation), validation)
    return plan.windows(len(panel), first=WARM_UP_DAYS * day, purge_bars=GAP_BARS)


def units(
    histories: Sequence[Panel],
    target: str,
    horizon: int,
    group: int,
    forecast: int,
    kinds: Sequence[str] = KINDS,
    lesser: Sequence[str] = LESSER,
) -> list[Unit]:
    """Per file and window; window by window, so that what is finished is an earlier part of time. group: files that pool their evidence.

    forecast: groups whose networks are fitted as they ship, too. lesser: the kinds of one family, the others are the other. InputError
    for unknown kinds, or a family without any.
    """
    for name in (*kinds, *lesser):
        draw(name, (("return", "raw"), (f"{BASE_INPUT}log_range", "raw")), (horizon,), 0)
    if not set(lesser) < set(kinds):
        raise InputError(f"--lesser {','.join(lesser)} must be some, not all, of --kinds {','.join(kinds)}")
    if not get_target(target).risk:
        raise InputError(f"target {target} has no closed form to build on; give range, volatility, volume or drawdown")
    found = []
    for g in range(-(-len(histories) // group)):
        mine = histories[g * group : (g + 1) * group]
        for number in range(max(len(windows_of(panel)) for panel in mine)):
            for k, panel in enumerate(mine):
                if number < len(windows_of(panel)):
                    seed = 10_000 * (g + 1) + 100 * number + 10 * k
                    settings: dict[str, Any] = {
                        "target": target, "horizon": horizon, "symbol": panel.assets[0], "group": g, "window": number, "days": list(DAYS),
                        "kinds": list(kinds), "per_kind": PER_KIND, "training": asdict(CHEAP), "seed": seed,
                        "networks": NETWORKS if g < forecast else 0, "share": SHARE,
                    }  # fmt: skip
                    mark = ""
                    if tuple(kinds) != KINDS:
                        settings["lesser"], mark = list(lesser), "-" + "-".join(kinds)
                    found.append(Unit(f"{target}{horizon}-{panel.assets[0]}-{number}{mark}", settings))
    return found


def compute(unit: Unit, histories: Sequence[Panel]) -> Result:
    """Scores; of networks that ship their kinds, and on test: squared error of the base, its moments with every network's deviation, and
    theirs with each other."""
    torch.set_num_threads(1)
    settings = unit.settings
    panel = next(p for p in histories if p.assets[0] == settings["symbol"])
    window = windows_of(panel)[settings["window"]]
    begin = max(0, window.train.start - WARM_UP_DAYS * DAY_NS // panel.interval_ns)
    cut = panel.cut(begin, min(len(panel), window.test.stop + settings["horizon"] + 1))
    moved = [slice(part.start - begin, part.stop - begin) for part in (window.train, window.validation, window.test)]
    window = replace(window, train=moved[0], validation=moved[1], test=moved[2])
    every = tuple(settings["kinds"])
    problem = Problem.of(cut, settings["target"], settings["horizon"], columns=COLUMNS_KIND in every)
    task = KindsTask(
        window, settings["target"], settings["horizon"], settings["seed"], kinds=every, per_kind=settings["per_kind"]
    )
    result: Result = {"scores": [asdict(score) for score in scores_of(problem, task)]}
    if settings["networks"]:
        kinds = settings["networks"] * every
        model = fit_residual(
            problem, window.train, window.validation, ResidualSettings(kinds=kinds), settings["seed"]
        ).model
        base = replace(model, share=0.0).forecast(problem, window.test)[0]
        singly = [
            replace(model, members=(m,), share=1.0).forecast(problem, window.test)[0] - base for m in model.members
        ]
        left = problem.label[0, window.test] - base
        known = np.isfinite(left) & np.isfinite(np.sum(singly, 0))
        deviations = np.stack(singly)[:, known]
        result |= {
            "kinds": list(kinds),
            "base": float(np.mean(left[known] ** 2)),
            "cross": (deviations @ left[known] / known.sum()).tolist(),
            "gram": (deviations @ deviations.T / known.sum()).tolist(),
        }
    return result


def saved(result: Any, members: Sequence[int], share: float) -> float:
    """Share of the base's squared error on test that the mean of these networks saves."""
    m = list(members)
    cross, gram = np.array(result["cross"])[m].mean(), np.array(result["gram"])[np.ix_(m, m)].mean()
    return float((2.0 * share * cross - share**2 * gram) / result["base"])


def against(result: Any, kept: Sequence[str], share: float) -> tuple[float, float, float]:
    """(all networks of the kept kinds, the mean over every choice of as many networks, all networks)."""
    kinds = result["kinds"]
    mine = [k for k, kind in enumerate(kinds) if kind in kept]
    drawn = [saved(result, members, share) for members in itertools.combinations(range(len(kinds)), len(mine))]
    return saved(result, mine, share), float(np.mean(drawn)), saved(result, range(len(kinds)), share)


def in_families(scores: Sequence[Score], lesser: Sequence[str] = LESSER) -> list[Score]:
    """With the family in place of the kind: `convolutions`, or `small` for those of `lesser`."""
    return [replace(s, kind="small" if s.kind in lesser else "convolutions") for s in scores]


def decisions_of(mine: Sequence[Record], families: bool = False) -> dict[int, Decision]:
    """Per window, from the scores of all files of a group. families: one family against the other."""
    scores = [Score(**raw) for record in mine for raw in record.result["scores"]]
    if families:
        scores = in_families(scores, mine[0].settings.get("lesser", LESSER))
    scores = [replace(s, asset=r.settings["symbol"]) for r, s in zip(_spread(mine), scores, strict=True)]
    return {window: decide(scores, window) for window in sorted({s.window for s in scores})}


def _spread(mine: Sequence[Record]) -> list[Record]:
    return [record for record in mine for _ in record.result["scores"]]


def replayed(mine: Sequence[Record]) -> str:
    """What pooled evidence would have decided over the problems of `lab risk`, one after the other (docs/evidence/kinds-plan.md).

    Their validation stretches overlap by the days between two tests; networks were stopped on the stretch that scores them.
    """
    named = {f"harxl + {kind} x 0.5" for kind in KINDS}
    if not all(named <= set(r.result["arms"]) and set(KINDS) <= {n[0] for n in r.result["networks"]} for r in mine):
        return ""
    ordered = sorted(mine, key=lambda r: str(r.settings["test"]))
    dates = np.array([np.datetime64(str(r.settings["test"])) for r in ordered])
    apart = np.diff(dates).astype(int)
    validated = int(ordered[0].settings["days"][1])
    scores, found, families = [], [], 0
    for slot, record in enumerate(ordered):
        new = 1.0 if slot == 0 else min(1.0, int(apart[slot - 1]) / validated)
        scores += [
            Score(slot, 1, str(record.settings["symbol"]), n[0], k, n[1], n[1], new)
            for k, n in enumerate(record.result["networks"]) if n[0] in KINDS
        ]  # fmt: skip
        if slot < FROM_WINDOW:
            continue
        kept = {r.kind for r in decide(scores, slot).records if r.kept}
        family = decide(in_families(scores), slot).records
        families += {r.kind for r in family if r.kept} == {"convolutions"}
        arms = {kind: record.result["arms"][f"harxl + {kind} x 0.5"]["skill"] for kind in KINDS}
        drawn = float(np.mean(list(arms.values())))
        found.append((float(np.mean([arms[k] for k in kept])) - drawn, arms["small"] - drawn, len(kept)))
    if not found:
        return ""
    gained, small, count = np.array(found).T
    return (
        f"Pooled over these problems in order of time, from the fifth on: convolutions alone are kept in {families} of {len(found)}, "
        f"{count.mean():.1f} of {len(KINDS)} kinds are; skill of four networks of a kept kind less that of a kind drawn "
        f"{with_interval(gained, np.mean)}, of small cells less drawn {with_interval(small, np.mean)}."
    )


def kinds_table(found: Sequence[Record]) -> tuple[str, str]:
    """(verdict, markdown) of all targets that have results."""
    parts, verdicts = [], []
    for (target, horizon, kinds), mine in grouped([_tupled(r) for r in found], "target", "horizon", "kinds").items():
        verdict, text = _one(mine)
        name = f"{target}, {horizon} bars, {', '.join(kinds)}"
        verdicts.append(f"{name}: {verdict}")
        parts.append(f"### {name}\n\n{text}")
    return " ".join(verdicts), "\n\n".join(parts)


def _singly(mine: Sequence[Record]) -> str:
    """By kind, over all windows that have networks; coins of a window averaged first."""
    fitted = grouped([r for r in mine if "gram" in r.result], "window").values()
    kinds = list(dict.fromkeys(next(iter(fitted))[0].result["kinds"]))
    gains = {
        kind: np.array([
            np.mean([saved(r.result, [k], 0.5) for r in of for k, name in enumerate(r.result["kinds"]) if name == kind]) for of in fitted
        ])
        for kind in kinds
    }  # fmt: skip
    return ", ".join(f"{kind} {with_interval(found, np.mean)}" for kind, found in gains.items())


def _tupled(record: Record) -> Record:
    return replace(record, settings={**record.settings, "kinds": tuple(record.settings.get("kinds", KINDS))})


def _one(mine: Sequence[Record]) -> tuple[str, str]:
    rows, decided, wrong, judged = [], 0, 0, 0
    gains: list[tuple[float, float, float]] = []
    windows: list[int] = []
    for (group,), every in grouped(mine, "group").items():
        files = len({r.settings["symbol"] for r in every})
        finished = {w for (w,), of in grouped(every, "window").items() if len(of) == files}
        records = [r for r in every if r.settings["window"] in finished]
        if not records:
            continue
        by_kind, by_family = decisions_of(records), decisions_of(records, families=True)
        for window, decision in by_kind.items():
            if window < FROM_WINDOW:
                continue
            family = [r.kind for r in by_family[window].records if r.kept]
            judged += 1
            decided += family == ["convolutions"]
            wrong += family == ["small"]
            kept = [r.kind for r in decision.records if r.kept]
            fitted = [r for r in records if r.settings["window"] == window and "gram" in r.result]
            here = [against(r.result, kept, r.settings["share"]) for r in fitted]
            gains += here
            windows += [window] * len(here)
        last = by_kind[max(by_kind)]
        told = ", ".join(
            f"{r.kind} {r.gain:+.3f} ({r.low:+.3f} to {r.high:+.3f}){'' if r.kept else ' dropped'}"
            for r in last.records
        )
        symbols = ", ".join(dict.fromkeys(r.settings["symbol"] for r in records))
        rows.append([str(group), symbols, str(len(by_kind)), told, last.probe.sentence()])
    text = markdown(["group", "files", "windows", "record after the last", "probe"], rows)
    lesser = mine[0].settings.get("lesser")
    families = ("the others", ", ".join(lesser)) if lesser else ("convolutions", "small cells")
    verdict = (
        f"decided for {families[0]} in {decided} of {judged} windows from the fifth on, for {families[1]} in {wrong}"
    )
    if gains:
        values = np.array(gains)
        means: list[FloatArray] = [
            np.array([values[np.array(windows) == w, column].mean() for w in sorted(set(windows))])
            for column in range(3)
        ]
        names = ("kinds that evidence keeps", "as many drawn", "all networks of all kinds")
        text += "\n\n" + markdown(
            ["forecast", "share of the base's squared error saved on test"],
            [[name, with_interval(mean, np.mean)] for name, mean in zip(names, means, strict=True)],
        )
        text += "\n\nWhat one network of a kind saved there, half of its deviation added: " + _singly(mine) + "."
        verdict += f"; kept less drawn {with_interval(means[0] - means[1], np.mean)} of the base's squared error"
    return verdict + ".", text
