"""Rivals of differentiable search: without a supernet they ask what a cell is worth after some epochs of training, and choose the next.

Each is written once, for whoever answers: `nas.search.scratch` trains (`--variant evolution`), `lab.rivals` looks the answer up in the
tabular benchmark.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from importlib.util import find_spec
from typing import Generic, TypeVar

import numpy as np

from data.errors import InputError

POPULATION, SAMPLE = 20, 5  # Real et al. 2019, at some 150 trainings
STARTUP = 10  # optuna's own: random trials before the estimator
PART = 3  # a population, and the random trials of an estimator, are at most this part of the trainings
FEWER = 3  # of a round of halving a third goes on
BRACKETS = 3  # of FEWER ** (rungs - 1) cells, the most that a round of halving begins with

Cell = TypeVar("Cell", bound=Hashable)
Suggest = Callable[[str, Sequence[object]], object]  # optuna's `suggest_categorical`


class Spent(Exception):
    """The budget is spent: raised by `Field.loss`, and the end of every rival."""


class Field(ABC, Generic[Cell]):
    """What a rival chooses from, and what it asks. rng: its draws. trainings: whole ones that it may pay for. rungs: epochs after which a
    training may be judged, the last one the whole; a cell begun costs its epochs. size: different cells, as far as it matters."""

    rng: np.random.Generator
    trainings: int
    rungs: tuple[int, ...]
    size: int

    @abstractmethod
    def loss(self, cell: Cell, epochs: int | None = None, before: int = 0) -> float:
        """Validation loss after so many epochs (None: all), `before` of which this round has paid for already. Spent once they cannot be
        paid for."""

    @abstractmethod
    def drawn(self) -> Cell:
        """A cell, all equally likely."""

    @abstractmethod
    def several(self, count: int) -> list[Cell]:
        """So many different cells."""

    @abstractmethod
    def neighbours(self, cell: Cell) -> Sequence[Cell]:
        """What one change leads to."""

    @abstractmethod
    def suggested(self, suggest: Suggest) -> Cell | None:
        """The cell of categorical choices; None where they make none."""

    def draws(self) -> Iterator[Cell]:
        """Cells in random order."""
        while True:
            yield self.drawn()


Method = Callable[[Field[Cell]], None]


def random_search(field: Field[Cell]) -> None:
    """Cells in random order."""
    for cell in field.draws():
        field.loss(cell)


def evolution(field: Field[Cell]) -> None:
    """Regularised evolution (Real et al. 2019): the best of a sample has a child with one change, the oldest dies. Where trainings are
    few, the population is a third of them and half of it competes: else it would end as it was drawn."""
    size = min(POPULATION, max(2, field.trainings // PART))
    population: list[tuple[Cell, float]] = []
    while True:
        if len(population) < size:
            cell = field.drawn()
        else:
            sample = field.rng.choice(size, min(SAMPLE, max(2, size // 2)), replace=False)
            parent = min((population[k] for k in sample), key=lambda each: each[1])[0]
            near = field.neighbours(parent) or [parent]
            cell = near[int(field.rng.integers(len(near)))]
            population.pop(0)
        population.append((cell, field.loss(cell)))


def local_search(field: Field[Cell]) -> None:
    """White et al. (2021): all neighbours, on to the best of them if it is better, and a new start where none is. What was trained is
    known. Where there are more neighbours than trainings, on to the first that is better (theirs, too: `query_until_lower`).
    """
    known: dict[Cell, float] = {}

    def tried(cell: Cell) -> float:
        if cell not in known:
            known[cell] = field.loss(cell)
        return known[cell]

    while len(known) < field.size:
        here = field.drawn()
        while True:
            near = field.neighbours(here)
            order = field.rng.permutation(len(near))
            mine = tried(here)
            for k in order:
                if tried(near[k]) < mine and len(near) > field.trainings:
                    break
            after = min((cell for cell in near if cell in known), key=known.__getitem__, default=here)
            if known[after] >= mine:
                break
            here = after


def tpe(field: Field[Cell]) -> None:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) as it comes. Choices that make no cell are told to it as failed and
    cost nothing."""
    check_installed("tpe")
    import optuna  # only here: in the extra `tpe`

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    startup = min(STARTUP, max(2, field.trainings // PART))
    sampler = optuna.samplers.TPESampler(seed=int(field.rng.integers(2**31)), n_startup_trials=startup)
    study = optuna.create_study(sampler=sampler)
    while True:
        trial = study.ask()
        cell = field.suggested(trial.suggest_categorical)
        if cell is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, field.loss(cell))


def halving(field: Field[Cell]) -> None:
    """Successive halving (Jamieson and Talwalkar 2016): many cells for few epochs, the better third for more, the better third of those to
    the end; again."""
    rounds = field.trainings * field.rungs[-1] // round_cost(field.rungs)
    start = FEWER ** (len(field.rungs) - 1) * min(BRACKETS, max(1, rounds))
    while True:
        cells, before = field.several(start), 0
        for epochs in field.rungs:
            losses = [field.loss(cell, epochs, before) for cell in cells]
            order = sorted(range(len(cells)), key=losses.__getitem__)
            cells, before = [cells[k] for k in order[: max(1, len(cells) // FEWER)]], epochs


def round_cost(rungs: Sequence[int]) -> int:
    """Epochs of the least round of halving that brings one cell to the end, where every rung trains anew."""
    return sum(epochs * FEWER ** (len(rungs) - 1 - k) for k, epochs in enumerate(rungs))


RIVALS: dict[str, Method] = {  # type: ignore[type-arg]
    "random": random_search,
    "evolution": evolution,
    "local": local_search,
    "tpe": tpe,
    "halving": halving,
}


def rival_of(method: str) -> Method:  # type: ignore[type-arg]
    """The rival of that name. InputError lists what there is."""
    if method not in RIVALS:
        raise InputError(f"no rival {method!r}; there are {', '.join(RIVALS)}")
    return RIVALS[method]


def spend(rival: Method[Cell], field: Field[Cell]) -> None:
    """Let a rival ask until the budget is spent."""
    try:
        rival(field)
    except Spent:
        return


def check_installed(method: str) -> None:
    """InputError where a rival needs a package that is not there."""
    if method == "tpe" and find_spec("optuna") is None:
        raise InputError("tpe needs optuna, which is not installed: pip install optuna")
