"""Examples register things of their own; other tests must not find them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def registries() -> Iterator[None]:
    """What is registered meanwhile is gone afterwards."""
    from data.sources import SOURCES
    from nas.baselines import BASELINES
    from nas.inputs import INPUTS
    from nas.ops import OPS
    from nas.transforms import TRANSFORMS
    from nas.variants import VARIANTS
    from strategies.rules import RULES

    tables: list[dict[str, object]] = [BASELINES, INPUTS, OPS, SOURCES, TRANSFORMS, VARIANTS, RULES]  # type: ignore[list-item]
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)
