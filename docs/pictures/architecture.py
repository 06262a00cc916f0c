"""The house as its imports draw it: four packages, the modules that others come in by, and how many imports go each way."""

from __future__ import annotations

from collections import Counter

import grimp
from matplotlib.figure import Figure

from docs.pictures.style import BLUE, GREEN, GREY, ORANGE, RED, figure

PACKAGES = ("data", "nas", "strategies", "reports")
COLOURS = dict(zip(PACKAGES, (BLUE, GREEN, ORANGE, RED), strict=True))
DOORS = 8  # modules shown per package


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


def draw() -> Figure:
    found = imports()
    out = figure(9.5, 5.0)
    axes = out.subplots()
    axes.set_xlim(-0.2, 11.8)
    axes.set_ylim(-6.1, 3.4)
    axes.axis("off")
    for k, package in enumerate(PACKAGES):
        left = 3.0 * k
        axes.add_patch(_box(left, COLOURS[package]))
        axes.text(left + 1.2, -0.15, package, ha="center", va="top", weight="bold", fontsize=12, color=COLOURS[package])
        for row, (module, count) in enumerate(doors(found, package)):
            axes.text(left + 0.15, -1.0 - 0.6 * row, module.partition(".")[2] or package, fontsize=8)
            axes.text(left + 2.25, -1.0 - 0.6 * row, str(count), fontsize=8, ha="right", color=GREY)
    places = {package: 3.0 * k + 1.2 for k, package in enumerate(PACKAGES)}
    for (importer, imported), count in sorted(arrows(found).items()):
        start, stop = places[importer], places[imported]
        back = start < stop  # against the direction: the few that the contract names
        shift = 0.25 if back else -0.25
        bend = 0.28 + 0.02 * abs(start - stop)
        axes.annotate(
            "", (stop + shift, 0.12), (start + shift, 0.12),
            arrowprops={"arrowstyle": "-|>", "color": GREY if back else COLOURS[importer], "lw": 0.6 + count / 60.0,
                        "connectionstyle": f"arc3,rad={bend if start > stop else -bend}", "linestyle": ":" if back else "-"},
        )  # fmt: skip
        height = 0.75 * bend * abs(start - stop)
        axes.text((start + stop) / 2.0 + shift, height, str(count), fontsize=8, ha="center", backgroundcolor="white")
    axes.set_title("Imports between packages (dotted: those that the contract allows the other way)", fontsize=9)
    return out


def _box(left: float, colour: str) -> object:
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (left, -5.9), 2.4, 6.0, boxstyle="round,pad=0.05", fill=False, edgecolor=colour, linewidth=1.4
    )
