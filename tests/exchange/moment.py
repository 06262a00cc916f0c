"""Where and when the tests of the stand-in take place."""

from __future__ import annotations

from pathlib import Path

from data.bybit import Patience

NOW = 1_704_100_000_000  # 2024-01-01 09:06:40 UTC
HOUR = 3_600_000
#: no pause worth waiting for, but as many attempts as a user gets
EAGER = Patience(
    first_pause_s=0.001, longest_pause_s=0.01, requests_per_s=5000, ban_pause_s=0.01, crowd_pause_s=0.01, timeout_s=3.0
)


def stored(root: Path) -> dict[str, bytes]:
    """Every file of a store but the locks, by name."""
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and p.name != ".lock"
    }
