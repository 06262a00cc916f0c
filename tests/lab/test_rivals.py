"""Rivals on a table whose losses are known: what they pay, what they may choose, how they are judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import InputError
from lab.rivals import (
    Arena,
    anytime,
    diagnosis,
    neighbours_of,
    regret_of,
    regrets,
)
from lab.rivals_table import gathered, markdown, verdict
from lab.tabular import RUNGS, SPACE, Tabular, canonical, networks, readable, word_of, words
from lab.tabular_searches import SEARCH
from lab.units import Record
from nas.search.rivals import POPULATION, RIVALS, evolution, halving, local_search, spend, tpe
from nas.search.selection import random_genotype

WORTH = np.random.default_rng(4).standard_normal((6, 5))  # of every op on every edge


def loss(word: str) -> float:
    return 0.5 + 0.01 * sum(float(WORTH[edge, int(op)]) for edge, op in enumerate(canonical(word)))


@pytest.fixture(scope="module")
def table() -> Tabular:
    """Of two tasks, without noise: validation is the test loss, whatever the epochs."""
    names = networks()
    losses = np.array([loss(name) for name in names], dtype=np.float32)
    test = np.repeat(np.stack([losses, 1 - losses], 1)[:, :, None], 3, 2)
    ones = np.ones((len(names), 2), dtype=np.float32)
    return Tabular(
        names, ["planted", "ETTh1"], np.repeat(test[..., None], len(RUNGS), 3), test, ones.astype(np.int16), ones
    )


def arena(chosen: tuple[str, ...], trainings: int = 150) -> Arena:
    losses = np.array([loss(word) for word in chosen])
    return Arena(chosen, np.repeat(losses[:, None], 3, 1), neighbours_of(chosen), np.random.default_rng(0), trainings)


def test_neighbours_stay_in_the_space_and_are_mutual() -> None:
    chosen = readable()
    near = neighbours_of(chosen)
    assert {len(rows) for rows in near} == {
        17
    }  # three other ops on five edges, two edges that may move to the source left out
    assert all(row in near[other] for row in range(0, len(chosen), 50) for other in near[row])


def test_a_differentiable_search_ends_with_a_readable_word() -> None:
    generator = torch.Generator().manual_seed(0)
    space = SPACE.with_features({"a": ("raw",)})
    assert {word_of(random_genotype(space, generator)) for _ in range(200)} <= set(readable())


@pytest.mark.parametrize("method", RIVALS)
def test_without_noise_no_rival_gets_worse(method: str, table: Tabular) -> None:
    curve = anytime(table, readable(), method, runs=2, budget=40)
    assert curve.shape == (2, 2, 40)
    known = curve[~np.isnan(curve)]
    assert (known >= 0.0).all()
    assert np.isfinite(curve[:, :, 8:]).all()
    assert (np.diff(curve[:, :, 8:]) <= 1e-12).all()
    assert (curve[:, :, -1] < curve[:, :, 8]).any()


@pytest.mark.parametrize("method", RIVALS)
def test_a_rival_is_the_same_twice(method: str, table: Tabular) -> None:
    once, twice = (anytime(table, readable(), method, runs=1, budget=25) for _ in range(2))
    np.testing.assert_array_equal(once, twice)


def test_local_search_stops_where_no_neighbour_is_better() -> None:
    chosen = tuple(word for word in words() if word[3:] == "000" and word == canonical(word))
    here = arena(chosen)
    local_search(here)  # ends by itself, before its budget does
    trials = here.trials
    assert sorted(row for _, _, row in trials) == list(range(len(chosen)))  # each once
    assert [paid for paid, _, _ in trials] == list(range(1, len(chosen) + 1))
    climbed = here.near[trials[0][2]]
    assert {row for _, _, row in trials[1 : 1 + len(climbed)]} == set(climbed)


def test_evolution_breeds_from_its_population() -> None:
    here = arena(readable(), 120)
    spend(evolution, here)
    rows = [row for _, _, row in here.trials]
    assert len(rows) == 120
    for k in range(POPULATION, len(rows)):
        assert any(rows[k] in here.near[parent] for parent in rows[k - POPULATION : k])


def test_halving_pays_by_the_epoch() -> None:
    here = arena(readable())
    spend(halving, here)
    trials = here.trials[: 27 + 9 + 3]
    paid = [trial[0] for trial in trials]
    np.testing.assert_allclose([paid[26], paid[35], paid[38]], [3.0, 5.0, 7.0])
    assert [np.isfinite(trial[1]) for trial in trials] == [False] * 36 + [True] * 3
    best = sorted(range(27), key=lambda k: loss(readable()[trials[k][2]]))[:9]
    assert {trials[k][2] for k in best} == {trial[2] for trial in trials[27:36]}


@pytest.mark.parametrize("chosen", [readable(), words()])
def test_tpe_names_words_of_the_space(chosen: tuple[str, ...]) -> None:
    few = Arena(chosen, np.full((len(chosen), 3), 0.5), (), np.random.default_rng(0), 15)
    spend(tpe, few)
    assert [paid for paid, _, _ in few.trials] == list(range(1, 16))


def test_regret_is_nought_for_the_best_and_one_for_the_median_network(table: Tabular) -> None:
    judged = regrets(table, words())
    assert judged.min() == 0.0
    rows = [words().index(name) for name in networks()]
    np.testing.assert_allclose(np.median(judged[rows], 0), 1.0, atol=1e-3)
    word = words()[777]
    assert regret_of(table, words(), "planted", [loss(word)] * 3) == pytest.approx(judged[777, 0], abs=1e-4)


def test_an_unknown_rival_is_told(table: Tabular) -> None:
    with pytest.raises(InputError, match="no rival 'magic'; there are random, evolution"):
        anytime(table, readable(), "magic", 1)


def test_a_table_tells_who_beats_evolution(table: Tabular) -> None:
    part = slice(0, 2_592)  # a file of what a differentiable search can end with
    table = Tabular(
        table.names[part],
        table.tasks,
        table.validation[part],
        table.test[part],
        table.parameters[part],
        table.seconds[part],
    )
    least = [min(readable(), key=lambda w: sign * loss(w)) for sign in (1, -1)]
    searches = [
        Record(f"{task}-{seed}", {"task": task, "seed": seed, "search": SEARCH}, {
            "training": 0.1, "found": {"oracle": {"word": word, "test": [abs(k - loss(word))] * 3, "seconds": 0.2}}}, 0.0, "", "", "")
        for k, (task, word) in enumerate(zip(table.tasks, least, strict=True)) for seed in range(3)
    ]  # fmt: skip
    found = gathered(table, searches, 3, 30)
    oracle = found["variants"]["9"]["variants"]["oracle"]
    assert oracle["cost"] == pytest.approx(3.0)
    assert verdict(oracle["less_evolution"]) == "beats it"
    text = markdown(found)
    assert "| `oracle` | 3.0 |" in text
    assert "| evolution |" in text
    assert {row["between_networks"] for row in diagnosis(table)} == {1.0}
    assert [verdict(each) for each in ((-1, -2, -0.5), (1, 0.5, 2), (0, -1, 1))] == [
        "beats it", "loses to it", "not told apart",
    ]  # fmt: skip


def test_the_page_tells_what_was_gathered() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    found = json.loads((docs / "evidence/rivals.json").read_text(encoding="utf-8"))
    assert markdown(found) in (docs / "benchmark.md").read_text(encoding="utf-8")
    table = Tabular.load()
    assert found["networks"] == len(table.names)
    for told, today in zip(found["diagnosis"], diagnosis(table), strict=True):
        assert told == {k: pytest.approx(v, rel=1e-5) if isinstance(v, float) else v for k, v in today.items()}
