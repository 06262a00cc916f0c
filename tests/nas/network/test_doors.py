"""What is registered is tried first: ops and networks that read ahead, or further back than they say, are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.errors import InputError
from nas.baselines.registry import BASELINES, baseline
from nas.network.cell import Cell, Edge
from nas.network.doors import check_op, register_op
from nas.network.model import edge_by_edge, network_of
from nas.network.reference import reference_forward
from nas.network.stretches import Tensors
from nas.search.loop import search
from nas.search.relaxation import Temperature
from nas.search.settings import SearchSettings
from nas.search.variants import Variant
from nas.space.discretisation import Rule
from nas.space.genotype import Connection, Genotype
from nas.space.ops import OPS, Op, maximum_of_normals
from nas.space.search_space import SearchSpace


class Convolution(nn.Module):
    """Of three bars: `before` of them are padded at the front; 2 is causal."""

    def __init__(self, channels: int, before: int = 2) -> None:
        super().__init__()
        self.before = before
        self.conv = nn.Conv1d(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x.permute(1, 2, 0), (self.before, 2 - self.before))
        out: Tensor = self.conv(padded).permute(2, 0, 1)
        return out


class NormOverTime(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.flatten(0, 1)).view(x.shape)
        return out


class BarNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.arange(len(x)).view(-1, 1, 1)


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)


@pytest.mark.parametrize("name", list(OPS))
def test_every_op_of_the_registry_passes(name: str) -> None:
    check_op(OPS[name])


def test_the_check_is_of_the_computation_not_of_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that read ahead would be found, whatever the op says of itself."""
    from nas.network import cell

    pool = cell.max_pool
    monkeypatch.setattr(cell, "max_pool", lambda x, span: pool(x, span).roll(-1, 0))
    with pytest.raises(InputError, match="reads ahead in use"):
        check_op(OPS["maxpool6"])
    block = cell.Cell.block
    monkeypatch.setattr(cell.Cell, "block", lambda *given: block(*given).roll(-1, 0))
    with pytest.raises(InputError, match="reads ahead in use"):
        check_op(OPS["residual3"])


@pytest.mark.parametrize(("op", "said"), [
    (lambda: Op("one", "constant", "", lags=(-1,), coefficients=(1.0,)), "reads ahead: lag -1"),
    (lambda: Op("one", "matrix", "", lags=(0, -1)), "reads ahead: lag -1"),
    (lambda: Op("one", "module", "", span=3, module=lambda c: Convolution(c, 1)), "reads ahead in use"),
    (lambda: Op("one", "module", "", span=1, module=NormOverTime), "reads ahead in training"),
    (lambda: Op("one", "module", "", span=2, module=Convolution), "further than the 2 bars"),
    (lambda: Op("one", "module", "", span=1, module=lambda _: BarNumber()), "not the same at every bar"),
    (lambda: Op("one", "module", "", span=1, module=lambda c: nn.Linear(c, c + 1)), "keeps"),
    (lambda: Op("one", "module", "", span=1, module=lambda c: nn.Linear(c + 1, c)), "failed with RuntimeError"),
    (lambda: Op("one", "module", "", span=1), "goes with kind 'module'"),
    (lambda: Op("one", "conv", "", lags=(0,)), "'conv' is not known"),  # type: ignore[arg-type]
    (lambda: Op("one", "constant", "", lags=(0, 1), coefficients=(1.0,)), "a coefficient per lag"),
    (lambda: Op("one", "matrix", ""), "give lags"),
    (lambda: Op("one", "ema", ""), "give span, not 0"),
    (lambda: Op("one", "gated", "", span=8), "16 or more"),
    (lambda: Op("one", "correlation", "", span=12), "give span=48"),
])  # fmt: skip
def test_an_op_that_cannot_be_is_refused_and_not_kept(op: Callable[[], Op], said: str) -> None:
    with pytest.raises(InputError, match=said):
        register_op(op())
    assert "one" not in OPS


@pytest.mark.parametrize("before", [0, 1])
def test_a_network_that_reads_ahead_is_refused(before: int) -> None:
    with pytest.raises(InputError, match="baseline 'cheat' reads ahead"):

        @baseline("cheat", "", "")
        class Cheat(nn.Module):
            receptive_field = 3

            def __init__(self, inputs: int, horizons: int) -> None:
                super().__init__()
                self.conv, self.head = Convolution(inputs, before), nn.Linear(inputs, horizons)

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.head(self.conv(x.permute(2, 0, 1))).permute(1, 2, 0)
                return out

    assert "cheat" not in BASELINES


OTHER_SPANS = (
    Op("maxpool12", "maxpool", "", span=12),
    Op("attention8", "attention", "", span=8),
    Op("gated32", "gated", "", span=32),
    Op("mine", "module", "", span=3, module=Convolution),
)


def test_other_spans_and_modules_work_beside_the_usual_ones() -> None:
    for op in OTHER_SPANS:
        register_op(op)
    names = ("identity", "maxpool6", "attention", "gated", *(op.name for op in OTHER_SPANS))
    torch.manual_seed(3)
    cell = Cell([Edge(s, n, names) for n in range(3) for s in range(n + 1)], 3, 4).double()
    x, mix = torch.randn(120, 2, 4, dtype=torch.float64), torch.rand(len(cell.entries), dtype=torch.float64)
    wanted = [mix.requires_grad_(), *cell.parameters()]
    weight = torch.randn(120, 2, 12, dtype=torch.float64)
    outputs = [cell(x, mix), reference_forward(cell, x, mix)]
    assert torch.allclose(*outputs, atol=1e-9)
    folded, plain = (torch.autograd.grad((out * weight).sum(), wanted) for out in outputs)
    for a, b in zip(folded, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-9)
    assert OPS["gated32"].receptive_field == 32


def test_a_module_is_searched_and_trained_like_any_op() -> None:
    register_op(Op("mine", "module", "", span=3, module=Convolution))
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((1, 1, 900)).astype(np.float32))
    space = SearchSpace(ops=("zero", "mine"), nodes=1, channels=4, features=(("input", ("raw",)),))
    tensors = Tensors(x, x.roll(1, -1), torch.ones(1, 1, 900))
    found = search(space, tensors, slice(20, 500), slice(520, 880), SearchSettings(epochs=2), 0)
    assert found.text == "node1 = mine(input)"
    assert OPS["mine"].parameters(4) == 3 * 4 * 4 + 4


@pytest.mark.parametrize("op", ["attention", "gated"])
def test_two_edges_from_one_source_have_weights_of_their_own(op: str) -> None:
    """They shared one matrix once: two such nodes came out equal to the bit."""
    nodes = ((Connection(op, 0),), (Connection(op, 0),))
    network = network_of(Genotype(nodes, 4, 1, (1,), (("input", "raw"),)), 0)
    cell = network.cells[0]  # type: ignore[union-attr, index]
    first, second = cell(torch.randn(80, 1, 4)).chunk(2, -1)  # type: ignore[operator]
    assert not torch.allclose(first, second, atol=1e-2)


@pytest.mark.parametrize("op", ["attention", "gated"])
def test_weights_that_edges_once_shared_are_read_as_they_were(op: str) -> None:
    nodes = ((Connection(op, 0),), (Connection(op, 0),))
    network = network_of(Genotype(nodes, 4, 1, (1,), (("input", "raw"),)), 0)
    wanted = network.state_dict()
    older = {k: v[0] if op in k else v for k, v in wanted.items()}
    network.load_state_dict(edge_by_edge(older, wanted))
    first, second = network.cells[0](torch.randn(80, 1, 4)).chunk(2, -1)  # type: ignore[union-attr, index, operator]
    assert torch.allclose(first, second, atol=1e-6)


def test_the_maximum_of_normals_is_tippetts() -> None:
    assert maximum_of_normals(6) == pytest.approx((1.26721, 0.64492), abs=1e-5)
    assert maximum_of_normals(1) == pytest.approx((0.0, 1.0), abs=1e-6)


@pytest.mark.parametrize(("make", "said"), [
    (lambda: Rule("sparce"), "did you mean 'sparse'"),  # type: ignore[arg-type]
    (lambda: Temperature(schedule="linaer"), "did you mean 'linear'"),  # type: ignore[arg-type]
    (lambda: Variant("v", "", "", mode="exakt"), "did you mean 'exact'"),  # type: ignore[arg-type]
    (lambda: Variant("v", "", "", order=3), "there are 0, 1, 2"),  # type: ignore[arg-type]
    (lambda: Variant("v", "", "", selection="wieghts"), "did you mean 'weights'"),  # type: ignore[arg-type]
    (lambda: Variant("v", "", "", alpha_decay=-1.0), "alpha_decay must not be negative"),
    (lambda: SearchSettings(alpha_weight_decay=-1.0), "alpha_weight_decay must not be negative"),
    (lambda: SearchSettings(undecided="simple"), "did you mean 'simpler'"),  # type: ignore[arg-type]
])  # fmt: skip
def test_unknown_words_and_negative_decays_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_stretches_that_overlap_are_refused() -> None:
    tensors = Tensors(torch.zeros(1, 1, 300), torch.zeros(1, 1, 300), torch.ones(1, 1, 300))
    space = SearchSpace(ops=("identity",), nodes=1, features=(("input", ("raw",)),))
    with pytest.raises(InputError, match="training bars 0 to 200 and validation bars 199 to 300 overlap"):
        search(space, tensors, slice(0, 200), slice(199, 300), SearchSettings(), 0)
