"""A discrete architecture: immutable, JSON, text. `nas.space.discretisation` has the rules that make one of relaxed weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nas.space.ops import SKIPS, get_op


@dataclass(frozen=True)
class Link:
    """`leader` moves `follower` `lag` bars later; weight: signed, |weight| <= 1, by how far the evidence is beyond chance.

    state: "volatile" for a link that holds in the volatile market only, else empty."""

    follower: str
    leader: str
    lag: int
    weight: float
    state: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Without an empty state: links that always hold read as they did before there were states."""
        return {k: v for k, v in asdict(self).items() if k != "state" or v}

    def __str__(self) -> str:
        return f"{self.leader} leads {self.follower} by {self.lag}{when(self.state)} ({self.weight:+.2f})"


def when(state: str) -> str:
    """Words for what a link depends on; none for one that always holds."""
    return f" when {state}" if state else ""


@dataclass(frozen=True)
class Connection:
    """An op on an edge into a node; sources below the genotype's `inputs` are cell inputs, source inputs + k is node k. weight: its
    relaxed weight when chosen.

    links: of a lead-lag op, who leads whom.
    """

    op: str
    source: int
    weight: float = 1.0
    links: tuple[Link, ...] = ()


def source_name(source: int, inputs: int, space: str = "") -> str:
    """What text calls the source of an edge of a cell with so many inputs: `input`, or of two `before` and `last`, or `node1`."""
    if source >= inputs:
        return f"node{space}{source - inputs + 1}"
    return "input" if inputs == 1 else ("before", "last")[source]


def _plain(connection: Connection) -> dict[str, Any]:
    found: dict[str, Any] = {"op": connection.op, "source": connection.source, "weight": round(connection.weight, 6)}
    return found | ({"links": [link.to_dict() for link in connection.links]} if connection.links else {})


def _told(links: tuple[Link, ...]) -> str:
    return ": " + ", ".join(map(str, links)) if links else ""


@dataclass(frozen=True)
class Genotype:
    """A discrete architecture.

    Parameters
    ----------
    nodes : tuple of tuple of Connection
        Per node its incoming connections (empty = dead, nothing reads it).
    channels, cells : int
        Of the network that is built.
    horizons : tuple of int
        Bars ahead that are forecast.
    features : tuple of (input, pipeline)
        What it reads, in one order whatever it was made from.
    assets : tuple of str
        Of a network that reads several together (empty: one at a time, any).
    share : str
        What they share, as in `SearchSpace`.
    inputs : int
        Of a cell, as `SearchSpace.cell_inputs`.

    Examples
    --------
    >>> from nas import Genotype
    >>> from nas.space.genotype import Connection
    >>> found = Genotype(((Connection("ema12", 0),), (Connection("conv3", 1),)), 8, 1, (6,), (("return", "zscore24"),))
    >>> print(found)
    node1 = ema12(input); node2 = conv3(node1)
    >>> Genotype.from_dict(found.to_dict()) == found, found.receptive_field
    (True, 38)
    """

    nodes: tuple[tuple[Connection, ...], ...]
    channels: int
    cells: int
    horizons: tuple[int, ...]
    features: tuple[tuple[str, str], ...]
    assets: tuple[str, ...] = ()
    share: str = "all"
    inputs: int = 1

    def __post_init__(self) -> None:
        # one order whatever it was read from: the columns of a network's stem follow it, and JSON objects have none
        object.__setattr__(self, "features", tuple(sorted(self.features)))

    @property
    def skips(self) -> int:
        """Connections that pass a value on without work."""
        return sum(c.op in SKIPS for node in self.nodes for c in node)

    @property
    def receptive_field(self) -> int:
        """Bars of features a forecast depends on, its own bar included."""
        outputs = [0] * self.inputs  # of the cells so far, the features standing in for those before the first
        for _ in range(self.cells):
            reach = outputs[-self.inputs :]
            for connections in self.nodes:
                reach.append(max((reach[c.source] + get_op(c.op).receptive_field - 1 for c in connections), default=0))
            outputs.append(max(reach[self.inputs :]))
        return outputs[-1] + 1

    def sized(self, cells: int, channels: int) -> Genotype:
        """The same choices in another depth and width."""
        return replace(self, cells=cells, channels=channels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: cells (inputs, nodes), channels, features, horizons, and assets and share where it reads several."""
        nodes = [[_plain(c) for c in node] for node in self.nodes]
        return {
            **({"assets": list(self.assets), "share": self.share} if self.assets else {}),
            "cells": [{"inputs": self.inputs, "nodes": nodes} for _ in range(self.cells)],
            "channels": self.channels,
            "features": dict(self.features),
            "horizons": list(self.horizons),
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Genotype:
        """What `to_dict` made. KeyError where a key is missing."""
        nodes = tuple(
            tuple(
                Connection(c["op"], c["source"], c["weight"], tuple(Link(**link) for link in c.get("links", ())))
                for c in node
            )
            for node in raw["cells"][0]["nodes"]
        )
        features = tuple((k, v) for k, v in raw["features"].items())
        assets, share = tuple(raw.get("assets", ())), raw.get("share", "all")
        inputs = raw["cells"][0].get("inputs", 1)
        return Genotype(
            nodes, raw["channels"], len(raw["cells"]), tuple(raw["horizons"]), features, assets, share, inputs
        )

    def key(self) -> str:
        """Short name of the architecture: equal choices, equal name; weights do not count."""
        plain = self.to_dict()
        for cell in plain["cells"]:
            cell["nodes"] = [[{k: v for k, v in c.items() if k != "weight"} for c in node] for node in cell["nodes"]]
            for link in (link for node in cell["nodes"] for c in node for link in c.get("links", ())):
                del link["weight"]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]

    def __str__(self) -> str:
        lines = [
            f"node{k + 1} = "
            + " + ".join(f"{c.op}({source_name(c.source, self.inputs)}{_told(c.links)})" for c in node)
            for k, node in enumerate(self.nodes)
            if node
        ]
        return "; ".join(lines)
