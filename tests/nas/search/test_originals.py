"""Parts against their public originals, to 1e-6: the numbers were made by running the authors' code on the inputs below.

microsoft/ReinMax (reinmax.py), xiangning-chen/DrNAS (utils.py), xiangning-chen/SmoothDARTS (attacker/perturb.py), dr-faustus/Lambda-DARTS
(search_model_darts_v1.py), PasaLab/oles (train_search.py), Sunshine-Ye/Beta-DARTS (architect.py); float64, newest commits of 2025.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.panel import InputError
from nas.network.cell import Cell, Edge
from nas.network.stretches import Tensors
from nas.search.alignment import LENGTH, directions, mean_cosine
from nas.search.loop import search
from nas.search.matching import GradientStop, Matching, Running, agreement
from nas.search.parts import PARTS
from nas.search.penalties import beta_decay
from nas.search.perturbation import attacked
from nas.search.relaxation import dirichlet, reinmax, softmax, straight
from nas.search.run import SearchRun
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture
from nas.search.variants import get_variant
from nas.space.search_space import SearchSpace


def table(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


LOGITS = table([[0.2, -1.0, 0.7, 0.1], [1.5, 0.0, -0.5, 0.3], [-0.1, 0.05, 0.0, 2.0]])
PUSH = table([[0.3, -0.2, 0.9, 0.1], [-1.0, 0.4, 0.25, 0.0], [0.7, 0.7, -0.3, 0.2]])
ALL = torch.ones(3, 4, dtype=torch.bool)


def near(ours: torch.Tensor, theirs: list[list[float]]) -> bool:
    return torch.allclose(ours.double(), table(theirs), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("temperature", "theirs"),
    [
        (1.0, [[-0.077826, -0.042974691, 0.214693861, -0.093893169], [-0.235815077, 0.094110327, 0.050964999, 0.090739752],
               [0.0, 0.226894797, -0.048331759, -0.178563038]]),
        (1.4, [[-0.073164293, -0.070305572, 0.237899214, -0.094429349], [-0.307251765, 0.125384215, 0.081741136, 0.100126413],
               [0.008337301, 0.22444032, -0.083384364, -0.149393257]]),
    ],
)  # fmt: skip
def test_the_gradient_of_reinmax_is_the_original(temperature: float, theirs: list[list[float]]) -> None:
    logits = LOGITS.clone().requires_grad_()
    drawn = torch.zeros_like(LOGITS).scatter(-1, torch.tensor([[2], [0], [1]]), 1.0)
    weights = straight(logits, ALL, softmax(logits, ALL, 1.0), softmax(logits, ALL, temperature), drawn)
    assert torch.equal(weights.detach(), drawn)
    assert near(torch.autograd.grad((weights * PUSH).sum(), logits)[0], theirs)


def test_reinmax_draws_from_the_softmax_and_never_what_is_out_of_the_race() -> None:
    logits = torch.tensor([[0.0, 1.0, 5.0, 2.0]]).repeat(20_000, 1).requires_grad_()
    mask = torch.tensor([True, True, False, True]).expand_as(logits)
    weights = reinmax(logits, mask, 1.0, torch.Generator().manual_seed(0))
    wanted = torch.softmax(torch.tensor([0.0, 1.0, 2.0]), -1)
    assert torch.allclose(weights.mean(0)[[0, 1, 3]], wanted, atol=0.02)
    slope = torch.autograd.grad(weights[:, 0].sum(), logits)[0]
    assert bool(torch.isfinite(slope).all())
    assert float(slope[:, 2].abs().max()) == 0.0 < float(slope[:, 0].abs().max())


@pytest.mark.parametrize(
    ("out", "weights", "slope"),
    [
        ((), [[0.342594434, 0.045614865, 0.355692063, 0.256098638], [0.055914462, 0.530921534, 0.138128688, 0.275035316],
              [0.009068233, 0.257907658, 0.444437552, 0.288586557]],
         [[-0.044169214, -0.05798574, 0.119613211, -0.097862602], [-0.070040774, 0.079717874, 0.010033235, -0.045620601],
          [0.018539095, 0.147524691, -0.136528892, 0.012339725]]),
        (((0, 2), (1, 1)), [[0.531724684, 0.070796683, 0.0, 0.397478633], [0.119200657, 0.0, 0.294468193, 0.586331149],
                            [0.009068233, 0.257907658, 0.444437552, 0.288586557]],
         [[0.056506468, -0.054205505, 0.0, -0.038087856], [-0.119656572, 0.0, 0.107132977, 0.023212501],
          [0.018539095, 0.147524691, -0.136528892, 0.012339725]]),
    ],
)  # fmt: skip
def test_the_draw_of_drnas_and_its_gradient_are_the_original(
    out: tuple[tuple[int, int], ...],
    weights: list[list[float]],
    slope: list[list[float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The original draws row by row after manual_seed(11)."""
    seed = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda _: seed(11))
    mask = ALL.clone()
    for row, choice in out:
        mask[row, choice] = False
    logits = LOGITS.clone().requires_grad_()
    drawn = dirichlet(logits, mask, 1.0, torch.Generator().manual_seed(0))
    assert near(drawn.detach(), weights)
    assert near(torch.autograd.grad((drawn * PUSH).sum(), logits)[0], slope)


def test_a_draw_of_drnas_follows_the_search_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, again = (dirichlet(LOGITS, ALL, 1.0, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, dirichlet(LOGITS, ALL, 1.0, torch.Generator().manual_seed(5)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(dirichlet(LOGITS, ALL, 1.0), torch.softmax(LOGITS, -1))


@pytest.mark.parametrize(
    ("spread", "noise", "theirs"),
    [
        (0.05, [[0.014201501, -0.024024208, -0.013917238, -0.018486739], [-0.023388286, 0.03514287, 0.007929771, 0.022004628],
                [0.034741592, -0.00469285, -0.014188116, -0.017427787]],
         [[0.209420001, 0.028135803, 0.477711273, 0.284732924], [0.652533174, 0.084443324, 0.031543998, 0.231479505],
          [0.037464768, 0.051619562, 0.146663517, 0.764252153]]),
        (0.3, [[0.085209004, -0.144145251, -0.083503428, -0.110920435], [-0.140329717, 0.210857219, 0.047578627, 0.132027765],
               [0.208449552, -0.028157098, -0.085128694, -0.104566721]],
         [[0.0, 0.0, 0.562027238, 0.437972762], [0.579816059, 0.0, 0.0, 0.420183941], [0.0, 0.0, 0.34682215, 0.65317785]]),
    ],
)  # fmt: skip
def test_the_adversary_of_sdarts_is_the_original(
    spread: float, noise: list[list[float]], theirs: list[list[float]]
) -> None:
    x = table([[1.0, -0.5], [0.3, 0.8], [-1.2, 0.4], [0.1, -0.9]])
    y = table([[0.2, 0.1], [-0.4, 0.6], [0.9, -0.3]])

    def loss(weights: torch.Tensor) -> torch.Tensor:
        return (weights @ x - y).square().mean()

    start = torch.softmax(LOGITS, -1)
    found = attacked(loss, start, ALL, spread, table(noise))
    assert near(found, theirs)
    assert loss(found) > loss(start)
    assert torch.equal(attacked(lambda w: -(w - start).square().sum(), start, ALL, spread, table(noise)), start)


GRADIENTS = [LOGITS.reshape(-1) * 0.3 + 0.1, PUSH.reshape(-1), (LOGITS - PUSH).reshape(-1)]


def test_the_alignment_of_lambda_darts_is_the_original() -> None:
    theirs = [
        [[9.839e-06, -0.000154371, 0.0001656, -3.9152e-05], [-0.000222947, 2.3353e-05, -3.206e-05, -5.2666e-05],
         [8.5858e-05, 9.2448e-05, -0.000132743, 6.661e-05]],
        [[0.000101969, -0.000229562, 0.000240591, 7.4145e-05], [0.000458849, 4.694e-05, -9.1125e-05, 0.000129174],
         [1.9735e-05, 6.1099e-05, 4.6074e-05, 0.000598213]],
        [[8.0779e-05, -6.5831e-05, 0.000200071, 4.5032e-05], [-3.4077e-05, 8.3589e-05, 3.117e-05, 4.2223e-05],
         [0.000122145, 0.000131183, -2.0436e-05, 0.000174379]],
    ]  # fmt: skip
    found = torch.stack(directions(GRADIENTS))
    scaled = found * LENGTH / torch.linalg.vector_norm(found)
    for ours, wanted in zip(scaled, theirs, strict=True):
        assert torch.allclose(ours.view(3, 4), table(wanted), atol=1e-9)
    assert float(mean_cosine(GRADIENTS)) == pytest.approx(0.074691677, abs=1e-8)
    leaves = [g.clone().requires_grad_() for g in GRADIENTS]
    for slope, ours in zip(torch.autograd.grad(mean_cosine(leaves), leaves), found, strict=True):
        assert torch.allclose(slope, ours, atol=1e-12)


OLES_TRAIN = (
    table([
        [-0.2177488, 0.1466771, 0.6690811, -0.5141241, -1.5859705, -0.7477303, 0.6539057, 0.9104899, 0.1482983, -0.8088912],
        [1.586566, -0.3467611, 0.5483733, 1.1468066, -1.9011297, 0.2482403, -0.087184, -0.3488669, -0.4190152, -1.664852],
        [-0.3491742, -0.7748311, 0.1841109, -0.1540126, -0.0300276, 0.2900023, 0.3272682, -1.0801769, 0.5371111, 0.7900567],
    ]).view(3, 2, 5),
    table([[-0.8045926, -1.0500643, -0.1096536]])[0],
)  # fmt: skip
OLES_VALIDATION = (
    table([
        [-0.5028383, -0.1472016, 1.0010318, -0.7458917, -1.2916535, -0.3208859, 0.6486167, 0.7607471, 0.5004832, -0.6957141],
        [1.9538881, 0.0180357, 0.5670088, 1.3879236, -1.4129107, 0.1754305, -0.5187554, -0.9848033, -0.9161671, -1.6655229],
        [-0.4965128, -0.6348496, -0.0300708, -0.2814519, -0.0363533, 0.162786, -0.1846513, -1.0414711, 0.7468963, 0.4989542],
    ]).view(3, 2, 5),
    table([[-0.6987024, -1.0560429, -0.4358037]])[0],
)  # fmt: skip


def test_the_agreement_of_gradients_of_oles_is_the_original() -> None:
    """Their weights have outputs first, ours last."""
    pairs = [(a.movedim(0, -1), b.movedim(0, -1)) for a, b in zip(OLES_TRAIN, OLES_VALIDATION, strict=True)]
    assert agreement(pairs) == pytest.approx(0.947192392, abs=1e-6)


@pytest.mark.parametrize(("cosine", "theirs"), [(0.39, None), (0.38, 20)])
def test_an_op_stops_at_the_step_of_the_original(cosine: float, theirs: int | None) -> None:
    """Its counter lets 21 values into a sum that it divides by 20: 0.39 goes on for ever, 0.38 stops with the 21st."""
    running = Running(GradientStop())
    assert next((step for step in range(100) if running.stops(cosine)), None) == theirs


def test_the_penalty_of_beta_darts_is_the_original_per_edge() -> None:
    """Theirs is a mean over the edges; ours a sum, since forces are counted per logit (`nas.search.forces`)."""
    theirs = [[0.086473334, 0.026045268, 0.142570424, 0.078244308], [0.200844391, 0.044814441, 0.027181333, 0.060493168],
              [0.029154923, 0.033873187, 0.032221172, 0.238084051]]  # fmt: skip
    space = SearchSpace(ops=("identity", "conv3", "ema4", "diff1"), nodes=2, features=(("return", ("raw",)),))
    architecture = Architecture(space, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        architecture.ops.copy_(LOGITS)
    (slope,) = torch.autograd.grad(beta_decay(1.0)(architecture, 1.0), [architecture.ops])
    assert near(slope / 3, theirs)


# -- the parts at work -------------------------------------------------------------------------------------------------------

SPACE = SearchSpace(
    ops=("zero", "identity", "conv3", "separable3", "attention", "gated", "residual3"), nodes=2, channels=4, edges_per_node=1, cells=2,
    search_cells=2, features=(("return", ("raw",)),),
)  # fmt: skip
SETTINGS = SearchSettings(epochs=3, length=32, batch=1, alpha_warmup_epochs=0, diagnostics_every=0)


def started(variant: str) -> SearchRun:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((1, 1, 300)).astype(np.float32))
    data = Tensors(x, 0.8 * x.roll(1, -1), torch.ones(1, 1, 300))
    chosen = get_variant(variant)
    return SearchRun(SPACE, data, ((slice(40, 160),), (slice(200, 280),)), SETTINGS, 0, chosen, chosen.stages[0], None)


def test_every_weight_of_an_op_is_found_where_the_op_reads_it() -> None:
    """Changing an op's own weights changes the cell where that op weighs 1, and nowhere else."""
    torch.manual_seed(0)
    ops = SPACE.ops
    cell = Cell([Edge(0, 0, ops), Edge(0, 1, ops), Edge(1, 1, ops)], 2, 4)
    x, own, count = torch.randn(40, 1, 4), cell.own_weights(), 3 * len(ops)
    learned = {k for k in range(count) if ops[k % len(ops)] not in ("zero", "identity")}
    assert own.keys() == learned
    assert sum(p.numel() for p in cell.parameters()) == sum(
        cell.get_parameter(name)[row].numel() if row is not None else cell.get_parameter(name).numel()
        for places in own.values() for name, row in places
    )  # fmt: skip
    for entry, places in own.items():
        for mine in (True, False):
            mix = torch.ones(count)
            mix[entry] = 1.0 if mine else 0.0
            before = cell(x, mix)
            kept = [cell.get_parameter(name).detach().clone() for name, _ in places]
            with torch.no_grad():
                for name, row in places:
                    cell.get_parameter(name)[slice(None) if row is None else row] += 0.3
            assert torch.equal(before, cell(x, mix)) is not mine
            with torch.no_grad():
                for (name, _), old in zip(places, kept, strict=True):
                    cell.get_parameter(name).copy_(old)


def test_an_op_that_has_stopped_stands_still_and_the_others_go_on() -> None:
    run = started("oles")
    assert run.matching is not None
    op = next(iter(run.matching.ops))
    run.matching.frozen.add(op)
    before = {name: p.detach().clone() for name, p in run.parameters.items()}
    run.epoch(0, 0, 3)
    moved = {
        name: [bool((p[row] != before[name][row]).any()) for row in range(len(p))] for name, p in run.parameters.items()
    }
    for name, row in run.matching.ops[op]:
        assert row is not None
        assert not moved[name][row]
        assert any(moved[name])
    assert run.matching.told.startswith("1 of ")


def test_gradients_of_noise_stop_their_op_and_gradients_that_agree_do_not() -> None:
    run = started("oles")
    watch = Matching(run.network, GradientStop(window=3))
    draw = torch.Generator().manual_seed(0)
    alike, noisy = list(watch.ops)[:2]
    for _ in range(4):
        gradients = {name: torch.randn(p.shape, generator=draw) for name, p in run.parameters.items()}
        others = {name: torch.randn(p.shape, generator=draw) for name, p in run.parameters.items()}
        for name, row in watch.ops[alike]:
            others[name][row] = gradients[name][row]
        watch.remember(gradients)
        watch.compare(others)
    assert noisy in watch.frozen
    assert alike not in watch.frozen


def test_aligned_weights_want_the_same_ops_in_every_cell() -> None:
    """The same steps with and without: the mean cosine of the cells' gradients by alpha ends higher with."""
    ends = {}
    for weight in (0.0, 3.0):
        run = started("align")
        batch = run.batches(run.train_bars)[0]
        mix = run.architecture.mix()
        fixed = mix._replace(ops=mix.ops.detach(), columns=mix.columns.detach())
        for _ in range(15):
            run._aligned_step(fixed, batch, weight)
        rows = fixed.ops.expand(2, -1).clone().requires_grad_()
        (slope,) = torch.autograd.grad(run.loss(fixed._replace(ops=rows), batch), [rows])
        ends[weight] = float(mean_cosine(list(slope)))
    assert ends[3.0] > ends[0.0] + 0.1


def test_one_cell_has_nobody_to_agree_with() -> None:
    values = Tensors(torch.randn(1, 1, 300), torch.randn(1, 1, 300), torch.ones(1, 1, 300))
    alone = replace(SPACE, cells=1, search_cells=1)
    with pytest.raises(
        InputError, match="variant align aligns the cells of the search, which has one; give search_cells"
    ):
        search(alone, values, slice(40, 160), slice(200, 280), SETTINGS, 0, variant="align")


def test_a_row_of_weights_per_cell_that_are_equal_is_the_shared_mix() -> None:
    run = started("darts")
    batch, mix = run.batches(run.train_bars)[0], run.architecture.mix()
    assert torch.equal(run.loss(mix, batch), run.loss(mix._replace(ops=mix.ops.expand(2, -1)), batch))


def test_the_adversary_makes_the_step_harder() -> None:
    run = started("sdarts-adv")
    batch, architecture = run.batches(run.train_bars)[0], run.architecture
    with torch.no_grad():
        ops, features = architecture.op_weights(), architecture.feature_weights()
        plain = run.loss(architecture.assemble(ops, features), batch).item()
    moved = run._against(ops, features, batch, 0.3)
    assert run.loss(architecture.assemble(moved, features), batch).item() > plain
    assert float((moved - ops).abs().max()) <= 0.3 + 0.2  # back on the simplex a row is scaled
    assert PARTS["adversary"].changes["attack"](1.0) == pytest.approx(0.3)
