"""One search: `from nas.search import search`, then `search(panel)`; on the command line `python -m nas.search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.search.single import search_panel as search

__all__ = ["search"]


def __getattr__(name: str) -> Any:
    """Loads the search when it is asked for: torch takes seconds that settings and `--help` do not need."""
    if name == "search":
        from nas.search.single import search_panel  # start-up time, see above

        return search_panel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
