"""Where a result comes from: code version, package versions, the run id that the same inputs always get."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "backtrader", "pandas", "numpy", "numba", "quantstats", "pyarrow")


def code_version() -> str:
    """Hash of the source that can change a result (the pages are left out: they only show it)."""
    return _hash_of("data", "nas", "strategies")


def pages_version() -> str:
    """Hash of the source that writes the pages."""
    return _hash_of("reports")


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
