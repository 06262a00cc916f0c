"""The tabular benchmark: its trainings are the house's own, its names are networks, its file is read as it was written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import InputError
from lab import tabular, tabular_maker
from lab.tabular import Tabular, canonical, genotype_of, networks, readable, word_of, words
from lab.tabular_maker import TRAINING, Problem, Trainer, pack, parameters, planted, units
from lab.units import Record
from nas.network.model import network_of
from nas.network.training import evaluate, train

SHORT = dataclasses.replace(TRAINING, epochs=3, patience=3)
#: all ops, every depth, dead nodes, an input nobody needs, convolutions from every source
CELLS = ("123421", "100000", "303003", "420212", "222222", "003214", "111314")


@pytest.fixture(scope="module")
def problem() -> Problem:
    return planted()


@pytest.mark.parametrize("word", CELLS)
def test_the_compiled_training_is_the_ordinary_one(problem: Problem, word: str) -> None:
    word = canonical(word)
    kept, losses = Trainer(problem, 1, SHORT).run(word)
    network = network_of(genotype_of(word, problem.features), 1)
    tensors = problem.tensors
    outcome = train(network, tensors, problem.train, problem.validation, SHORT, 1)
    test = evaluate(network, tensors, problem.test, int(network.receptive_field))[0]
    np.testing.assert_allclose(losses, [*outcome.validation_losses, test], rtol=1e-6)
    assert parameters(word, 6) == sum(p.numel() for p in network.parameters())
    np.testing.assert_allclose(kept[:48], network.stem.detach().numpy().ravel(), atol=2e-5)


def test_a_training_is_the_same_bits_alone_and_among_others(problem: Problem) -> None:
    among = Trainer(problem, 0, SHORT)
    several = [among.run(word) for word in ("123421", "303003", "222222")]
    weights, losses = Trainer(problem, 0, SHORT).run("303003")
    assert weights.tobytes() == several[1][0].tobytes()
    assert losses.tobytes() == several[1][1].tobytes()


def test_what_comes_after_validation_changes_nothing_but_the_test(problem: Problem) -> None:
    after = problem.validation.stop
    noise = np.random.default_rng(0).standard_normal
    x, y = problem.x.copy(), problem.y.copy()
    x[after:], y[after:] = 9 * noise(x[after:].shape), 9 * noise(y[after:].shape)
    weights, losses = Trainer(problem, 0, SHORT).run("123421")
    changed, others = Trainer(dataclasses.replace(problem, x=x, y=y), 0, SHORT).run("123421")
    assert weights.tobytes() == changed.tobytes()
    assert losses[:-1].tobytes() == others[:-1].tobytes()
    assert losses[-1] != others[-1]


def test_words_count_as_the_page_says() -> None:
    assert (len(words()), len(networks()), len(readable())) == (15_500, 9_954, 3_072)
    assert len({canonical(word) for word in readable()}) == 2_592
    assert set(networks()[:2_592]) == {canonical(word) for word in readable()}


@pytest.mark.parametrize("word", [word for word in words() if "2" not in word and canonical(word) != word][::307])
def test_words_of_one_name_compute_the_same(word: str) -> None:
    """Without learned ops, and a head that hears all nodes alike."""
    x = torch.randn(1, 2, 200, generator=torch.Generator().manual_seed(0))

    def forecast(name: str) -> torch.Tensor:
        network = network_of(genotype_of(name, (("a", "raw"), ("b", "raw"))), 3)
        with torch.no_grad():
            network.head.fill_(1.0)  # type: ignore[operator, union-attr]
            out: torch.Tensor = network(x)
        return out

    torch.testing.assert_close(forecast(word), forecast(canonical(word)))


def test_a_word_goes_to_a_genotype_and_back() -> None:
    for word in networks()[::97]:
        assert word_of(genotype_of(word, (("a", "raw"),))) == word


def test_a_file_gives_back_what_was_trained(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("100000", "123421", "222222")
    monkeypatch.setattr(tabular_maker, "CHUNK", 2)
    monkeypatch.setattr(tabular_maker, "networks", lambda: names)
    tasks = {"planted": problem}
    found = [
        Record(unit.name, unit.settings, tabular_maker.compute(unit, tasks), 0.0, "", "", "")
        for unit in units(tasks)[:3]
    ]
    half = Record(found[0].name, {**found[0].settings, "chunk": 1}, found[0].result, 0.0, "", "", "")
    table = pack([*found, half], tasks, tmp_path / "t.parquet")
    assert table.names == names[:2]  # the second chunk lacks seeds
    word = names[0]
    again = Trainer(problem, 2).train(word)
    entry = table.query(word, "planted", seed=2)
    assert np.float32([entry.validation, entry.test]).tobytes() == again[2:].tobytes()
    assert table.query(word, "planted", seed=2, epochs=1).validation == again[0]
    assert entry.parameters == parameters(word, 6)
    assert entry.seconds > 0.0
    assert table.query("000100", "planted", seed=2) == entry  # another word for it


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (("999999", "planted", 0, 9), "six digits from 0 to 4"),
        (("000000", "planted", 0, 9), "no node of cell '000000' is reached"),
        (("444444", "planted", 0, 9), "not in this file, which holds 1 networks"),
        (("100000", "ETTh3", 0, 9), "no task 'ETTh3'"),
        (("100000", "planted", 7, 9), "seeds 0, 1, 2, not 7"),
        (("100000", "planted", 0, 2), "after 1, 3, 9 epochs, not 2"),
    ],
)
def test_a_question_without_answer_is_told(question: tuple[str, str, int, int], told: str) -> None:
    one = np.ones((1, 1, 3, 3), dtype=np.float32)
    table = Tabular([canonical("100000")], ["planted"], one, one[..., 0], np.ones((1, 1), np.int16), one[:, :, 0, 0])
    with pytest.raises(InputError, match=told):
        table.query(*question)


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="python -m lab tabular makes it"):
        tabular.Tabular.load(tmp_path / "no.parquet")
