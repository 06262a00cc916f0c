"""Risk and activity: on targets where validation can rank, do networks add to a strong closed form, and does searching add to drawing?

Problems are stretches of the given candle files, their tests on a calendar of slots that do not overlap: training, validation and test
in time order, purged. In every slot the file used least so far comes next, so that no symbol judges more than its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from data.panel import FloatArray, InputError, Panel
from lab.units import Result, Unit
from nas.baselines import build_baseline
from nas.network.residual import Problem, ResidualModel
from nas.network.residual_fit import Found, ResidualSettings, fit_residual
from nas.network.stretches import Scaler
from nas.search.loop import search
from nas.search.selection import random_genotype
from nas.search.settings import SearchSettings
from nas.space.genotype import Genotype
from nas.space.kinds import CONVOLUTIONS
from nas.space.search_space import SearchSpace
from nas.targets import base_columns, correlation, fit_base, forecast_by, get_target, qlike, skill
from nas.targets.bases import bias
from nas.targets.columns import DAY_NS

GAP_BARS = 222  # between stretches: more than any network's receptive field and any horizon here
WARM_UP_DAYS = 32  # of the slowest column
KINDS = ("stack", "ladder", "convolutions", "small")
PER_KIND = 4
RANDOMS = 8  # as many trainings as a search and its four networks cost
SEARCHED = 4
SHIPPED = "harxl + two of each kind x 0.75"  # what `ResidualSettings` has by itself
SPACE_OPS = ("zero", "skip", "dense", *CONVOLUTIONS, "ema12")
NODES, CHANNELS, SEARCH_CHANNELS = 4, 16, 8
SEARCH: dict[str, Any] = {
    "epochs": 16,
    "learning_rate": 1e-2,
    "alpha_warmup_epochs": 2,
    "diagnostics_every": 0,
    "finalist_epochs": 1,
}
#: target and bars ahead
TARGETS = (("range", 6), ("volume", 24))
DAYS = (150, 50, 30)  # to learn from, to validate, unseen
#: `goals`: only what the goals of the issue compare, a third of the time
ARMS = ("all", "goals")


@dataclass(frozen=True)
class Place:
    """One problem's place: which file, and the first bar of its test."""

    slot: int
    history: int
    symbol: str
    test_start: int


def places(histories: Sequence[Panel], slots: int, per_slot: int, days: tuple[int, int, int] = DAYS) -> list[Place]:
    """`per_slot` problems in each of `slots` calendar slots, slots spread evenly over what the files allow. InputError where none fits."""
    train, validation, test = days
    spans = []
    for panel in histories:
        day = DAY_NS // panel.interval_ns
        if day < 1:
            raise InputError(
                f"{panel.assets[0]}: bars of more than a day are too long for problems of {sum(days)} days"
            )
        first = (WARM_UP_DAYS + train + validation) * day + 2 * GAP_BARS
        close = panel.close_times.astype("datetime64[ns]").astype(np.int64)
        if first + test * day < len(panel):
            spans.append((int(close[first]), int(close[-1]) - 2 * DAY_NS))
        else:
            spans.append((0, 0))
    usable = [span for span in spans if span[1]]
    if not usable:
        needed = WARM_UP_DAYS + sum(days)
        raise InputError(f"no file is long enough for one problem: {needed} days and {2 * GAP_BARS} bars are needed")
    begin, end = min(s for s, _ in usable), max(e for _, e in usable)
    count = int((end - begin) // (test * DAY_NS))
    chosen = np.unique(np.round(np.linspace(0, count - 1, min(slots, count))).astype(int)).tolist()
    used = [0] * len(histories)
    found = []
    for slot, k in enumerate(chosen):
        start = begin + k * test * DAY_NS
        able = [h for h, (low, high) in enumerate(spans) if high and low <= start and start + test * DAY_NS <= high]
        for h in sorted(able, key=lambda h: (used[h], h))[:per_slot]:
            used[h] += 1
            close = histories[h].close_times.astype("datetime64[ns]").astype(np.int64)
            found.append(Place(slot, h, histories[h].assets[0], int(np.searchsorted(close, start))))
    return found


def targets_of(text: str) -> tuple[tuple[str, int], ...]:
    """`range:6,volume:24` -> pairs. InputError for what is no target with bars ahead."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, horizon = part.partition(":")
        if not horizon.isdigit() or int(horizon) < 1:
            raise InputError(f"--target {part!r} does not say how many bars ahead: give e.g. range:6,volume:24")
        if not get_target(name).risk:
            raise InputError(
                f"target {name} has no closed form to build on; there are range, volatility, volume, drawdown"
            )
        found.append((name, int(horizon)))
    if not found:
        raise InputError("--target names nothing: give e.g. range:6,volume:24")
    return tuple(found)


def units(
    histories: Sequence[Panel],
    slots: int,
    per_slot: int,
    targets: Sequence[tuple[str, int]] = TARGETS,
    days: tuple[int, int, int] = DAYS,
    arms: str = "all",
) -> list[Unit]:
    """One per target and place; the first file of every slot for every target comes before the second of any. InputError for other arms."""
    if arms not in ARMS:
        raise InputError(f"--arms {arms!r} is neither of {', '.join(ARMS)}")
    found: list[tuple[int, Unit]] = []
    for name, horizon in targets:
        rank: dict[int, int] = {}
        for place in places(histories, slots, per_slot, days):
            turn = rank[place.slot] = rank.get(place.slot, -1) + 1
            panel = histories[place.history]
            date = str(panel.timestamps[place.test_start])[:10]
            settings = {
                "target": name, "horizon": horizon, "symbol": place.symbol, "test": date, "slot": place.slot, "turn": turn,
                "days": list(days), "interval_ns": panel.interval_ns, "seed": 1_000 * turn + place.slot, "search": SEARCH,
                "residual": {**asdict(replace(ResidualSettings(), kinds=())), "kinds": list(KINDS), "per_kind": PER_KIND},
            }  # fmt: skip
            mark = "" if arms == "all" else f"-{arms}"
            if mark:
                settings["arms"] = arms
            found.append((turn, Unit(f"{name}{horizon}-{date}-{place.symbol}-{days[0]}{mark}", settings)))
    return [unit for _, unit in sorted(found, key=lambda item: item[0])]


def stretch(panel: Panel, unit: Unit) -> tuple[Panel, slice, slice, slice]:
    """The problem's own panel (nothing later than its last label) and its training, validation and test bars."""
    train_days, validation_days, test_days = unit.settings["days"]
    day = DAY_NS // panel.interval_ns
    date = np.datetime64(unit.settings["test"], "ns")
    at = int(np.searchsorted(panel.timestamps, date))
    first = at - 2 * GAP_BARS - (train_days + validation_days + WARM_UP_DAYS) * day
    horizon = unit.settings["horizon"]
    cut = panel.cut(max(0, first), min(len(panel), at + test_days * day + horizon + 1))
    at -= max(0, first)
    validation = slice(at - GAP_BARS - validation_days * day, at - GAP_BARS)
    train = slice(validation.start - GAP_BARS - train_days * day, validation.start - GAP_BARS)
    return cut, train, validation, slice(at, at + test_days * day)


def compute(unit: Unit, histories: Sequence[Panel]) -> Result:
    """Per arm: skill and QLIKE on test. Per network: its kind, and what it adds to its base by itself on validation and on test."""
    torch.set_num_threads(1)
    settings = unit.settings
    panel, train, validation, test = stretch(next(p for p in histories if p.assets[0] == settings["symbol"]), unit)
    target, horizon, seed = get_target(settings["target"]), settings["horizon"], settings["seed"]
    both = (train, validation)
    label = target.label(panel, horizon)
    naive_columns = base_columns("ewma", panel, target, horizon)
    naive = fit_base("ewma", naive_columns, label, both).forecast(naive_columns)[:, test]
    truth = label[:, test]
    arms: dict[str, dict[str, float]] = {}

    def judge(arm: str, forecast: FloatArray, factor: float) -> None:
        loss = qlike(truth, forecast, target.power, factor)
        arms[arm] = {
            "skill": skill(truth, forecast, naive),
            "qlike": float(np.nanmean(loss)),
            "correlation": correlation(truth, forecast),
        }

    problems = {name: Problem.of(panel, target.name, horizon, name) for name in ("harx", "harxl")}
    for name in ("ewma", "har", "harx", "harxl"):  # bias from the validation forecasts of a fit on training
        columns = base_columns(name, panel, target, horizon)
        before = fit_base(name, columns, label, train).forecast(columns)[:, validation]
        judge(
            name,
            fit_base(name, columns, label, both).forecast(columns)[:, test],
            bias(label[:, validation], before, target.power),
        )
    few = settings.get("arms") == "goals"
    for name in () if few else target.rivals:
        told = forecast_by(name, panel, target, horizon, (validation.start, test.start))
        judge(name, told[:, test], bias(label[:, validation], told[:, validation], target.power))

    rival = _by_hand(problems["harx"], "tcn", train, validation, seed)
    judge("harx + tcn", rival.model.forecast(problems["harx"], test), float(rival.model.factor[0]))
    if not few:
        flat = Problem.of(panel, target.name, horizon, "ewma")
        alone = _by_hand(flat, "tcn", train, validation, seed)
        judge("tcn", alone.model.forecast(flat, test), float(alone.model.factor[0]))

    problem = problems["harxl"]
    groups = {name: _drawn(problem, [name] * (2 if few else PER_KIND), train, validation, seed) for name in KINDS}
    searched = "" if few else _searched(groups, problem, train, validation, unit)

    def mixed(arm: str, share: float, counts: dict[str, int]) -> None:
        """Base and a share of the mean of the first networks of each group, with the bias factor that they had on validation."""
        members = tuple(m for name, count in counts.items() for m in groups[name].model.members[:count])
        moved = [d for name, count in counts.items() for d in groups[name].deviations[:count]]
        model = replace(groups["stack"].model, members=members, share=share)
        before = groups["stack"].base_validation + share * np.mean(moved, 0)
        judge(arm, model.forecast(problem, test), bias(label[:, validation], before, target.power))

    for name, group in groups.items():
        for share in (0.5, 1.0):
            mixed(f"harxl + {name} x {share:g}", share, {name: len(group.model.members)})
    mixed("harxl + one of each kind x 0.5", 0.5, dict.fromkeys(KINDS, 1))
    mixed(SHIPPED, 0.75, dict.fromkeys(KINDS, 2))
    if not few:
        mixed("harxl + random 4 x 0.5", 0.5, {"random": SEARCHED})
        mixed("harxl + all kinds x 0.75", 0.75, dict.fromkeys(KINDS, PER_KIND))

    base = problem.label[:, validation] - groups["stack"].base_validation
    networks = [
        [name, *_increments(problem, group, k, validation, test, base)]
        for name, group in groups.items()
        for k in range(len(group.model.members))
    ]
    return {
        "arms": arms,
        "networks": networks,
        "epochs": {name: [m.epochs for m in group.model.members] for name, group in groups.items()},
        "searched": searched,
        "bars": [train.stop - train.start, validation.stop - validation.start, test.stop - test.start],
    }


def _searched(groups: dict[str, Found], problem: Problem, train: slice, validation: slice, unit: Unit) -> str:
    """Adds what was drawn from a space and what DARTS-PT finds in it, trained and refitted alike; returns the architecture it found."""
    horizon, seed = problem.horizon, unit.settings["seed"]
    space = SearchSpace(
        ops=SPACE_OPS, nodes=NODES, channels=CHANNELS, search_channels=SEARCH_CHANNELS, horizons=(horizon,)
    ).with_features({name: (pipeline,) for name, pipeline in problem.features})
    generator = torch.Generator().manual_seed(seed)
    drawn = [_whole(random_genotype(space, generator), problem) for _ in range(RANDOMS)]
    groups["random"] = fit_residual(problem, train, validation, ResidualSettings(), seed, genotypes=drawn)
    first = fit_base("harxl", problem.columns, problem.label, train)
    scaler = Scaler.fit(problem.bank.values[:, problem.places(problem.features)], train)
    tensors = problem.tensors(first, scaler, problem.features)
    how = SearchSettings(**unit.settings["search"], finalists=SEARCHED)
    found = search(space, tensors, train, validation, how, seed, variant="pt")
    chosen = [_whole(genotype, problem) for genotype, _ in found.finalists][:SEARCHED] or [
        _whole(found.genotype, problem)
    ]
    groups["searched"] = fit_residual(problem, train, validation, ResidualSettings(), seed, genotypes=chosen)
    return str(found.genotype)


def _by_hand(problem: Problem, name: str, train: slice, validation: slice, seed: int) -> Found:
    """Four hand-designed networks on what a base leaves, refitted, all of their mean added."""
    inputs = len(problem.features)
    builders = [lambda k=k: build_baseline(name, inputs, 1, seed + k) for k in range(4)]  # type: ignore[misc]
    return fit_residual(problem, train, validation, ResidualSettings(share=1.0), seed, builders=builders)


def _drawn(problem: Problem, kinds: Sequence[str], train: slice, validation: slice, seed: int) -> Found:
    return fit_residual(problem, train, validation, ResidualSettings(kinds=tuple(kinds)), seed)


def _whole(genotype: Genotype, problem: Problem) -> Genotype:
    """With all inputs: which of them to read cannot be told here, and all of them are the better kind (docs/evidence.md)."""
    return replace(genotype, features=problem.features)


def _increments(
    problem: Problem, group: Found, k: int, validation: slice, test: slice, left: FloatArray
) -> tuple[float, float, float, float]:
    """What network k adds to the base at half its deviation, as a share of the base's squared error, on validation and test; and the
    correlations of its deviation with what the base left there."""
    before = group.deviations[k]
    known = np.isfinite(before) & np.isfinite(left)
    gain = 1.0 - float(np.mean((left - 0.5 * before)[known] ** 2) / np.mean(left[known] ** 2))
    single: ResidualModel = replace(group.model, members=(group.model.members[k],), share=1.0)
    base = replace(group.model, share=0.0).forecast(problem, test)
    moved = single.forecast(problem, test) - base
    rest = problem.label[:, test] - base
    seen = np.isfinite(moved) & np.isfinite(rest)
    after = 1.0 - float(np.mean((rest - 0.5 * moved)[seen] ** 2) / np.mean(rest[seen] ** 2))
    return gain, after, correlation(left, before), correlation(rest, moved)
