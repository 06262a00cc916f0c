"""A model folder is input like any other: read strictly, compared with its digests, every value checked before it may forecast."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.panel import InputError
from nas.space.genotype import Genotype

#: far above anything that is searched, far below what would fill a machine
MOST = {"cells": 64, "channels": 4096, "nodes": 64, "horizons": 256, "features": 4096, "assets": 1024}
LONGEST_HORIZON = 1_000_000
_LONGEST_INTERVAL_NS = 32 * 86_400 * 1_000_000_000


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object without NaN, infinities and repeated keys. ValueError otherwise."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError(f"{path.name} holds a key twice")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{path.name} holds {name}")

    raw = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    if not isinstance(raw, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return raw


def digests(folder: Path, features: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of what a model is made of: its other files, and features.json without its own digests."""
    plain = {k: v for k, v in features.items() if k != "digests"}
    files = {name: (folder / name).read_bytes() for name in ("genotype.json", "weights.safetensors")}
    files["features"] = json.dumps(plain, sort_keys=True).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def check_digests(folder: Path, features: Mapping[str, Any]) -> None:
    """InputError where a file is not the one that was written. Folders of older versions have no digests."""
    known = features.get("digests")
    if known is None:
        return
    found = digests(folder, features)
    changed = [name for name in found if not isinstance(known, Mapping) or known.get(name) != found[name]]
    if changed:
        raise InputError(
            f"{folder} was changed after it was written ({', '.join(changed)}); rerun the walk-forward with --fresh"
        )


def check_size(raw: Mapping[str, Any]) -> None:
    """ValueError where a genotype asks for a network of no or absurd size; looked at before anything is built."""
    cells = raw["cells"]
    if not isinstance(cells, list) or any(cell != cells[0] for cell in cells):
        raise ValueError("the genotype's cells are no list of equal cells")
    lengths = {
        "cells": len(cells),
        "nodes": len(cells[0]["nodes"]) if cells else 0,
        "channels": raw["channels"],
        "horizons": len(raw["horizons"]),
        "features": len(raw["features"]),
    }
    for name, value in lengths.items():
        if not _whole(value) or not 1 <= value <= MOST[name]:
            raise ValueError(f"the genotype has {value!r} {name}; 1 to {MOST[name]} are possible")
    if not all(_whole(h) and 1 <= h <= LONGEST_HORIZON for h in raw["horizons"]):
        raise ValueError(f"horizons are {raw['horizons']}; each must be a whole number of bars from 1")
    inputs = cells[0].get("inputs", 1)
    if inputs not in (1, 2) or not _whole(inputs):
        raise ValueError(f"a cell reads {inputs!r} earlier ones; 1 or 2 are possible")
    for k, node in enumerate(cells[0]["nodes"]):
        if len(node) > 64:
            raise ValueError(f"node {k + 1} has {len(node)} connections")
        for connection in node:
            source, weight = connection["source"], connection["weight"]
            if not _whole(source) or not 0 <= source < inputs + k:
                raise ValueError(f"node {k + 1} reads from {source!r}, which is not before it")
            if not _real(weight):
                raise ValueError(f"a connection has the weight {weight!r}")
            _check_links(connection.get("links", []))
    assets, share = raw.get("assets", []), raw.get("share", "all")
    if not isinstance(assets, list) or len(assets) > MOST["assets"] or len(set(assets)) != len(assets):
        raise ValueError("the genotype's assets are no list of different names")
    if share not in ("all", "embedding", "none"):
        raise ValueError(f"the genotype shares {share!r}")


def _check_links(links: Any) -> None:
    for link in links:
        if (
            not _whole(link["lag"])
            or not 0 <= link["lag"] <= 10_000
            or not _real(link["weight"])
            or abs(link["weight"]) > 1
        ):
            raise ValueError(f"a link has the lag {link['lag']!r} and the weight {link['weight']!r}")


def check_features(features: Mapping[str, Any], genotype: Genotype) -> None:
    """ValueError where the values beside the network cannot be those of a trained model."""
    count = len(genotype.features)
    if features["pipelines"] != [list(item) for item in genotype.features]:
        raise ValueError("pipelines of features.json and features of genotype.json differ")
    for name in ("mean", "deviation"):
        values = features[name]
        if not isinstance(values, list) or len(values) != count or not all(_real(v) for v in values):
            raise ValueError(f"{name} must be {count} finite numbers, one for each pipeline")
    if min(features["deviation"]) <= 0:
        raise ValueError("a deviation is not above 0")
    if (
        max(map(abs, features["mean"])) > 1e30
        or max(features["deviation"]) > 1e30
        or min(features["deviation"]) < 1e-12
    ):
        raise ValueError("a mean or deviation is absurd")
    interval, scale = features["interval_ns"], features["forecast_scale"]
    if not _whole(interval) or not 1_000_000_000 <= interval <= _LONGEST_INTERVAL_NS:
        raise ValueError(f"interval_ns is {interval!r}; a bar is a second to 32 days long")
    if not _real(scale) or not 0 <= scale < 1e6:
        raise ValueError(f"forecast_scale is {scale!r}, no number from 0")


def check_weights(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """ValueError where names, shapes, kinds or values of weights are not those of a trained network."""
    for name, tensor in weights.items():
        if name in wanted and tensor.dtype != wanted[name].dtype:
            raise ValueError(f"weights {name} are {tensor.dtype}, not {wanted[name].dtype}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"weights {name} hold NaN or infinity")
        if tensor.is_floating_point() and tensor.numel() and float(tensor.abs().max()) > 1e6:
            raise ValueError(f"weights {name} are absurd (beyond a million)")


def known_keys(raw: Mapping[str, Any], known: Sequence[str]) -> None:
    """ValueError where there is a key that nobody reads."""
    strange = sorted(set(raw) - set(known))
    if strange:
        raise ValueError(f"unknown {', '.join(map(repr, strange[:3]))}; known are {', '.join(sorted(known))}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
