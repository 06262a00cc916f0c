"""What a GPU would run, held to the CPU's kernels here: the same search in torch's own functions. And a GPU that is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.panel import InputError
from nas.network import attention, linear_blocks
from nas.network.paths import torch_only
from nas.network.stretches import Tensors
from nas.search.loop import search
from nas.search.result import SearchResult
from nas.search.settings import SearchSettings
from nas.space.search_space import SearchSpace
from nas.tasks.device import resolve_device

SPACE = SearchSpace(channels=4, features=(("input", ("raw",)),))


def found(epochs: int = 2) -> SearchResult:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((1, 1, 2_000)).astype(np.float32))
    y = torch.from_numpy(rng.standard_normal((1, 1, 2_000)).astype(np.float32))
    tensors = Tensors(x, y, torch.ones(1, 1, 2_000))
    return search(SPACE, tensors, slice(230, 1_000), slice(1_300, 1_900), SearchSettings(epochs=epochs), seed=0)


def test_a_search_without_the_cpu_kernels_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = found()
    monkeypatch.setattr(linear_blocks, "_kernel", None)
    monkeypatch.setattr(attention, "_dots", None)
    with pytest.raises(TypeError):  # the kernels are gone
        found()
    with torch_only():
        plain = found()
    for a, b in zip(kernels.history, plain.history, strict=True):
        for name in ("train_loss", "validation_loss"):
            assert a[name] == pytest.approx(b[name], abs=1e-5)
        assert np.allclose(a["op_weights"], b["op_weights"], atol=2e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_one_clear_line() -> None:
    assert resolve_device("cpu") == resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match="finds no CUDA device"):
        resolve_device("cuda")
    with pytest.raises(InputError, match="no device 'gpu'; there are cpu, cuda, auto"):
        resolve_device("gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_search_on_a_gpu_ends_near_the_cpus() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((1, 1, 2_000)).astype(np.float32))
    tensors = Tensors(x, x.roll(1, -1), torch.ones(1, 1, 2_000))
    cpu, gpu = (
        search(SPACE, tensors, slice(230, 1_000), slice(1_300, 1_900), SearchSettings(epochs=2, device=device), seed=0)
        for device in ("cpu", "cuda")
    )
    assert gpu.history[-1]["train_loss"] == pytest.approx(cpu.history[-1]["train_loss"], rel=1e-3)
