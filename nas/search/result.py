"""What a search found: the network, how it got there, and what a notebook shows of it."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any

from nas.space.drawing import draw_curves, draw_genotype
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace


@dataclass(frozen=True)
class SearchResult:
    """What a search found and how it got there.

    history: one dict per epoch (docs/variants.md lists its fields). op_weights [edges][ops], feature_weights
    [inputs][pipelines + none] as they were when the genotype was read off.
    note: why the search ended where it did. finalists: (architecture, score) of all in the last round, the one that the relaxed
    weights prefer first.
    """

    genotype: Genotype
    history: tuple[dict[str, Any], ...]
    op_weights: tuple[tuple[float, ...], ...]
    feature_weights: tuple[tuple[float, ...], ...]
    space: SearchSpace
    variant: str = "darts"
    note: str = ""
    finalists: tuple[tuple[Genotype, float], ...] = ()

    @property
    def text(self) -> str:
        """The network in words: `node1 = ema12(input); ...`."""
        return str(self.genotype)

    @property
    def svg(self) -> str:
        """The network as a picture."""
        return draw_genotype(self.genotype.to_dict())

    def to_json(self) -> str:
        """Genotype, weights and history; `Genotype.from_dict` reads its `genotype`."""
        content = {
            "variant": self.variant,
            "note": self.note,
            "finalists": [{"architecture": str(each), "score": score} for each, score in self.finalists],
            "genotype": self.genotype.to_dict(),
            "edges": [list(edge) for edge in self.space.edges],
            "ops": list(self.space.ops),
            "op_weights": [list(row) for row in self.op_weights],
            "features": {name: [*pipelines, "none"] for name, pipelines in self.space.features},
            "feature_weights": [list(row) for row in self.feature_weights],
            "history": list(self.history),
        }
        return json.dumps(content, indent=1)

    def _repr_html_(self) -> str:
        """What a notebook shows: the network, its text, the curves."""
        curves = draw_curves(self.history) if self.history else ""
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<div>{self.svg}<p><code>{html.escape(self.text)}</code></p>{note}{curves}</div>"
