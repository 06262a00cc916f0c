"""A search outside trading: classes and several horizons, split over samples that do not see each other; killed searches go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from data.errors import InputError
from nas.network.losses import classes
from nas.network.stretches import Tensors
from nas.search import search_sequences
from nas.search.loop import search
from nas.search.sequences import _side_by_side
from nas.search.settings import SearchSettings
from nas.search.variants import VARIANTS
from nas.space.search_space import SearchSpace

SMALL: dict[str, Any] = {"ops": ("zero", "identity", "dense", "conv3"), "nodes": 1, "channels": 4, "epochs": 12}


def moves(count: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of two inputs; the class says whether the first one's last step rose, fell or hardly moved."""
    x = np.random.default_rng(seed).standard_normal((count, 2, 9))
    change = x[:, 0, -1] - x[:, 0, -2]
    return x, np.where(change > 0.7, "up", np.where(change < -0.7, "down", "flat"))


def test_classes_are_told_apart_on_samples_that_nobody_has_seen() -> None:
    x, y = moves(600)
    found = search_sequences(x[:480], y[:480], task="classification", alpha_learning_rate=0.1, **SMALL)
    right = (found.predict(x[480:]) == y[480:]).mean()
    assert right > 0.8  # 40% by the commonest class
    chances = found.probabilities(x[480:])
    assert np.allclose(chances.sum(1), 1.0)
    assert found.classes is not None
    assert found.classes.tolist() == ["down", "flat", "up"]
    assert (found.classes[chances.argmax(1)] == found.predict(x[480:])).all()
    assert "conv3" in found.text


def test_several_horizons_come_in_the_units_of_their_targets() -> None:
    x = np.random.default_rng(1).standard_normal((500, 1, 8))
    y = np.stack([1_000.0 + 50.0 * x[:, 0, -1], -3.0 + x[:, 0, -1] - x[:, 0, -2]], 1)
    found = search_sequences(x[:400], y[:400], **SMALL)
    out = found.predict(x[400:])
    assert out.shape == (100, 2)
    assert np.abs(out - y[400:]).mean(0) == pytest.approx(np.zeros(2), abs=25.0)
    for k in range(2):
        assert np.corrcoef(out[:, k], y[400:, k])[0, 1] > 0.9
    with pytest.raises(InputError, match="this is a regression, which has no probabilities"):
        found.probabilities(x)


def test_no_sample_reads_another() -> None:
    """To the bit: neither the outputs of a trained network nor the supernet on the shared time axis feel what lies beside a sample."""
    x, y = moves(60)
    found = search_sequences(x, y, task="classification", **{**SMALL, "epochs": 1})
    changed = x.copy()
    changed[30:] = 1e3
    assert np.array_equal(found.probabilities(x)[:30], found.probabilities(changed)[:30])
    labels = np.eye(3)[np.arange(60) % 3]
    outputs = []
    for values in (x, changed):
        tensors = _side_by_side(values.astype(np.float32), labels, np.arange(60), found.block)
        shown = tensors.only([int(name[1:]) for name, _ in found.genotype.features])
        with torch.no_grad():
            out = found.network.double()(shown.x.double())[:, :, tensors.weight[0, 0] > 0]
        outputs.append(out[:, :, :30])
    assert torch.equal(*outputs)


def test_blocks_are_as_long_as_the_longest_network_looks_back() -> None:
    x, y = moves(40)
    assert search_sequences(x, y, task="classification", **{**SMALL, "epochs": 1}).block == 9
    wide = {**SMALL, "epochs": 1, "ops": ("zero", "ema12")}
    assert search_sequences(x, y, task="classification", **wide).block == 36


def test_the_scaling_is_of_the_samples_that_are_fitted() -> None:
    x, y = moves(60)
    held = list(range(0, 60, 4))
    loud = x.copy()
    loud[held] *= 1_000.0
    a, b = (search_sequences(v, y, task="classification", validation=held, **{**SMALL, "epochs": 1}) for v in (x, loud))
    assert np.array_equal(a.scaler.mean, b.scaler.mean)
    assert np.array_equal(a.scaler.deviation, b.scaler.deviation)


def test_a_dataset_of_pairs_is_as_good_as_arrays() -> None:
    x, y = moves(48)

    class Pairs(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
            return torch.from_numpy(x[k]), int(y[k] == "up")

    given = search_sequences(Pairs(), task="classification", **{**SMALL, "epochs": 2})
    arrays = search_sequences(x, (y == "up").astype(int), task="classification", **{**SMALL, "epochs": 2})
    assert given.search == arrays.search


def test_the_split_is_drawn_by_the_seed_or_the_last() -> None:
    x, y = moves(48)
    small = {**SMALL, "epochs": 1}
    last = search_sequences(x, y, task="classification", drawn=False, **small)
    named = search_sequences(x, y, task="classification", validation=list(range(36, 48)), **small)
    drawn = search_sequences(x, y, task="classification", **small)
    assert last.search == named.search
    assert drawn.search != last.search


X, Y = moves(20)


@pytest.mark.parametrize(
    ("x", "y", "changes", "message"),
    [
        (X, Y[:5], {}, "20 sequences and 5 targets"),
        (X[0, 0], Y, {}, r"\[sample, input, step\] or \[sample, step\], not of shape \(9,\)"),
        (np.where(X > 2, np.nan, X), Y, {}, "NaN or infinite"),
        (X, Y == "sideways", {}, "all samples are of one class"),
        (X, None, {}, "give targets y, or a dataset"),
        (X, Y, {"validation": 1.5}, "share must lie between 0 and 1, not 1.5"),
        (X, Y, {"validation": [3, 3]}, "different samples from 0 to 19"),
        (X, Y, {"validation": list(range(20))}, "all 20 samples are for validation"),
        (X, np.full(20, np.inf), {"task": "regression"}, "targets are finite numbers"),
        (X, Y, {"task": "ranking"}, "task"),
        ([X[0], X[1][:, :4], *X[2:]], Y, {}, r"numbers \[sample, input, step\], all equally long; pad shorter ones"),
        (X, Y, {"task": "regression"}, "targets such as '(up|down|flat)' are no numbers; give task='classification'"),
        (X, X[:, 0, 0], {}, "are numbers, not classes; leave task out"),
        (X, np.arange(20) // 10, {"validation": list(range(10, 20))}, "class 1 has no sample outside validation"),
        (X, Y, {"validation": 5}, "a share such as 0.25, or a list of which samples, not 5"),
        (X, Y, {"batch": 0}, "a step needs at least one sample"),
        (X, Y, {"epoch": 3}, "search setting 'epoch' is not known; there are epochs"),
        (X, Y, {"repeats": 2, "checkpoint": Path("c")}, "several repeats keep none"),
    ],
)
def test_what_cannot_be_searched_is_told(x: Any, y: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        search_sequences(x, y, **{"task": "classification", **SMALL, **changes})


def test_tensors_frames_and_datasets_are_what_arrays_are() -> None:
    """To the bit, whatever holds the numbers."""
    x, y = X[:, :1], np.arange(20) % 2

    class Pairs:
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, k: int) -> tuple[Any, int]:
            return torch.from_numpy(x[k]), int(y[k])

    wanted = search_sequences(x, y, task="classification", **{**SMALL, "epochs": 1}).probabilities(x)
    for values, targets in (
        (torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)),
        (pd.DataFrame(x[:, 0]), pd.Series(y)),
        (list(x), y.tolist()),
        (Pairs(), None),
    ):
        found = search_sequences(values, targets, task="classification", **{**SMALL, "epochs": 1})
        assert np.array_equal(found.probabilities(x), wanted)
    assert repr(found) == f"SequenceResult({found.text})"


def test_a_search_gives_threads_back() -> None:
    """One thread for the same bytes in every process; as many as before for whoever called."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen: list[int] = []
        search_sequences(
            X,
            Y,
            task="classification",
            on_record=lambda _: seen.append(torch.get_num_threads()),
            **{**SMALL, "epochs": 1},
        )
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(threads)


def test_sequences_of_another_shape_are_refused_by_the_network() -> None:
    found = search_sequences(X, Y, task="classification", **{**SMALL, "epochs": 1})
    with pytest.raises(InputError, match="3 inputs and 9 steps, this network was made for 2 inputs and 9 steps"):
        found.predict(np.zeros((4, 3, 9)))


def test_the_loss_of_classes_is_torchs_cross_entropy_and_needs_two_outputs() -> None:
    out, right = torch.randn(3, 4, 10, dtype=torch.float64), torch.randint(4, (3, 10))
    weight = (torch.rand(3, 1, 10) > 0.3).double()
    label = torch.nn.functional.one_hot(right, 4).movedim(-1, 1).double()
    wanted = (torch.nn.functional.cross_entropy(out, right, reduction="none") * weight[:, 0]).sum() / weight.sum()
    assert torch.allclose(classes(out, label, weight), wanted)
    space = SearchSpace(ops=("zero", "identity"), nodes=1, channels=4, features=(("x0", ("raw",)),))
    data = Tensors(torch.randn(1, 1, 200), torch.randn(1, 1, 200), torch.ones(1, 1, 200))
    with pytest.raises(InputError, match="loss classes tells classes apart, an output each, and there is one output"):
        search(space, data, slice(10, 100), slice(110, 190), SearchSettings(loss="classes"), 0)


# -- a killed search goes on -------------------------------------------------------------------------------------------------

SPACE = SearchSpace(
    ops=("zero", "identity", "conv3", "attention"), nodes=2, channels=4, cells=2, edges_per_node=1,
    features=(("a", ("raw",)), ("b", ("raw",))),
)  # fmt: skip
SETTINGS = SearchSettings(epochs=6, length=32, batch=2, alpha_warmup_epochs=1, diagnostics_every=2)


class Killed(Exception):
    pass


def run(variant: str, checkpoint: Path | None = None, killed_after: int | None = None, seed: int = 0) -> Any:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((1, 2, 400)).astype(np.float32))
    data = Tensors(x, 0.7 * x[:, :1].roll(1, -1), torch.ones(1, 1, 400))

    def stop(epoch: int) -> None:
        if epoch == killed_after:
            raise Killed

    return search(
        SPACE, data, slice(70, 200), slice(280, 380), SETTINGS, seed, stop, variant=variant, checkpoint=checkpoint
    )


@pytest.mark.parametrize(
    "variant", [*(name for name in VARIANTS if name != "random"), "plus+oles+progressive", "drnas+align"]
)
def test_a_search_killed_after_any_epoch_goes_on_to_the_same_bytes(variant: str, tmp_path: Path) -> None:
    whole, file = run(variant), tmp_path / "part"
    for epoch in (1, 3, 5):  # killed three times on its way, once after its last epoch
        if epoch < len(whole.history):
            with pytest.raises(Killed):
                run(variant, file, killed_after=epoch)
    found = run(variant, file)
    assert found == whole
    assert found.to_json() == whole.to_json()
    assert not file.exists()


def test_the_checkpoint_of_another_search_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "part"
    with pytest.raises(Killed):
        run("darts", file, killed_after=2)
    with pytest.raises(InputError, match="holds another search"):
        run("darts", file, seed=1)
    file.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="is no checkpoint of a search; delete it"):
        run("darts", file)
