"""Rivals of differentiable search on the tabular benchmark: nothing is trained, every training is looked up and paid for.

Random search, regularised evolution, local search, TPE and successive halving see validation losses of one table seed; what they found is
judged by the test losses of all seeds. `anytime` gives the regret of what each would return after every training it has paid for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from data.errors import InputError
from data.panel import FloatArray
from lab.tabular import RUNGS, SEEDS, Tabular, canonical, readable
from lab.tabular_kernel import EDGES, NODES, OPS

BUDGET = 150  # trainings
POPULATION, SAMPLE = 20, 5  # Real et al. 2019, for a budget of this size
FEWER = 3  # of a round of halving a third goes on
Trial = tuple[
    float, float, int
]  # trainings paid so far, validation loss (infinite: not trained to the end), row of the space
Method = Callable[["Arena"], Iterator[Trial]]


@dataclass(frozen=True, eq=False)
class Arena:
    """One search: the words that may be chosen, what training each shows, and the draws.

    validation: [word, rung]. neighbours: rows that one change leads to.
    """

    words: tuple[str, ...]
    validation: FloatArray
    neighbours: tuple[tuple[int, ...], ...]
    rng: np.random.Generator

    def trained(self, row: int) -> float:
        """Validation loss of a whole training."""
        return float(self.validation[row, -1])


@cache
def neighbours_of(words: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Per word the rows of those with another op on one edge, or with one edge of a node moved to another source."""
    place = {word: row for row, word in enumerate(words)}
    pairs = [(a, b) for a, b in itertools.permutations(range(len(EDGES)), 2) if EDGES[a][1] == EDGES[b][1]]
    found = []
    for word in words:
        digits = list(word)
        changed = [digits[:k] + [str(op)] + digits[k + 1 :] for k in range(len(digits)) for op in range(len(OPS))]
        for a, b in pairs:
            if digits[a] != "0" and digits[b] == "0":
                moved = digits.copy()
                moved[a], moved[b] = "0", digits[a]
                changed.append(moved)
        names = dict.fromkeys("".join(each) for each in changed)
        found.append(tuple(place[name] for name in names if name in place and name != word))
    return tuple(found)


def random_search(arena: Arena) -> Iterator[Trial]:
    """Words in random order."""
    for paid, row in enumerate(arena.rng.permutation(len(arena.words)).tolist(), 1):
        yield paid, arena.trained(row), row


def evolution(arena: Arena) -> Iterator[Trial]:
    """Regularised evolution (Real et al. 2019): the best of a sample has a child with one change, the oldest dies."""
    population: list[int] = []
    for paid in itertools.count(1):
        if len(population) < POPULATION:
            row = int(arena.rng.integers(len(arena.words)))
        else:
            sample = arena.rng.choice(len(population), SAMPLE, replace=False)
            parent = min((population[k] for k in sample), key=arena.trained)
            row = int(arena.rng.choice(arena.neighbours[parent]))
            population.pop(0)
        population.append(row)
        yield paid, arena.trained(row), row


def local_search(arena: Arena) -> Iterator[Trial]:
    """White et al. (2021): all neighbours, the best of them if it is better, and a new start where none is. What was trained is known."""
    seen: set[int] = set()
    while True:
        here = int(arena.rng.integers(len(arena.words)))
        best = False
        while not best:
            for row in (here, *arena.rng.permutation(arena.neighbours[here]).tolist()):
                if row not in seen:
                    seen.add(row)
                    yield len(seen), arena.trained(row), row
            after = min(arena.neighbours[here], key=arena.trained)
            best = arena.trained(after) >= arena.trained(here)
            here = here if best else after
        if len(seen) == len(arena.words):
            return


def tpe(arena: Arena) -> Iterator[Trial]:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) as it comes, one categorical choice an edge; words that are not in
    the space are told to it as failed and cost nothing."""
    try:
        import optuna  # only here: in the extra `tpe`
    except ImportError:
        raise InputError("TPE needs optuna, which is not installed: pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    place = {word: row for row, word in enumerate(arena.words)}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=int(arena.rng.integers(2**31))))
    paid = 0
    while True:
        trial = study.ask()
        row = place.get(_suggested(trial, arena))
        if row is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        paid += 1
        study.tell(trial, arena.trained(row))
        yield paid, arena.trained(row), row


def _suggested(trial: object, arena: Arena) -> str:
    """A word from categorical choices, an op an edge; where the space holds only what a differentiable search can end with, which edge of
    the last node is left out is a choice of its own, and `zero` is none."""
    suggest: Callable[[str, Sequence[object]], object] = trial.suggest_categorical  # type: ignore[attr-defined]
    fixed = all("0" not in word[:3] for word in arena.words)
    off = suggest("off", [k for k, (_, node) in enumerate(EDGES) if node == NODES - 1]) if fixed else None
    ops = [str(op) for op in range(1 if fixed else 0, len(OPS))]
    return "".join("0" if k == off else str(suggest(f"edge{k}", ops)) for k in range(len(EDGES)))


def halving(arena: Arena) -> Iterator[Trial]:
    """Successive halving (Jamieson and Talwalkar 2016): 27 words for an epoch, the better third for three, the better third of those for
    all nine; again. An epoch costs a ninth of a training, and training goes on where it was."""
    paid, size = 0.0, FEWER ** len(RUNGS)
    while True:
        rows = arena.rng.choice(len(arena.words), size, replace=False).tolist()
        before = 0
        for rung, epochs in enumerate(RUNGS):
            losses = {}
            for row in rows:
                paid += (epochs - before) / RUNGS[-1]
                losses[row] = float(arena.validation[row, rung])
                yield paid, losses[row] if epochs == RUNGS[-1] else np.inf, row
            rows, before = sorted(rows, key=lambda row: losses[row])[: len(rows) // FEWER], epochs


RIVALS: dict[str, Method] = {
    "random": random_search,
    "evolution": evolution,
    "local": local_search,
    "tpe": tpe,
    "halving": halving,
}


def regrets(table: Tabular, words: Sequence[str]) -> FloatArray:
    """Mean test loss over the seeds above the least of these words, in those of their median network: [word, task]; 0 best, 1 median."""
    rows = np.array([table.row[word] for word in words])
    return _scaled(table, rows)(table.test[rows].mean(2, dtype=np.float64))


def _scaled(table: Tabular, rows: npt.NDArray[np.int64]) -> Callable[[FloatArray], FloatArray]:
    networks = np.unique(rows)
    mean = table.test[networks].mean(2, dtype=np.float64)
    least, middle = mean.min(0), np.median(mean, 0)
    return lambda losses: (losses - least) / (middle - least)


def regret_of(table: Tabular, words: Sequence[str], task: str, losses: Sequence[float]) -> float:
    """Regret of a network with these test losses, one per seed, among the networks of these words."""
    rows = np.array([table.row[word] for word in words])
    place = table.tasks.index(task)
    every = np.zeros((1, len(table.tasks)))
    every[0, place] = np.mean(losses)
    return float(_scaled(table, rows)(every)[0, place])


def anytime(table: Tabular, words: Sequence[str], method: str, runs: int, budget: int = BUDGET) -> FloatArray:
    """Regret of the word with the best validation so far, after each whole number of trainings: [task, run, training]; NaN before any
    training has ended. Run k sees table seed k mod 3."""
    rival = rival_of(method)
    rows = np.array([table.row[word] for word in words])
    judged, near = regrets(table, words), neighbours_of(tuple(words))
    out = np.full((len(table.tasks), runs, budget), np.nan)
    for task in range(len(table.tasks)):
        for run in range(runs):
            seen = table.validation[rows, task, SEEDS[run % len(SEEDS)]].astype(np.float64)
            arena = Arena(tuple(words), seen, near, np.random.default_rng([run, task, list(RIVALS).index(method)]))
            best, found = np.inf, -1
            for paid, loss, row in rival(arena):
                if paid > budget + 1e-9:
                    break
                if loss < best:
                    best, found = loss, row
                if found >= 0:
                    out[task, run, int(np.ceil(paid - 1e-9)) - 1 :] = judged[found, task]
    return out


def rival_of(method: str) -> Method:
    """The rival of that name. InputError lists what there is."""
    if method not in RIVALS:
        raise InputError(f"no rival {method!r}; there are {', '.join(RIVALS)}")
    return RIVALS[method]


def interval(values: FloatArray, draws: int = 2_000) -> tuple[float, float, float]:
    """Mean and 95% bootstrap interval. values: [independent]."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    return float(values.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def diagnosis(table: Tabular) -> list[dict[str, object]]:
    """Per task: share of the variance of test losses that lies between networks, rank correlation of validation and test, regret of the
    best word that a differentiable search can end with."""
    from scipy.stats import spearmanr  # start-up time

    judged = regrets(table, table.names)
    reach = {canonical(word) for word in readable()}
    within = np.array([name in reach for name in table.names])
    rows = []
    for k, task in enumerate(table.tasks):
        test, validation = table.test[:, k].astype(np.float64), table.validation[:, k, :, -1].astype(np.float64)
        noise = test.var(1, ddof=1).mean()
        between = max(0.0, test.mean(1).var(ddof=1) - noise / len(SEEDS))
        rows.append({
            "task": task, "best": float(test.mean(1).min()), "median": float(np.median(test.mean(1))),
            "between_networks": float(between / (between + noise)),
            "rank_correlation": float(np.mean([spearmanr(validation[:, s], test.mean(1)).statistic for s in SEEDS])),
            "best_readable_regret": float(judged[within, k].min()), "seconds": float(table.seconds[:, k].mean()),
        })  # fmt: skip
    return rows
