"""Rigs (a trader on a stand-in exchange) that are always taken down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.strategies.paper.rig import Hook, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """rig(**options) -> a trader on a stand-in exchange that has traded its first bar."""
    import torch

    from tests.strategies.paper.rig import Rig

    torch.set_num_threads(1)
    made: list[Rig] = []

    def make(first: bool = True, **options: Any) -> Rig:
        made.append(Rig(tmp_path / str(len(made)), **options))
        if first:
            made[-1].act()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook on loopback."""
    from tests.strategies.paper.rig import Hook

    made = Hook()
    yield made
    made.shutdown()
    made.server_close()
