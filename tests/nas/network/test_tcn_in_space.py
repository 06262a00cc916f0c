"""The hand-designed TCN is a point of the search space: a genotype's network with its weights forecasts the same."""

from __future__ import annotations

import torch

from nas.baselines import build_baseline
from nas.network.model import network_of
from nas.space.kinds import BLOCKS, draw
from nas.space.search_space import SearchSpace

FEATURES = tuple((f"input{k}", "raw") for k in range(5))


def test_the_tcn_by_hand_is_a_point_of_the_space() -> None:
    genotype = draw("tcn", FEATURES, (6,), 0)
    tcn = build_baseline("tcn", len(FEATURES), 1, seed=4).double()
    network = network_of(genotype, 0).double()
    theirs, mine = tcn.state_dict(), network.state_dict()
    assert network.receptive_field == tcn.receptive_field
    with torch.no_grad():
        for value in theirs.values():
            value += 0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=value.dtype)
        mine["stem"].copy_(theirs["stem.weight"][:, :, 0].T)
        mine["stem_bias"].copy_(theirs["stem.bias"])
        for k in range(len(BLOCKS)):
            kernel = theirs[f"blocks.{k}.conv.weight"]  # [out, in, tap], the oldest first
            mine[f"cells.0.weights.residual{k}"][0].copy_(kernel.flip(-1).permute(2, 1, 0))
            mine[f"cells.0.weights.residualbias{k}"][0].copy_(theirs[f"blocks.{k}.conv.bias"])
        mine["head"].zero_()[-genotype.channels :].copy_(theirs["head.conv.weight"][:, :, 0].T)
        mine["head_bias"].copy_(theirs["head.conv.bias"])
    x = torch.randn(2, len(FEATURES), 200, dtype=torch.float64)
    assert torch.allclose(network(x), tcn(x), atol=1e-6, rtol=0.0)
    assert network(x).std() > 0.1


def test_a_search_over_that_space_holds_it() -> None:
    """Its edges are edges of a searched cell of four nodes, its ops are candidates there, its memory fits."""
    genotype = draw("tcn", FEATURES, (6,), 0)
    space = SearchSpace(ops=("zero", "skip", *BLOCKS), nodes=4, edges_per_node=1)
    for node, connections in enumerate(genotype.nodes):
        for connection in connections:
            assert (connection.source, node) in space.edges
            assert connection.op in space.ops
    assert genotype.receptive_field <= space.receptive_field
