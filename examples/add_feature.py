"""A new feature: a raw input (what is measured) and a step (what may be done to it). The search chooses among pipelines of steps."""

from types import ModuleType

import numpy as np

from data import load_panel
from data.panel import FloatArray
from nas import RawInput, build_bank, transform
from nas.features.inputs import INPUTS


@transform("tanh", "squeezed into -1 to 1", memory=lambda _: 0)  # memory: how many past bars a value reads
def tanh(kernels: ModuleType, x: FloatArray, _: int) -> FloatArray:
    return np.tanh(x)


INPUTS["wick"] = RawInput(
    "wick", "upper less lower shadow, percent of the close", ("open", "high", "low", "close"),
    lambda panel: 100.0 * (panel.field("high") + panel.field("low") - panel.field("open") - panel.field("close")).T
    / panel.field("close").T, candidates=("tanh", "ewm32", "zscore24>tanh"),
)  # fmt: skip

panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-03-01", source="simulated")
bank = build_bank(panel)
for (name, pipeline), values in zip(bank.names, bank.values[0], strict=True):
    if name == "wick":
        print(f"{name} as {pipeline}: mean {np.nanmean(values):+.2f}, deviation {np.nanstd(values):.2f}")
