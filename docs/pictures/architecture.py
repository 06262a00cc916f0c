"""The house as its imports draw it: the packages as floors, their rooms, and how many imports go down from floor to floor."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import grimp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from docs.pictures.style import BLUE, GREEN, GREY, ORANGE, RED, figure

SETTINGS = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
PACKAGES = tuple(SETTINGS["importlinter"]["root_packages"])  # from the ground up
COLOURS = (BLUE, GREEN, ORANGE, RED, "#7a5aa6", "#4d5563")
DOORS = 10  # modules shown of a package without rooms
ACROSS = 5  # boxes side by side
LEFT, WIDE, HIGH = 1.65, 1.23, 0.5  # of the boxes


def imports() -> list[tuple[str, str]]:
    """(importer, imported) for every pair of modules in different packages, read from the code as it is."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    pairs = [(a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)]
    return sorted((a, b) for a, b in pairs if a.partition(".")[0] != b.partition(".")[0])


def arrows(found: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """(importing package, imported package) -> imports."""
    return dict(Counter((a.partition(".")[0], b.partition(".")[0]) for a, b in found))


def doors(found: list[tuple[str, str]], package: str) -> list[tuple[str, int]]:
    """(module, modules of other packages that import it), the most used first."""
    inside = Counter(b for _, b in found if b.partition(".")[0] == package)
    return sorted(inside.items(), key=lambda item: (-item[1], item[0]))[:DOORS]


def rooms(package: str) -> list[str]:
    """The rooms of a package from the ground up, as the contract orders them; none where it has no contract."""
    for contract in SETTINGS["importlinter"]["contracts"]:
        if contract.get("containers") == [package]:
            return [room for layer in reversed(contract["layers"]) for room in layer.split(" | ")]
    return []


def boxes(found: list[tuple[str, str]], package: str) -> list[str]:
    """What is drawn on a floor: its rooms; or the modules that others come in by; or, on top, those that are commands."""
    shown = [
        module.partition(".")[2] for module, _ in doors(found, package) if not module.endswith(("__main__", package))
    ]
    own = sorted({a.partition(".")[2] for a, _ in found if a.startswith(f"{package}.")} - {"__main__"})
    return rooms(package) or shown or own[:DOORS]


def draw() -> Figure:
    found = imports()
    counts = arrows(found)
    floors = {package: boxes(found, package) for package in PACKAGES}
    heights = [0.35 + (HIGH + 0.12) * -(-len(each) // ACROSS) for each in floors.values()]
    out = figure(8.0, sum(heights) + 0.18 * len(heights))
    axes = out.subplots()
    axes.set_xlim(0.0, 8.0)
    axes.set_ylim(0.0, sum(heights) + 0.18 * len(heights))
    axes.axis("off")
    bottom = 0.05
    for (package, names), colour, height in zip(floors.items(), COLOURS, heights, strict=True):
        axes.add_patch(_box(0.1, bottom, 7.8, height, colour, 1.8))
        axes.text(0.25, bottom + height - 0.18, package, va="top", weight="bold", fontsize=14, color=colour)
        for k, name in enumerate(names):
            _room(axes, name, colour, LEFT + WIDE * (k % ACROSS), bottom + height - HIGH - 0.1 - 0.62 * (k // ACROSS))
        below = [f"{other} {counts[package, other]}" for other in reversed(PACKAGES) if (package, other) in counts]
        told = "imports " + ", ".join(below) if below else "imports no other floor"
        axes.text(7.75, bottom + 0.06, told, ha="right", va="bottom", fontsize=10.5, color=GREY)
        bottom += height + 0.18
    return out


def _room(axes: Axes, name: str, colour: str, left: float, bottom: float) -> None:
    axes.add_patch(_box(left, bottom, WIDE - 0.1, HIGH - 0.08, colour, 0.8))
    middle = left + (WIDE - 0.1) / 2.0, bottom + (HIGH - 0.08) / 2.0
    axes.text(*middle, name, ha="center", va="center", fontsize=11 if len(name) < 12 else 9.5)


def _box(left: float, bottom: float, wide: float, high: float, colour: str, line: float) -> FancyBboxPatch:
    shape = "round,pad=0,rounding_size=0.06"
    return FancyBboxPatch((left, bottom), wide, high, boxstyle=shape, fill=False, edgecolor=colour, linewidth=line)
