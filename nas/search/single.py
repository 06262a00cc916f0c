"""One search on one panel: what the notebook and `python -m nas.search` call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.panel import Panel
from nas.network.stretches import Samples, Scaler, Tensors, for_training
from nas.search import loop
from nas.search.result import SearchResult
from nas.search.settings import SearchSettings
from nas.space.ops import DEFAULT_OPS
from nas.space.search_space import Graph, SearchSpace


def search(
    panel: Panel,
    *,
    variant: str = "darts",
    horizon: int | Sequence[int] = 6,
    seed: int = 0,
    validation_share: float = 0.25,
    ops: Sequence[str] = DEFAULT_OPS,
    nodes: int = 2,
    cells: int = 1,
    channels: int = 16,
    search_cells: int | None = None,
    search_channels: int | None = None,
    cell_inputs: int = 1,
    edges_per_node: int = 2,
    graph: Graph = "dense",
    features: str | Mapping[str, tuple[str, ...]] = "default",
    settings: SearchSettings | None = None,
    on_record: Callable[[dict[str, Any]], None] = lambda _: None,
    checkpoint: Path | None = None,
    **changes: Any,
) -> SearchResult:
    """Search a network for all of `panel`: weights on its first part, alphas on the last `validation_share` of it, purged.

    Parameters
    ----------
    panel : Panel
        One asset, or several that are read together.
    variant : str
        One of `python -m nas.search --help`, or registered by `nas.register_variant`.
    horizon : int or sequence of int
        Bars ahead that are forecast; the first one trades.
    seed : int
        Same seed, same panel, same code: same bytes.
    validation_share : float
        Of the panel, for alphas.
    ops, nodes, cells, channels, search_cells, search_channels, cell_inputs, edges_per_node, graph
        As in `SearchSpace`.
    features : str or mapping
        As in `build_bank`.
    settings : SearchSettings, optional
        How the search runs; 50 epochs unless given.
    on_record : callable
        Receives every epoch's row of the history as soon as it is known.
    checkpoint : Path, optional
        Written after every epoch and gone at the end; a killed search goes on from it, to the same bytes.
    **changes
        Fields of `SearchSettings` (`epochs=20`, `loss="sharpe"`).

    Raises
    ------
    InputError
        For a panel too short, unknown names and whatever else `nas.search.loop.search` refuses.

    References
    ----------
    Liu, Simonyan and Yang (2019), DARTS: Differentiable Architecture Search, arXiv 1806.09055.

    Examples
    --------
    >>> from data import load_panel
    >>> from nas.search import search
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    >>> found = search(panel, variant="fair", ops=("zero", "conv3", "ema12"), nodes=1, channels=4, epochs=2)
    >>> len(found.history), found.text.split(" = ")[0]
    (2, 'node1')
    """
    how = (settings or SearchSettings(epochs=50)).changed(**changes)
    horizons = (horizon,) if isinstance(horizon, int) else tuple(horizon)
    samples = Samples.of(panel, horizons, features)
    bank = samples.bank
    space = SearchSpace(
        ops=tuple(ops), nodes=nodes, cells=cells, channels=channels, horizons=horizons,
        search_cells=search_cells, search_channels=search_channels, cell_inputs=cell_inputs, edges_per_node=edges_per_node,
        graph=graph,
        assets=panel.assets if len(panel.assets) > 1 else (),
    ).with_features(dict(zip(bank.inputs, bank.pipelines, strict=True)))  # fmt: skip
    train, validation = for_training(panel, bank, space.receptive_field, max(horizons) + 1, validation_share)
    tensors = Tensors.of(samples, Scaler.fit(bank.values, train), together=space.together)
    return loop.search(
        space, tensors, train, validation, how, seed, variant=variant, on_record=on_record, checkpoint=checkpoint
    )
