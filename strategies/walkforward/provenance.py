"""Where a result comes from: code version, package versions, the run id that the same inputs always get."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from importlib import metadata
from pathlib import Path

from data.place import ROOT

PACKAGES = ("torch", "backtrader", "pandas", "numpy", "numba", "quantstats", "pyarrow")


def code_version() -> str:
    """Hash of the source that can change a result (the pages are left out: they only show it)."""
    return _hash_of("data", "nas", "strategies")


def pages_version() -> str:
    """Hash of the source that writes the pages."""
    return _hash_of("reports")


#: where forecasts and targets are made from a panel: the network, its features, position rule and portfolio, what lines up the fields
DECISIONS = (
    "nas.network.model",
    "nas.features.bank",
    "strategies.backtest.positions",
    "strategies.backtest.portfolio",
    "data.alignment",
    "data.assembly",
)


@functools.cache  # a quarter of a second, asked for by every window; what is loaded does not change while it runs
def decision_version() -> str:
    """Hash of the source that a trained model's forecasts and targets depend on: DECISIONS and all that they import."""
    digest = hashlib.sha256()
    for path in decision_files():
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def decision_files() -> list[Path]:
    """Source files of DECISIONS and, in turn, of every module of this project that they import anywhere."""
    found: set[Path] = set()
    waiting = list(DECISIONS)
    while waiting:
        name = waiting.pop()
        place = ROOT.joinpath(*name.split("."))
        path = next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
        if path is None or path in found:
            continue
        found.add(path)
        waiting.append(name.rpartition(".")[0] or name)  # a package runs before its modules
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return sorted(found)


def _hash_of(*folders: str) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".toml", ".j2", ".js", ".css") and "runs" not in path.parts:
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def package_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


def run_id(symbols: tuple[str, ...], config: dict[str, object], data_fingerprint: str, code: str) -> str:
    """Readable and stable: same config, data and code give the same id, so the same command finds its own run."""
    text = json.dumps([config, data_fingerprint, code], sort_keys=True, default=str)
    return f"{'-'.join(symbols[:4]).lower()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
