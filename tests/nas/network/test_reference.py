"""A search on the folded path and one whose cells apply every op by itself take the same steps, whatever the variant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.network.cell import Cell
from nas.network.reference import reference_forward
from nas.network.stretches import Tensors
from nas.search.loop import search
from nas.search.result import SearchResult
from nas.search.settings import SearchSettings
from nas.search.variants import VARIANTS
from nas.space.search_space import SearchSpace

SPACE = SearchSpace(
    ops=("zero", "identity", "conv3", "ema4", "diff1", "attention"),
    channels=4,
    features=(("a", ("raw", "slow")), ("b", ("raw",))),
)
SETTINGS = SearchSettings(epochs=3, length=64, batch=2, fraction=0.5, alpha_warmup_epochs=0)


def found(variant: str) -> SearchResult:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((1, 3, 1_000)).astype(np.float32))
    y = torch.from_numpy(rng.standard_normal((1, 1, 1_000)).astype(np.float32))
    return search(
        SPACE, Tensors(x, y, torch.ones(1, 1, 1_000)), slice(70, 500), slice(600, 900), SETTINGS, 0, variant=variant
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_folded_search_takes_the_steps_of_the_reference(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folded = found(variant)
    used: list[Cell] = []

    def plain(self: Cell, *arguments: Tensor, last: int | None = None) -> Tensor:
        used.append(self)
        return reference_forward(self, *arguments)

    monkeypatch.setattr(Cell, "forward", plain)
    reference = found(variant)
    assert used
    assert folded.text == reference.text
    for a, b in zip(folded.history, reference.history, strict=True):
        for name in ("train_loss", "validation_loss"):
            assert a[name] == pytest.approx(b[name], abs=1e-5)
        assert np.allclose(a["op_weights"], b["op_weights"], atol=1e-4)
