"""Parts compose: every pair runs or is refused with its reason, and the named variants are what they were."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.panel import InputError
from docs.hooks import variant_tables
from nas.network.stretches import Tensors
from nas.search.diagnostics import EigenvalueStop
from nas.search.loop import search
from nas.search.parts import KINDS, PARTS, SEVERAL, refusal
from nas.search.penalties import latency, shares
from nas.search.relaxation import Temperature, perturbed, sigmoid
from nas.search.result import SearchResult
from nas.search.settings import SearchSettings
from nas.search.variants import VARIANTS, get_variant, register_variant
from nas.space.ops import OPS, get_op
from nas.space.search_space import SearchSpace

SPACE = SearchSpace(
    ops=("zero", "identity", "conv3"), nodes=1, channels=4, edges_per_node=1,
    features=(("return", ("raw",)),),
)  # fmt: skip
DEEP = replace(SPACE, cells=2, search_cells=2)
SETTINGS = SearchSettings(epochs=2, length=24, batch=2, alpha_warmup_epochs=0, finalist_epochs=1, diagnostics_every=0)
BARS = 120


def data() -> Tensors:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((1, 1, BARS)).astype(np.float32))
    return Tensors(x, x.roll(1, -1), torch.ones(1, 1, BARS))


def find(variant: str, space: SearchSpace = SPACE) -> SearchResult:
    return search(space, data(), slice(10, 60), slice(70, 110), SETTINGS, 0, variant=variant)


def test_every_pair_of_parts_runs_or_is_refused_with_a_reason() -> None:
    """All of them: what is refused says why in one line, what is not ends in a cell."""
    torch.set_num_threads(1)
    ran = refused = 0
    for a, b in itertools.combinations(PARTS, 2):
        reason = refusal(PARTS[a], PARTS[b])
        # uniform alone reads no cell off: its partners are tried with a selection that does
        name = f"{a}+{b}" + ("+shared" if "uniform" in (a, b) and not {"removal", "shared", "random"} & {a, b} else "")
        if reason is not None:
            refused += 1
            with pytest.raises(InputError, match=r"do not go together: \w") as told:
                get_variant(f"{a}+{b}")
            assert reason in str(told.value)
            assert "\n" not in str(told.value)
            continue
        ran += 1
        found = find(name, DEEP if "align" in name else SPACE)
        assert found.genotype.nodes[0], name
        assert found.variant == name
    assert ran > 100
    assert refused > 20


def test_a_composition_does_what_each_of_its_parts_does() -> None:
    found = get_variant("gdas+pc+beta")
    assert found.parts == ("gumbel", "partial", "beta-decay")
    assert (found.partial, found.normalised, found.warmup) == (4, True, 0.3)
    assert found.temperature == Temperature(10.0, 0.1, "linear")
    assert found.regulariser is PARTS["beta-decay"].changes["regulariser"]
    both = get_variant("fair+progressive")
    assert (both.rule.method, both.rule.threshold, both.rule.skip_limit) == ("sparse", 0.85, 2)
    assert get_variant("pt+last-round").finalists == 3
    assert len(find("pt+last-round").finalists) == 2  # there are no more cells


def test_penalties_of_a_composition_add_up() -> None:
    from nas.search.supernet import Architecture  # here alone

    architecture = Architecture(SPACE, generator=torch.Generator().manual_seed(0), random_init=True)
    parts = [PARTS[name].changes["regulariser"](architecture, 0.5) for name in ("beta-decay", "parameters")]
    both = get_variant("beta+parameters").regulariser
    assert both is not None
    assert torch.allclose(both(architecture, 0.5), torch.stack(parts).sum())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gdas+fair", r"variant 'gdas\+fair': gumbel \(of gdas\) and sigmoid \(of fair\) do not go together: both say how logits"),
        ("pc+foo", r"no search variant 'foo' in 'pc\+foo'; there are darts, .*parts to join by \+: first, second"),
        ("uniform", "uniform learns no alpha to read a cell off; add shared or removal"),
        ("random+l2", "random trains cells from scratch"),
        ("gdas+", r"no search variant '' in 'gdas\+'"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        get_variant(name)
    assert "\n" not in str(told.value)


def test_a_variant_made_by_hand_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.search.variants.VARIANTS", dict(VARIANTS))
    register_variant(replace(VARIANTS["darts"], name="own", partial=2))
    assert get_variant("own").partial == 2
    with pytest.raises(InputError, match="own was made by hand and has no parts"):
        get_variant("own+pt")


def test_the_named_variants_are_what_they_were() -> None:
    """Fields that differ from plain DARTS, as they stood before variants were made of parts."""
    plain = VARIANTS["darts"]
    differs = {
        name: {
            field: value
            for field in plain.__dataclass_fields__
            if field not in ("name", "title", "source", "parts", "regulariser", "weight_relaxation", "alpha_relaxation")
            and (value := getattr(variant, field)) != getattr(plain, field)
        }
        for name, variant in VARIANTS.items()
    }
    rule = get_variant("darts").rule
    assert differs["darts-2nd"] == {"order": 2}
    assert differs["darts-2nd-exact"] == {"order": 2, "mode": "exact"}
    assert differs["pc"] == {"partial": 4, "normalised": True, "warmup": 0.3}
    assert differs["fair"] == {
        "relaxation": sigmoid, "without_zero": True, "alpha_decay": 0.0, "rule": replace(rule, method="sparse", threshold=0.85)
    }  # fmt: skip
    assert differs["plus"] == {"auxiliary": 1.0, "eigenvalue_stop": EigenvalueStop(), "weight_decay": 9.0}
    assert differs["plus-skips"] == {"auxiliary": 1.0, "skip_stop": 2}
    assert differs["progressive"].keys() == {"stages", "rule"}
    assert differs["beta"] == differs["sdarts"] == {}
    assert differs["pt"] == {"selection": "removal"}
    assert differs["gdas"] == {"temperature": Temperature(10.0, 0.1, "linear")}
    assert differs["random-ws"] == {"order": 0, "selection": "shared"}
    assert differs["random"] == {"order": 0, "selection": "random"}


def test_noise_around_choices_that_do_not_compete_stays_between_0_and_1() -> None:
    logits = torch.linspace(-4, 4, 40).view(8, 5)
    mask = torch.ones_like(logits, dtype=torch.bool)
    weights = perturbed(0.3, sigmoid)(logits, mask, 1.0, torch.Generator().manual_seed(0))
    assert (float(weights.min()), float(weights.max())) == (0.0, 1.0)
    assert float(weights.sum(-1).max()) > 1.5
    assert torch.allclose(weights, torch.sigmoid(logits), atol=0.3 + 1e-6)


def test_the_price_of_parameters_is_the_expected_one() -> None:
    """d/da_k of sum_j p_j c_j is p_k (c_k - sum_j p_j c_j): ProxylessNAS's gradient of the expected latency."""
    from nas.search.supernet import Architecture  # here alone

    architecture = Architecture(SPACE, generator=torch.Generator().manual_seed(0), random_init=True)
    (slope,) = torch.autograd.grad(PARTS["parameters"].changes["regulariser"](architecture, 0.0), [architecture.ops])
    cost, p = torch.tensor(shares(SPACE.ops)), architecture.op_weights().detach()
    assert cost.tolist() == [0.0, 0.0, 1.0]
    assert torch.allclose(slope, p * (cost - (p * cost).sum(-1, keepdim=True)), atol=1e-6)


def test_the_price_of_time_is_the_expected_one_counted_or_measured() -> None:
    """By hand, four channels: conv3 makes 2 * 3 * 16 operations and moves (3 + 1) * 4 values of 4 bytes, identity 2 * 4 and 2 * 4; at 90
    operations and 174 bytes a nanosecond. FBNet and ProxylessNAS: the sum over edges of softmax(a) . time."""
    from nas.search.supernet import Architecture  # here alone

    conv3, identity = 96 / 90 + 64 / 174, 8 / 90 + 32 / 174
    assert [get_op(name).nanoseconds(4) for name in SPACE.ops] == pytest.approx([0.0, identity, conv3], abs=1e-12)
    architecture = Architecture(SPACE, generator=torch.Generator().manual_seed(0))
    price = PARTS["latency"].changes["regulariser"]
    for measured, shares_by_hand in (
        ({}, [0.0, identity / conv3, 1.0]),
        ({"identity": 6.0, "conv3": 4.0}, [0.0, 1.0, 4.0 / 6.0]),
    ):
        architecture.op_costs = measured
        with torch.no_grad():
            architecture.ops.copy_(torch.tensor([[0.2, -0.4, 1.1]]))
        e = np.exp([0.2, -0.4, 1.1])
        p, cost = e / e.sum(), np.array(shares_by_hand)
        value = price(architecture, 0.3)
        (slope,) = torch.autograd.grad(value, [architecture.ops])
        assert value.item() == pytest.approx(float(p @ cost), abs=1e-6)
        assert np.allclose(slope.numpy(), p * (cost - p @ cost), atol=1e-6)


def test_a_table_of_times_decides_what_is_slow_and_has_to_be_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.search.variants.VARIANTS", dict(VARIANTS))
    register_variant(replace(VARIANTS["darts"], name="dear", regulariser=latency(40.0)))  # louder than the data

    def weights(**costs: float) -> np.ndarray:
        how = replace(SETTINGS, epochs=6, op_costs={"identity": 0.0, "conv3": 0.0, **costs})
        found = search(SPACE, data(), slice(10, 60), slice(70, 110), how, 0, variant="dear")
        return np.array(found.op_weights)[0]

    assert weights(identity=9.0)[1] < weights()[1] < weights(conv3=9.0)[1]
    with pytest.raises(InputError, match="op_costs lacks conv3; give every op of the space a time"):
        search(SPACE, data(), slice(10, 60), slice(70, 110), replace(SETTINGS, op_costs={"identity": 1.0}), 0)
    with pytest.raises(InputError, match="op_costs: the time of identity must be a number from 0, not -1"):
        SearchSettings(op_costs={"identity": -1.0})


def test_every_op_has_a_time() -> None:
    """More channels take longer, and only `zero` is free."""
    for op in OPS.values():
        assert (op.nanoseconds(8) == 0.0) == (op.name == "zero")
        assert op.name == "zero" or op.nanoseconds(16) >= 2 * op.nanoseconds(8) - 1e-9, op.name


def test_the_second_order_of_a_drawn_mix_is_that_of_one_draw() -> None:
    """Central differences between mixes of different draws would be as large as the draws are different."""
    finite, exact = (np.array(find(f"gdas+{order}").op_weights) for order in ("second", "exact"))
    assert np.abs(finite - exact).max() < 5e-3


def test_the_tables_of_the_page_are_made_of_the_parts() -> None:
    text = variant_tables()
    assert [name for name in VARIANTS if f"| `{name}` | " not in text] == []
    assert [part.name for part in PARTS.values() if f"| `{part.name}` | {part.kind} | {part.what}" not in text] == []
    assert {part.kind for part in PARTS.values()} == set(KINDS)
    assert set(SEVERAL) <= set(KINDS)
    assert "| `plus` | `extra-skip` `eigenvalue` `l2` | " in text
