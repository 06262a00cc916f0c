"""Rivals of differentiable search on the tabular benchmark: nothing is trained, every training is looked up and paid for.

Random search, regularised evolution, local search, TPE and successive halving see validation losses of one table seed; what they found is
judged by the test losses of all seeds. The methods are those of `nas.search.rivals`, which `--variant` trains with. `anytime` gives the
regret of what each would return after every training it has paid for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray
from lab.tabular import RUNGS, SEEDS, Tabular, canonical, readable
from lab.tabular_kernel import EDGES, NODES, OPS
from nas.search.rivals import RIVALS, Field, Spent, Suggest, rival_of, spend

BUDGET = 150  # trainings
Trial = tuple[
    float, float, int
]  # trainings paid so far, validation loss (infinite: not trained to the end), row of the space


class Arena(Field[int]):
    """One search on the table; a cell is the row of a word. `trials` tells what was asked.

    validation: [word, rung]. near: rows that one change leads to. An epoch costs a ninth of a training, and training goes on where it was.
    """

    rungs = RUNGS

    def __init__(
        self,
        words: tuple[str, ...],
        validation: FloatArray,
        near: tuple[tuple[int, ...], ...],
        rng: np.random.Generator,
        trainings: int = BUDGET,
    ) -> None:
        self.words, self.validation, self.near, self.rng = words, validation, near, rng
        self.size, self.trainings = len(words), trainings
        self.paid, self.trials = 0.0, list[Trial]()

    def loss(self, cell: int, epochs: int | None = None, before: int = 0) -> float:
        whole = epochs is None or epochs == RUNGS[-1]
        paid = self.paid + (1.0 if epochs is None else (epochs - before) / RUNGS[-1])
        if paid > self.trainings + 1e-9:
            raise Spent
        loss = float(self.validation[cell, -1 if epochs is None else RUNGS.index(epochs)])
        self.paid = paid
        self.trials.append((paid, loss if whole else np.inf, cell))
        return loss

    def drawn(self) -> int:
        return int(self.rng.integers(self.size))

    def several(self, count: int) -> list[int]:
        rows: list[int] = self.rng.choice(self.size, min(count, self.size), replace=False).tolist()
        return rows

    def draws(self) -> Iterator[int]:
        """Each word once."""
        return iter(self.rng.permutation(self.size).tolist())

    def neighbours(self, cell: int) -> Sequence[int]:
        return self.near[cell]

    def suggested(self, suggest: Suggest) -> int | None:
        """An op an edge; where the space holds only what a differentiable search can end with, which edge of the last node is left out is
        a choice of its own, and `zero` is none."""
        off = suggest("off", [k for k, (_, node) in enumerate(EDGES) if node == NODES - 1]) if self._fixed else None
        ops = [str(op) for op in range(1 if self._fixed else 0, len(OPS))]
        word = "".join("0" if k == off else str(suggest(f"edge{k}", ops)) for k in range(len(EDGES)))
        return self._place.get(word)

    @cached_property
    def _fixed(self) -> bool:
        return all("0" not in word[:3] for word in self.words)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}


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
            rng = np.random.default_rng([run, task, list(RIVALS).index(method)])
            arena = Arena(tuple(words), seen, near, rng, budget)
            spend(rival, arena)
            best, found = np.inf, -1
            for paid, loss, row in arena.trials:
                if loss < best:
                    best, found = loss, row
                if found >= 0:
                    out[task, run, int(np.ceil(paid - 1e-9)) - 1 :] = judged[found, task]
    return out


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
