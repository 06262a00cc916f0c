"""What the pictures share: colours, sizes, and files that are the same bytes from the same figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#3b6fb6", "#d9822b", "#3f8f5b", "#b8403a", "#8a8f98"
FOLDER = Path(__file__).resolve().parents[1] / "images" / "concepts"


def figure(width: float = 8.0, height: float = 3.2) -> Figure:
    """An empty figure, sizes in inches; white behind it, so that it reads in the dark theme too."""
    mpl.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "regime-nas"}
    )
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(picture: Figure, name: str, folder: Path = FOLDER) -> Path:
    """Write `name`.svg; no date in it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    picture.savefig(path, format="svg", metadata={"Date": None})
    return path
