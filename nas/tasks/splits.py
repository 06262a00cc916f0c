"""Combinatorial purged cross-validation: every way to hold groups of bars out, the rest to search and train on, paths through all of them.

López de Prado (2018), chapter 12: N groups in time order, k held out together, C(N, k) splits; each group is held out C(N - 1, k - 1)
times, so that as many whole paths can be put together from forecasts of bars that were held out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from data.errors import InputError

GROUPS, HELD = 10, 2
VALIDATED = 2  # neighbouring groups that alpha and early stopping see
FEWEST_BARS = 100  # of a group, beside what is purged of it


@dataclass(frozen=True)
class Split:
    """One way to hold groups out; bounds are bar indices, half-open. It stands where a `Window` does for searching and training.

    held: the groups that nothing is learnt from. train: what is left before, between and behind, purged and embargoed.
    validation: two neighbouring groups; alpha sees both, training the first, early stopping and every choice the second. erased: the
    bars that a search and a training may not read at all.
    """

    number: int
    held: tuple[slice, ...]
    train: tuple[slice, ...]
    validation: slice
    purge_bars: int
    reach: int

    @property
    def fit(self) -> tuple[slice, ...]:
        """Bars a network is trained from scratch on: train and the first half of validation, purged before `stop`."""
        first = slice(self.validation.start, self.stop.start - self.purge_bars)
        return (*self.train, first) if first.stop > first.start else self.train

    @property
    def stop(self) -> slice:
        """The last half of validation."""
        return slice(self.validation.stop - (self.validation.stop - self.validation.start) // 2, self.validation.stop)

    @property
    def test(self) -> slice:
        """From the first held bar to the last; what lies between two held groups is no test."""
        return slice(self.held[0].start, self.held[-1].stop)


def groups_of(first: int, last: int, count: int = GROUPS) -> tuple[slice, ...]:
    """Bars first..last in so many groups of all but the same length."""
    edges = [first + (last - first) * k // count for k in range(count + 1)]
    return tuple(slice(a, b) for a, b in itertools.pairwise(edges))


def splits_of(groups: Sequence[slice], held: int, purge_bars: int, reach: int) -> tuple[Split, ...]:
    """All ways to hold `held` of the groups out, in lexical order.

    reach: bars that a label reads ahead: so many are left out before what is held or validates, because their labels end inside. The
    rest of the purge, what networks look back, is left out behind. InputError where the groups are too short for that.
    """
    shortest = min(part.stop - part.start for part in groups)
    if shortest < FEWEST_BARS + purge_bars:
        raise InputError(
            f"--policy cpcv: {len(groups)} groups of {shortest} bars are too short, {purge_bars} bars are purged of each; "
            f"give at least {len(groups) * (FEWEST_BARS + purge_bars)} bars, or a space that looks back less far (fewer --nodes)"
        )
    found = []
    for number, out in enumerate(itertools.combinations(range(len(groups)), held)):
        kept = [k for k in range(len(groups)) if k not in out]
        pairs = [k for k in kept if k + 1 in kept]
        first = pairs[number % len(pairs)]
        judged = range(first, first + VALIDATED)
        taken = {*out, *judged}
        train: list[slice] = []
        for k in range(len(groups)):
            if k in taken:
                continue
            begin = groups[k].start + (purge_bars - reach if k - 1 in taken else 0)
            end = groups[k].stop - (reach if k + 1 in taken else 0)
            if train and train[-1].stop == begin:
                train[-1] = slice(train[-1].start, end)
            else:
                train.append(slice(begin, end))
        # its own labels may not end in a held group, nor its networks look back into one
        start = groups[first].start + (purge_bars - reach if first - 1 in out else 0)
        stop = groups[first + 1].stop - (reach if first + 2 in out else 0)
        found.append(Split(number, tuple(groups[k] for k in out), tuple(train), slice(start, stop), purge_bars, reach))
    return tuple(found)


def paths_of(splits: Sequence[Split], groups: Sequence[slice]) -> list[list[int]]:
    """Per path, whose split each group is taken from: the j-th of those that held it out, for path j."""
    holders = {group.start: [s.number for s in splits if group in s.held] for group in groups}
    return [[holders[group.start][path] for group in groups] for path in range(min(map(len, holders.values())))]
