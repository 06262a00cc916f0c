"""What `python -m nas.search` is asked for; the main job takes what means the same there from here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from data.commandline import JSON_HELP, QUIET_HELP
from data.market_settings import MarketSettings
from data.settings import Count, setting

MOST_SEED = 2**32 - 1  # what every library here takes
SEARCH = "Search"


class SearchRequest(MarketSettings):
    """One search on one stretch of a market."""

    variant: str = setting("darts", "Search variant, e.g. darts, darts-2nd, pc, fair, plus, gdas.", SEARCH)
    horizon: tuple[Count, ...] = setting((6,), "Bars ahead that are forecast: 6 or 1,6,24.", SEARCH, min_length=1)
    loss: str = setting("huber", "huber, squared, direction or sharpe.", SEARCH)
    epochs: Count = setting(
        50, "Passes of a search over its training stretch.", SEARCH, names=("--search-epochs", "--epochs")
    )
    search_fraction: float = setting(1.0, "Share of the training stretches that a search epoch looks at.", SEARCH)
    nodes: Count = setting(2, "Nodes of the cell.", SEARCH)
    cell_inputs: Literal[1, 2] = setting(1, "What a cell reads: 1, the cell before; 2, the two before.", SEARCH)
    cells: Count = setting(1, "Cells on top of each other.", SEARCH)
    channels: Count = setting(16, "Channels of the network.", SEARCH)
    seed: int = setting(0, "Same seed, same data, same code: same bytes.", SEARCH, ge=0, le=MOST_SEED)
    out: Path | None = setting(None, "Folder for search.json, network.svg and curves.svg.")
    quiet: bool = setting(False, QUIET_HELP)
    as_json: bool = setting(False, JSON_HELP, alias="json")
