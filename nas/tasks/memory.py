"""Peak memory of a process, measured one way everywhere."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """Most memory this process has had resident, MiB.

    Linux tells it of the program that runs now (VmHWM). getrusage does not do there: its figure survives the start of a new program in the
    process, so that a child of a large parent begins at the parent's size. Systems without /proc (macOS, BSD) have getrusage only; theirs
    is the process's own, in bytes on macOS and KiB elsewhere.
    """
    try:
        status = STATUS.read_text(encoding="utf-8")
    except OSError:
        import resource  # optional: Windows has none

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 2**10
