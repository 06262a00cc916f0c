"""Pictures without any library, as SVG: a discrete network (cells, nodes, the op on every edge) and the curves of a search."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.space.genotype import source_name, when

NODE_WIDTH, NODE_HEIGHT = 92, 34
COLUMN_GAP, ROW_GAP = 96, 42
MARGIN = 14
CELL_GAP = 40


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    label: str
    role: str  # "input", "node", "output"


def draw_genotype(genotype: Mapping[str, Any]) -> str:
    """SVG of a genotype (docs/architecture.md gives its JSON); colours follow the page through CSS variables.

    Source 0..inputs-1 of an edge are the cell's inputs, inputs + k is node k. An edge may carry `weight`; a heavier
    edge is drawn thicker. No cells, or an edge from nowhere: drawn as far as it goes, and said so.
    """
    cells = [cell for cell in genotype.get("cells") or [] if isinstance(cell, Mapping)]
    if not cells:
        return _svg(260, 40, [_text(12, 25, "no architecture recorded", "start")], "No architecture recorded")
    shapes: list[str] = []
    top = float(MARGIN)
    width = 0.0
    sentences = []
    for number, cell in enumerate(cells):
        drawn, cell_width, cell_height, sentence = _draw_cell(cell, top, number, len(cells))
        shapes += drawn
        width = max(width, cell_width)
        top += cell_height + CELL_GAP
        sentences.append(sentence)
    return _svg(width, top - CELL_GAP + MARGIN, shapes, " ".join(sentences))


def _draw_cell(cell: Mapping[str, Any], top: float, number: int, count: int) -> tuple[list[str], float, float, str]:
    inputs = max(1, int(cell.get("inputs", 1)))
    nodes: Sequence[Any] = cell.get("nodes") or []
    edges = [
        (int(edge.get("source", 0)), inputs + k, str(edge.get("op", "?")), edge.get("weight"))
        for k, node in enumerate(nodes)
        for edge in node
    ]
    # too long for an edge: below the cell, once each
    told = (f"{edge.get('op', '?')}{links}" for node in nodes for edge in node if (links := told_links(edge)))
    captions = list(dict.fromkeys(told))
    depth = _depths(inputs, len(nodes), edges)
    columns: dict[int, list[int]] = {}
    for index in range(inputs + len(nodes)):
        columns.setdefault(depth[index], []).append(index)
    last = max(columns) + 1
    tallest = max(len(members) for members in columns.values())
    heading = 24.0 if count > 1 else 0.0
    # edges that skip columns bow out below or above: leave them room
    height = heading + max(tallest * (NODE_HEIGHT + ROW_GAP) - ROW_GAP, NODE_HEIGHT) + 60.0
    middle = top + heading + (height - heading) / 2
    boxes: dict[int, _Box] = {}
    for column, members in columns.items():
        for row, index in enumerate(members):
            y = middle + (row - (len(members) - 1) / 2) * (NODE_HEIGHT + ROW_GAP)
            label = source_name(index, inputs, " ") if inputs < 3 else f"source {index}"
            boxes[index] = _Box(
                MARGIN + column * (NODE_WIDTH + COLUMN_GAP), y, label, "input" if index < inputs else "node"
            )
    output = _Box(
        MARGIN + last * (NODE_WIDTH + COLUMN_GAP), middle, "forecast" if number == count - 1 else "next cell", "output"
    )
    shapes = [] if count == 1 else [_text(MARGIN, top + 12, f"cell {number}", "start", "cell")]
    strokes, labels, lowest = [], [], top
    between: dict[tuple[int, int], int] = {}
    for source, target, op, weight in edges:
        if source not in boxes:
            continue
        lane = between.get((source, target), 0)
        between[source, target] = lane + 1
        skipped = depth[target] - depth[source] - 1
        bow = (28.0 * skipped + 22.0 * lane) * (-1.0 if (source + target) % 2 else 1.0)
        stroke, label = _edge(boxes[source], boxes[target], op, weight, bow)
        lowest = max(lowest, (boxes[source].y + boxes[target].y + NODE_HEIGHT) / 2 + bow)
        strokes.append(stroke)
        labels.append(label)
    used = {source for source, *_ in edges}
    leaves = [inputs + k for k in range(len(nodes)) if inputs + k not in used] or list(range(inputs))[-1:]
    strokes += [_edge(boxes[leaf], output, "", None, 0.0)[0] for leaf in leaves]
    shapes += strokes + [_box(box) for box in (*boxes.values(), output)] + labels
    if captions:
        height = max(height, lowest - top)
        shapes += [_text(MARGIN, top + height + 14 + 18 * k, line, "start", "op") for k, line in enumerate(captions)]
    cell_width = max(output.x + NODE_WIDTH + MARGIN, *(7.2 * len(line) + 2 * MARGIN for line in captions), 0.0)
    name = {index: box.label for index, box in boxes.items()}
    described = "; ".join(
        f"{op} from {name.get(source, 'nowhere')} to {name[target]}" for source, target, op, _ in edges
    )
    said = "; ".join((described or "no edges", *captions))
    return shapes, cell_width, height + 18.0 * len(captions), f"Cell {number}: {said}."


def told_links(edge: Mapping[str, Any]) -> str:
    """Of a lead-lag edge, who leads whom: the strongest link, and how many more there are; else nothing."""
    links = [link for link in edge.get("links") or [] if isinstance(link, Mapping)]
    if not links:
        return ""
    best = max(links, key=lambda link: abs(float(link.get("weight", 0.0))))
    more = f", {len(links) - 1} more" if len(links) > 1 else ""
    weight, condition = float(best.get("weight", 0.0)), when(best.get("state", ""))
    return f": {best.get('leader')} leads {best.get('follower')} by {best.get('lag')}{condition} ({weight:+.2f}){more}"


def _depths(inputs: int, nodes: int, edges: Sequence[tuple[int, int, str, Any]]) -> dict[int, int]:
    """Column of every box: one right of its furthest source. Sources come before targets, so one pass is enough."""
    depth = dict.fromkeys(range(inputs), 0)
    for k in range(nodes):
        sources = [source for source, target, *_ in edges if target == inputs + k and source in depth]
        depth[inputs + k] = 1 + max((depth[source] for source in sources), default=0)
    return depth


def _edge(source: _Box, target: _Box, op: str, weight: Any, bow: float) -> tuple[str, str]:
    x0, y0, x1, y1 = source.x + NODE_WIDTH, source.y, target.x, target.y
    mx, my = (x0 + x1) / 2, (y0 + y1) / 2 + bow
    # a quadratic curve passes its control point at half the way: aim so that it goes through (mx, my)
    control = f"{2 * mx - (x0 + x1) / 2:.1f} {2 * my - (y0 + y1) / 2:.1f}"
    number = float(weight) if isinstance(weight, (int, float)) and math.isfinite(weight) else None
    thickness = 1.5 if number is None else 1.0 + 3.0 * min(1.0, abs(number))
    tip = "" if number is None else f"<title>{html.escape(op)}: weight {number:.3f}</title>"
    stroke = (
        f'<path class="edge" d="M {x0:.1f} {y0:.1f} Q {control} {x1:.1f} {y1:.1f}" stroke-width="{thickness:.2f}" '
        f'marker-end="url(#arrow)">{tip}</path>'
    )
    if not op:
        return stroke, ""
    wide = 7.2 * len(op) + 10
    label = (
        f'<rect class="op" x="{mx - wide / 2:.1f}" y="{my - 10:.1f}" width="{wide:.1f}" height="20" rx="10"/>'
        + _text(mx, my + 4, op, "middle", "op")
    )
    return stroke, label


def _box(box: _Box) -> str:
    return (
        f'<rect class="{box.role}" x="{box.x:.1f}" y="{box.y - NODE_HEIGHT / 2:.1f}" width="{NODE_WIDTH}" '
        f'height="{NODE_HEIGHT}" rx="6"/>' + _text(box.x + NODE_WIDTH / 2, box.y + 5, box.label, "middle", box.role)
    )


def _text(x: float, y: float, text: str, anchor: str, role: str = "") -> str:
    return f'<text class="{role}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(width: float, height: float, shapes: Sequence[str], described: str) -> str:
    # the fallbacks after each variable make the file readable when opened by itself
    style = (
        "text{font:13px system-ui,sans-serif;fill:var(--ink,#1b1f24)}text.cell{font-weight:600}"
        "text.op{font-size:12px}rect{stroke:var(--line,#8c959f);fill:var(--card,#ffffff)}"
        "rect.input{fill:var(--tint,#ddf4ff)}rect.output{fill:var(--tint-good,#dafbe1)}"
        "path.edge{fill:none;stroke:var(--muted,#57606a)}path.tip{fill:var(--muted,#57606a)}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="architecture" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{html.escape(described, quote=True)}">'
        f"<style>.architecture {style.replace('}', '} .architecture ').removesuffix(' .architecture ')}</style>"
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
        'markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M 0 0 L 10 5 L 0 10 z"/></marker></defs>'
        + "".join(shapes)
        + "</svg>"
    )


def draw_curves(
    history: Sequence[Mapping[str, Any]], names: Sequence[str] = ("train_loss", "validation_loss", "entropy")
) -> str:
    """SVG with one small panel per field of a search's history, over the epochs; epochs without a value are skipped."""
    wide, high, gap = 250.0, 90.0, 44.0
    shapes: list[str] = []
    for k, name in enumerate(names):
        points = [(int(row["epoch"]), float(row[name])) for row in history if row.get(name) is not None]
        left, top = MARGIN + k * (wide + gap), 28.0
        shapes.append(_text(left, 18, name.replace("_", " "), "start", "cell"))
        shapes.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}"/>')
        if not points:
            shapes.append(_text(left + wide / 2, top + high / 2, "not measured", "middle"))
            continue
        low, top_value = min(v for _, v in points), max(v for _, v in points)
        span, last = (top_value - low) or 1.0, max(1, points[-1][0])
        path = " L ".join(f"{left + wide * e / last:.1f} {top + high - high * (v - low) / span:.1f}" for e, v in points)
        shapes.append(f'<path class="edge" stroke-width="1.5" d="M {path}"/>')
        shapes.append(_text(left, top + high + 16, f"{points[0][1]:.4g} to {points[-1][1]:.4g}", "start", "op"))
    width = MARGIN * 2 + len(names) * (wide + gap) - gap
    return _svg(width, 142.0, shapes, "Curves of the search over its epochs: " + ", ".join(names) + ".")
