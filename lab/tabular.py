"""A tabular benchmark for forecasting: every cell of one small space, trained on several tasks with several seeds; looked up, not trained.

The space: one input, three nodes, an op of `OPS` on each of the six edges, 5^6 = 15,625 words of six digits. 125 have no path from the
input to a node and are no networks. Words that are the same network (an edge that leads nowhere, two nodes in another order) are one entry
under several names: 9,954 networks under 15,500 words. `lab.tabular_maker` made the file, docs/benchmark.md says how.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from data.errors import InputError, nearest
from lab.tabular_kernel import CHANNELS, EDGES, NODES, OPS
from nas.space.discretisation import pruned
from nas.space.genotype import Connection, Genotype
from nas.space.search_space import SearchSpace

FILE = Path(__file__).with_name("tabular.parquet")
TASKS = ("planted", "ETTh1", "ETTh2", "btc-return", "btc-range")
SEEDS = (0, 1, 2)
#: epochs of the one schedule after which the validation loss (the best so far) is kept; the last is the whole training
RUNGS = (1, 3, 9)
SPACE = SearchSpace(ops=OPS, nodes=NODES, channels=CHANNELS)


class Entry(NamedTuple):
    """One training. Losses: Huber, in standard deviations of the label; test: of the weights that were best on validation; seconds: of
    processor time, mean of the seeds."""

    validation: float
    test: float
    parameters: int
    seconds: float


@cache
def words() -> tuple[str, ...]:
    """Every word that is a network, in order."""
    every = ("".join(map(str, digits)) for digits in itertools.product(range(len(OPS)), repeat=len(EDGES)))
    return tuple(word for word in every if canonical(word))


@cache
def canonical(word: str) -> str:
    """The name of the network: the least of all words that are the same one. Empty where no node is reached from the input."""
    entering: list[dict[int, str]] = []  # per node: op by source, without what comes from unreached nodes
    for node in range(NODES):
        row = {s: op for (s, n), op in zip(EDGES, word, strict=True) if n == node and op != "0"}
        entering.append({s: op for s, op in row.items() if s == 0 or entering[s - 1]})
    live = [node for node in range(NODES) if entering[node]]
    found = []
    for order in itertools.permutations(live):
        place = {0: 0} | {node + 1: k + 1 for k, node in enumerate(order)}
        if all(place[s] <= k for k, node in enumerate(order) for s in entering[node]):
            moved = {(place[s], k): op for k, node in enumerate(order) for s, op in entering[node].items()}
            found.append("".join(moved.get(edge, "0") for edge in EDGES))
    return min(found) if live else ""


@cache
def networks() -> tuple[str, ...]:
    """Canonical words: first those that the searches of this house read off (two edges into a node where there are two, no `zero`)."""
    every = sorted({canonical(word) for word in words()})
    first = {canonical(word) for word in readable()}
    return tuple(sorted(every, key=lambda word: (word not in first, word)))


@cache
def readable() -> tuple[str, ...]:
    """Words that a differentiable search of `SPACE` can end with under the rule `strongest`."""
    return tuple(
        word
        for word in words()
        if all(
            sum(op != "0" for op in _row(word, node)) == min(node + 1, SPACE.edges_per_node) for node in range(NODES)
        )
    )


def _row(word: str, node: int) -> list[str]:
    return [op for (_, n), op in zip(EDGES, word, strict=True) if n == node]


def genotype_of(word: str, features: Sequence[tuple[str, str]]) -> Genotype:
    """The architecture that a word names, reading these inputs. InputError for what is no word of the space."""
    if not canonical(checked(word)):
        raise InputError(f"no node of cell {word!r} is reached from the input; give a word such as '123421'")
    nodes = tuple(
        tuple(
            Connection(OPS[int(op)], s) for (s, n), op in zip(EDGES, word, strict=True) if n == node and op != "0"
        )
        for node in range(NODES)
    )  # fmt: skip
    return SPACE.genotype(pruned(nodes), tuple(features))


def word_of(genotype: Genotype) -> str:
    """The word of a genotype of `SPACE`; its inputs do not count. InputError for one of another space."""
    digits = dict.fromkeys(EDGES, 0)
    for node, connections in enumerate(genotype.nodes):
        for c in connections:
            if (c.source, node) not in digits or c.op not in OPS or digits[c.source, node]:
                raise InputError(
                    f"{genotype} is no cell of the table: {NODES} nodes, one of {', '.join(OPS)} on an edge"
                )
            digits[c.source, node] = OPS.index(c.op)
    return "".join(map(str, digits.values()))


def checked(word: str) -> str:
    """The word, if it is one. InputError."""
    if len(word) != len(EDGES) or any(not d.isdigit() or int(d) >= len(OPS) for d in word):
        raise InputError(
            f"{word!r} is no cell of the table: six digits from 0 to {len(OPS) - 1}, an op per edge ({', '.join(OPS)})"
        )
    return word


class Tabular:
    """The table in memory.

    tasks, words: what can be asked. validation: [network, task, seed, rung], test: [network, task, seed], parameters, seconds:
    [network, task]; `row` has the network of every word.

    >>> table = Tabular.load()  # doctest: +SKIP
    >>> table.query("123421", "ETTh1", seed=0).validation  # doctest: +SKIP
    """

    def __init__(
        self,
        names: Sequence[str],
        tasks: Sequence[str],
        validation: npt.NDArray[np.float32],
        test: npt.NDArray[np.float32],
        parameters: npt.NDArray[np.int16],
        seconds: npt.NDArray[np.float32],
    ) -> None:
        self.names, self.tasks = tuple(names), tuple(tasks)
        self.validation, self.test, self.parameters, self.seconds = validation, test, parameters, seconds
        place = {name: k for k, name in enumerate(self.names)}
        self.row = {word: place[canonical(word)] for word in words() if canonical(word) in place}
        self._task = {name: k for k, name in enumerate(self.tasks)}
        self._rung = {epochs: k for k, epochs in enumerate(RUNGS)}

    @staticmethod
    def load(path: Path = FILE) -> Tabular:
        """Read the file. InputError where there is none."""
        if not path.is_file():
            raise InputError(f"{path} does not exist; python -m lab tabular makes it, in hours")
        table = pq.read_table(path)
        tasks = [name for name in TASKS if f"{name}_parameters" in table.column_names]

        def column(name: str) -> npt.NDArray[np.float32]:
            values: npt.NDArray[np.float32] = table[name].to_numpy()
            return values

        each = [[[column(f"{t}_{s}_validation{r}") for r in RUNGS] for s in SEEDS] for t in tasks]
        test = [[column(f"{t}_{s}_test") for s in SEEDS] for t in tasks]
        return Tabular(
            table["cell"].to_pylist(),
            tasks,
            np.ascontiguousarray(np.moveaxis(np.array(each), -1, 0)),
            np.ascontiguousarray(np.moveaxis(np.array(test), -1, 0)),
            np.stack([table[f"{t}_parameters"].to_numpy() for t in tasks], 1),
            np.stack([column(f"{t}_seconds") for t in tasks], 1),
        )

    def query(self, word: str, task: str, seed: int = 0, epochs: int = RUNGS[-1]) -> Entry:
        """What the training of this cell on this task from this seed gave; validation after so many `epochs` of its schedule. InputError
        for what is not in the table."""
        try:
            row, k, rung = self.row[word], self._task[task], self._rung[epochs]
            if seed not in SEEDS:
                raise KeyError(seed)
        except KeyError:
            raise self._unknown(word, task, seed, epochs) from None
        return Entry(
            self.validation.item(row, k, seed, rung),
            self.test.item(row, k, seed),
            self.parameters.item(row, k),
            self.seconds.item(row, k),
        )

    def _unknown(self, word: str, task: str, seed: int, epochs: int) -> InputError:
        if task not in self._task:
            return InputError(f"no task {task!r}{nearest(task, self.tasks)}; there are {', '.join(self.tasks)}")
        if epochs not in self._rung:
            return InputError(f"validation is kept after {', '.join(map(str, RUNGS))} epochs, not {epochs}")
        if seed not in SEEDS:
            return InputError(f"there are the seeds {', '.join(map(str, SEEDS))}, not {seed}")
        if canonical(checked(word)):
            return InputError(f"cell {word} is not in this file, which holds {len(self.names)} networks")
        return InputError(f"no node of cell {word!r} is reached from the input; give a word such as '123421'")
