"""Rivals that train cells from scratch: what they may spend, what they choose from, how a killed one goes on."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import InputError
from nas.network.stretches import Tensors
from nas.search.loop import search
from nas.search.result import SearchResult
from nas.search.rivals import RIVALS, local_search, round_cost, spend
from nas.search.scratch import Trainings
from nas.search.settings import SearchSettings
from nas.search.variants import VARIANTS, get_variant
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace

SPACE = SearchSpace(
    ops=("zero", "identity", "conv3", "diff1"), nodes=2, channels=4, cell_inputs=2,
    features=(("return", ("raw", "slow")), ("volume", ("raw",))),
)  # fmt: skip
SETTINGS = SearchSettings(epochs=8, length=24, batch=2)
BARS = 120
SPLITS = (slice(10, 60),), (slice(70, 110),)


def data(seed: int = 0) -> Tensors:
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 3, BARS)).astype(np.float32))
    return Tensors(x, x[:, :1].roll(1, -1), torch.ones(1, 1, BARS))


def find(variant: str, tensors: Tensors | None = None, **more: object) -> SearchResult:
    torch.set_num_threads(1)
    values = data() if tensors is None else tensors
    return search(SPACE, values, slice(10, 60), slice(70, 110), SETTINGS, 0, variant=variant, **more)  # type: ignore[arg-type]


class Known(Trainings):
    """Losses are known: an op has a worth, whatever its edge."""

    def trained(self, cell: Genotype, start: int, epochs: int) -> float:
        ops = [float(self.space.ops.index(c.op) + 0.1 * c.source) for node in cell.nodes for c in node]
        return sum(ops) + len(cell.features)


def known(epochs: int, space: SearchSpace = SPACE, seed: int = 0) -> Known:
    return Known(space, data(), SPLITS, replace(SETTINGS, epochs=epochs), seed, (), lambda _: None)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_spends_what_a_search_of_so_many_epochs_does(name: str) -> None:
    """Sixteen passes: four trainings of four epochs; halving ends what it begins within them. Twice: the same cells and losses."""
    found, again = find(name), find(name)
    spent = sum(trial.epochs for trial in found.trials)
    assert (12 <= spent <= 16) if name == "halving" else spent == 16
    assert max(trial.epochs for trial in found.trials) == 4
    whole = [trial for trial in found.trials if trial.epochs == 4]
    assert found.genotype == min(whole, key=lambda trial: trial.loss).genotype
    assert (found.trials, found.to_json()) == (again.trials, again.to_json())
    assert (get_variant(name).title if name != "random" else "random architectures") in found.note
    assert found.history == ()


@pytest.mark.parametrize("name", RIVALS)
def test_a_killed_rival_goes_on_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Killed after the second training, which is not trained again."""
    held, whole = tmp_path / "search.part", find(name)

    def kill(_: int) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        find(name, checkpoint=held, on_epoch=kill)
    assert held.exists()
    trained: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = Trainings.trained
        patch.setattr(Trainings, "trained", lambda self, *given: trained.append(1) or real(self, *given))
        found = find(name, checkpoint=held)
    assert len(trained) == len(whole.trials) - 2
    assert found.to_json() == whole.to_json()
    assert not held.exists()


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_reads_nothing_after_its_validation_bars(name: str) -> None:
    changed = data()
    changed.x[..., 110:], changed.y[..., 110:] = 1e3, -1e3
    assert find(name, changed).to_json() == find(name).to_json()


def test_neighbours_differ_in_one_choice_and_are_mutual() -> None:
    field = known(8)
    for _ in range(20):
        cell = field.drawn()
        near = field.neighbours(cell)
        assert len(set(near)) == len(near)
        assert cell not in near
        assert all(cell in field.neighbours(other) for other in near[:3] + near[-3:])
    # four edges with two other ops each, two of them with a source left over; of two inputs one pipeline more or less
    assert len(near) == 4 * 2 + 2 + sum(2 if name == "return" else 1 for name, _ in SPACE.features) - (
        len(cell.features) == 1
    )


def test_every_cell_is_counted_once() -> None:
    tiny = replace(SPACE, nodes=1, ops=("zero", "identity", "conv3"), features=(("return", ("raw",)),), cell_inputs=1)
    field = known(50, tiny)
    assert field.size == 2
    assert len(set(itertools.islice(field.draws(), 50))) == 2
    assert len(field.several(9)) == 2
    local_search(field)  # ends although its budget does not
    assert len(field.trials) == 2


def test_evolution_breeds_and_local_search_climbs() -> None:
    """Where a loss is a sum over edges, both come nearer its least than chance; a cell of theirs is a neighbour of an earlier one."""
    large = replace(SPACE, ops=("zero", "identity", "dense", "conv3", "ema4", "diff1"), nodes=4)
    least: dict[str, list[float]] = {"evolution": [], "local": [], "random": []}
    for name, seed in itertools.product(least, range(5)):
        field = known(450, large, seed)
        spend(RIVALS[name], field)
        cells = [trial.genotype for trial in field.trials]
        assert len(cells) == 30
        least[name].append(min(trial.loss for trial in field.trials))
        if name == "evolution":
            for k in range(10, 30):
                assert any(cells[k] in field.neighbours(parent) for parent in cells[k - 10 : k])
        if name == "local":
            assert cells[1] in field.neighbours(cells[0])
    assert max(np.mean(least["evolution"]), np.mean(least["local"])) < np.mean(least["random"]) - 1.0


def test_halving_trains_the_best_of_many_longer_from_the_same_weights() -> None:
    class Told(Known):
        def trained(self, cell: Genotype, start: int, epochs: int) -> float:
            assert begun.setdefault(cell, start) == start
            return super().trained(cell, start, epochs)

    begun: dict[Genotype, int] = {}
    field = Told(SPACE, data(), SPLITS, replace(SETTINGS, epochs=40), 0, (), lambda _: None)
    assert (field.rungs, round_cost(field.rungs), field.budget) == ((1, 3, 8), 26, 72)
    spend(RIVALS["halving"], field)
    by = [[t for t in field.trials[:26] if t.epochs == epochs] for epochs in field.rungs]
    assert [len(each) for each in by] == [18, 6, 2]
    for longer, shorter in itertools.pairwise(reversed(by)):
        best = sorted(shorter, key=lambda t: t.loss)[: len(longer)]
        assert {t.genotype for t in longer} == {t.genotype for t in best}


def test_repeats_of_a_search_are_paid_back_to_its_rivals() -> None:
    field = Trainings(SPACE, data(), SPLITS, replace(SETTINGS, repeats=3, fraction=0.5), 0, (), lambda _: None)
    assert (field.trainings, field.rungs[-1]) == (5, 4)  # 2 x 8 x 3 / 2 = 24 passes


def test_without_optuna_tpe_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match="tpe needs optuna, which is not installed: pip install optuna") as told:
        get_variant("tpe")
    assert "\n" not in str(told.value)
    assert get_variant("evolution") is VARIANTS["evolution"]


def test_a_rival_goes_with_nothing() -> None:
    with pytest.raises(
        InputError,
        match=r"evolution and beta-decay \(of beta\) do not go together: evolution trains cells from scratch",
    ):
        get_variant("evolution+beta")
    with pytest.raises(
        InputError, match="tpe and halving do not go together: both say how the cell is read off; name one"
    ):
        get_variant("tpe+halving")
