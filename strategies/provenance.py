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
    digest = hashlib.sha256()
    for folder in ("data", "nas", "strategies"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def package_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


def run_id(symbols: tuple[str, ...], config: dict[str, object], data_fingerprint: str, code: str) -> str:
    """Readable and stable: same config, data and code give the same id, so the same command finds its own run."""
    text = json.dumps([config, data_fingerprint, code], sort_keys=True, default=str)
    return f"{'-'.join(symbols[:4]).lower()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
