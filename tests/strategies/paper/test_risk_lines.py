"""What status and digest say of the bars to come: one line per symbol and target, how far the price may move among them."""

from __future__ import annotations

import json

from strategies.paper.records.status import PRICE, said_of_risk


class Noted:
    """Of a journal, its notes."""

    def __init__(self, **notes: str) -> None:
        self.notes = notes

    def get(self, name: str, default: str = "") -> str:
        return self.notes.get(name, default)


def test_every_forecast_is_a_line_with_its_unit() -> None:
    told = {
        "BTCUSDT": {"range": [0.005, 0.004, 0.007, 6], PRICE: [-0.019, -0.032, 0.018, 6], "volume": [1e6, 5e5, 2e6, 24]}
    }
    lines = said_of_risk(Noted(risk=json.dumps(told)))  # type: ignore[arg-type]
    assert [symbol for symbol, _ in lines] == ["BTCUSDT"] * 3
    assert lines[0][1] == "range 0.500% per bar over the next 6 bars (80%: 0.400% to 0.700%)"
    assert (
        lines[1][1] == "price over the next 6 bars: one time in 20 below -1.9%, in 100 below -3.2%, in 20 above +1.8%"
    )
    assert lines[2][1].startswith("volume 1,000,000 per bar over the next 24 bars")
    assert said_of_risk(Noted()) == []  # type: ignore[arg-type]
