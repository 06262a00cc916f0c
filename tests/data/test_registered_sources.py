"""Sources that are registered: asked for by name, cut and joined as the built-in ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from data.panel import InputError, Panel
from data.simulated import simulate
from data.sources import SOURCES, load_panel, register_source


@pytest.fixture
def asked() -> Iterator[list[dict[str, Any]]]:
    """A source `mine` and what it was asked for."""
    calls: list[dict[str, Any]] = []

    def mine(symbols: Any, interval: str, **cut: Any) -> Panel:
        calls.append({"symbols": tuple(symbols), "interval": interval, **cut})
        return simulate(list(symbols), interval, start=cut["start"], end=cut["end"])

    register_source("mine", mine)
    yield calls
    del SOURCES["mine"]


def test_a_registered_source_gets_the_span_and_longer_candles_join_it(asked: list[dict[str, Any]]) -> None:
    panel = load_panel(
        ["BTCUSDT"], "60", source="mine", start="2024-01-01", end="2024-02-01", fill_gaps=True, timeframes=("240",)
    )
    start, end = np.datetime64("2024-01-01", "ns"), np.datetime64("2024-02-01", "ns")
    assert asked == [{"symbols": ("BTCUSDT",), "interval": "60", "start": start, "end": end, "fill_gaps": True}]
    assert "close@240" in panel.fields


def test_a_name_is_taken_once_and_an_unknown_one_lists_all(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="'mine' is registered already"):
        register_source("mine", SOURCES["mine"])  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match="unknown --source 'nine'; expected auto, bybit, simulated, demo, bundled, mine"
    ):
        load_panel(["BTCUSDT"], source="nine")
    assert asked == []
