"""Evidence on kinds of architectures, gathered over windows: what one window cannot tell apart, many can (docs/decisions/091).

A score is what one cheap network added to the base on a fold of a window's validation stretch, stopped by the other fold. Scores are
pooled with a forgetting rate, kinds are told apart by the interval of their paired difference to the best, and `probe` says whether
pooled evidence foretold what followed at all. Window w reads the scores of windows up to w, none of which reads past its validation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from data.panel import FloatArray
from nas.targets import correlation

FORGETTING = 0.95  # weight of a window's evidence in the next one: half of it is gone after 13 windows
LEVEL = 0.8  # two-sided: a kind that is dropped wrongly costs little, one that is kept wrongly no more
LEAST_CORRELATION = 0.2  # below, choosing what led so far is no better than drawing (issue 29)
LEAST_WINDOWS = 3  # before a probe says anything
NETWORKS, AVERAGED = 8, 12  # of the kinds that are left; where nothing can be chosen


@dataclass(frozen=True)
class Score:
    """What one network added to the base: share of its squared error, on fold 0 or 1 of a window's validation, of one asset.

    seen: the same on the fold that stopped it, which is what a choice would see. weight: share of the fold's bars that no earlier
    window validated on.
    """

    window: int
    fold: int
    asset: str
    kind: str
    member: int
    gain: float
    seen: float
    weight: float = 1.0


@dataclass(frozen=True)
class Record:
    """A kind's pooled gain and its paired difference to the leader, with intervals; units: stretches that count, after forgetting."""

    kind: str
    gain: float
    low: float
    high: float
    behind: float
    behind_low: float
    behind_high: float
    units: float
    kept: bool


@dataclass(frozen=True)
class Probe:
    """Rank correlations of evidence and what followed: of pooled kinds (`between`), and of single networks of a kind (`within`).

    windows: how many they are the mean of. helps: whether choosing kinds can; None before there are enough windows.
    """

    between: float
    between_low: float
    between_high: float
    within: float
    windows: int

    @property
    def helps(self) -> bool | None:
        if self.windows < LEAST_WINDOWS or not math.isfinite(self.between):
            return None
        return self.between >= LEAST_CORRELATION

    def sentence(self) -> str:
        """For plan and page."""
        if self.helps is None:
            return f"{self.windows} windows are too few to say whether choosing kinds can help; averaging all kinds"
        measured = (
            f"rank correlation of pooled evidence and what followed {self.between:.2f}, within kinds {self.within:.2f}"
        )
        if not self.helps:
            return f"{measured}: choosing cannot help on this target; averaging {AVERAGED}"
        return f"{measured}: kinds are chosen, networks of a kind are averaged"


@dataclass(frozen=True)
class Decision:
    """Which kinds a window's forecast is the mean of, and why."""

    window: int
    records: tuple[Record, ...]
    probe: Probe

    @property
    def kinds(self) -> tuple[str, ...]:
        """One entry per network, in turn: of the kinds that are kept where choosing helped so far, of all elsewhere."""
        if not self.probe.helps:
            return in_turn([r.kind for r in self.records], NETWORKS if self.probe.helps is None else AVERAGED)
        return in_turn([r.kind for r in self.records if r.kept], NETWORKS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where nothing is known yet."""
        found = {
            "networks": list(self.kinds),
            "records": [asdict(record) for record in self.records],
            "probe": {**asdict(self.probe), "helps": self.probe.helps, "sentence": self.probe.sentence()},
        }
        return json.loads(json.dumps(found), parse_constant=lambda _: None)  # type: ignore[no-any-return]


def in_turn(kinds: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` entries, or one of each where there are more kinds."""
    return tuple(kinds[k % len(kinds)] for k in range(max(count, len(kinds))))


def decide(scores: Iterable[Score], window: int, forgetting: float = FORGETTING, level: float = LEVEL) -> Decision:
    """What is known when `window` is forecast; scores of later windows are not read. ValueError where there are none."""
    known = [score for score in scores if score.window <= window]
    if not known:
        raise ValueError(f"no scores of window {window} or before")
    return Decision(window, records(known, forgetting, level), probe(known, forgetting))


def records(scores: Sequence[Score], forgetting: float = FORGETTING, level: float = LEVEL) -> tuple[Record, ...]:
    """Per kind, in the order in which they first come. The last window weighs 1.

    A unit is a fold of a window: assets move together, so their mean counts once. Where a fold was validated on before, only the rest
    counts: n, its share. Intervals by Student's t with the effective number of units, (sum n w)^2 / sum n w^2, w what is remembered.
    """
    kinds, gains, weights = _units(scores, forgetting)
    means = [_pooled(gains[:, k], weights, level) for k in range(len(kinds))]
    leader = max(range(len(kinds)), key=lambda k: (means[k][0], -k))
    found = []
    for k, kind in enumerate(kinds):
        mean, low, high, units = means[k]
        if k == leader:
            found.append(Record(kind, mean, low, high, 0.0, 0.0, 0.0, units, True))
            continue
        behind, behind_low, behind_high, _ = _pooled(gains[:, k] - gains[:, leader], weights, level)
        found.append(Record(kind, mean, low, high, behind, behind_low, behind_high, units, not behind_high < 0.0))
    return tuple(found)


def probe(scores: Sequence[Score], forgetting: float = FORGETTING) -> Probe:
    """Whether what led so far led next: kinds pooled up to a window's early fold against its late fold; networks alike, within kinds."""
    between, within = [], []
    for window in sorted({score.window for score in scores}):
        late = [s for s in scores if s.window == window and s.fold == 1 and s.weight > 0.0]
        if not late:
            continue
        # the early fold as a choice would see it: networks that it stopped
        early = [replace(s, fold=0, gain=s.seen) for s in late]
        kinds, then, _ = _units(late, 1.0)
        if not len(then):
            continue
        order, gains, weights = _units([*(s for s in scores if s.window < window), *early], forgetting)
        before = {k: _pooled(gains[:, n], weights, LEVEL)[0] for n, k in enumerate(order)}
        between.append(correlation(then[0], np.array([before[k] for k in kinds]), ranks=True))
        within.append(_within(late))
    known = np.array([value for value in between if math.isfinite(value)])
    inner = [value for value in within if math.isfinite(value)]
    mean, low, high, _ = _pooled(known, np.ones((len(known), 2)), 0.95)
    return Probe(mean, low, high, float(np.mean(inner)) if inner else math.nan, len(known))


def _within(late: Sequence[Score]) -> float:
    """Correlation of seen and gained over the networks of a fold, each less the mean of its kind."""
    seen, gained = [], []
    for kind in dict.fromkeys(s.kind for s in late):
        mine = [s for s in late if s.kind == kind]
        members = sorted({s.member for s in mine})
        pairs = np.array(
            [[np.mean([getattr(s, f) for s in mine if s.member == m]) for f in ("seen", "gain")] for m in members]
        )
        if len(members) > 1:
            seen += (pairs[:, 0] - pairs[:, 0].mean()).tolist()
            gained += (pairs[:, 1] - pairs[:, 1].mean()).tolist()
    return correlation(np.array(seen), np.array(gained), ranks=True)


def _units(scores: Sequence[Score], forgetting: float) -> tuple[list[str], FloatArray, FloatArray]:
    """(kinds, gains [unit, kind], weights [unit, 2]: how much of it is new, and how much of it is remembered); NaN where not tried."""
    kinds = list(dict.fromkeys(s.kind for s in scores))
    last = max(s.window for s in scores)
    cells: dict[tuple[int, int], dict[str, list[float]]] = {}
    weight: dict[tuple[int, int], tuple[float, float]] = {}
    for s in scores:
        if s.weight > 0.0 and math.isfinite(s.gain):
            cells.setdefault((s.window, s.fold), {}).setdefault(s.kind, []).append(s.gain)
            weight[s.window, s.fold] = s.weight, forgetting ** (last - s.window)
    units = sorted(cells)
    gains = np.array([[np.mean(cells[u][k]) if k in cells[u] else np.nan for k in kinds] for u in units])
    return kinds, gains.reshape(len(units), len(kinds)), np.array([weight[u] for u in units]).reshape(-1, 2)


def _pooled(values: FloatArray, weights: FloatArray, level: float) -> tuple[float, float, float, float]:
    """(weighted mean, low, high, effective number); infinite bounds below two. weights: [unit, 2] of `_units`."""
    known = np.isfinite(values)
    v, new, kept = values[known], weights[known, 0], weights[known, 1]
    if not len(v):
        return math.nan, -math.inf, math.inf, 0.0
    w = new * kept
    mean, units = float(w @ v / w.sum()), float(w.sum() ** 2 / (w @ kept))
    if units < 2.0 - 1e-9:
        return mean, -math.inf, math.inf, units
    variance = float(w @ (v - mean) ** 2 / w.sum()) * units / (units - 1.0)
    reach = float(stdtrit(units - 1.0, 0.5 + level / 2.0)) * math.sqrt(variance / units)
    return mean, mean - reach, mean + reach, units
