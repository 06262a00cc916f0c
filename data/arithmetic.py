"""The same bytes on any x86-64 processor: every library takes the one way through its code that all processors have.

torch, MKL, oneDNN, OpenBLAS, numpy, numba, Arrow and the C library each choose faster code for the processor they find, and what
they choose rounds differently. They read `PINS` when they are loaded (the C library when the process starts), so a process that
has begun without them starts itself anew. What no pin reaches: another version of a package or of the C library, a GPU.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from data.errors import InputError

#: a variable of the environment, and its value where results must not hang on the processor
PINS = {
    "ATEN_CPU_CAPABILITY": "default",  # torch's own kernels: SSE2
    "MKL_CBWR": "COMPATIBLE",  # the only branch that MKL takes alike on processors of Intel and AMD
    "ONEDNN_MAX_CPU_ISA": "SSE41",  # the least it has
    "OPENBLAS_CORETYPE": "Nehalem",  # of those without AVX one whose blocks do not follow the size of the cache
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",  # all that numpy chooses among
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "ARROW_USER_SIMD_LEVEL": "NONE",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX",  # exp, log, pow without fused multiply-adds
    # how many cores there are decides where a sum is split
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
#: what would change a pin's meaning, or is refused beside it
REMOVED = (
    "NPY_ENABLE_CPU_FEATURES", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "MKL_ENABLE_INSTRUCTIONS",
    "NUMBA_DISABLE_JIT", "NUMBA_OPT", "NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE", "NUMBA_ENABLE_AVX", "NUMBA_DISABLE_INTEL_SVML",
)  # fmt: skip


def pinned(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a process that began with this environment computes the same bytes on any processor.

    >>> pinned(dict(PINS)), pinned({**PINS, "MKL_CBWR": "AVX2"}), pinned({**PINS, "NUMBA_OPT": "0"})
    (True, False, False)
    """
    held = all(environment.get(name) == value for name, value in PINS.items())
    return held and not any(name in environment for name in REMOVED)


def with_pins(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with every pin in place, whatever was set."""
    return {name: value for name, value in environment.items() if name not in REMOVED} | PINS


def pin() -> None:
    """Go on with the pins: at once where they hold; otherwise this command starts itself anew, and nothing after this call runs.

    InputError on other machines than x86-64 with Linux.
    """
    if not pinned():
        _start_anew()


def pin_as(run: Path) -> None:
    """`pin` where the run in this folder did: what repeats a reproducible run, or goes on with it, takes its arithmetic too.

    Where no pins hold (another kind of machine), and where the folder is no run, it goes on as it is.
    """
    try:
        held = json.loads((run / "run.json").read_text(encoding="utf-8"))["provenance"]["arithmetic"]["reproducible"]
    except (OSError, ValueError, LookupError, TypeError):
        return  # told by whoever reads the run, or made before runs said it
    if held is True and can_pin():
        pin()


def can_pin() -> bool:
    """Whether the pins mean something here."""
    return (sys.platform, platform.machine()) == ("linux", "x86_64")


def _start_anew() -> NoReturn:
    if not can_pin():
        raise InputError(
            f"--reproducible pins the arithmetic of x86-64 processors under Linux; this is {platform.machine()} under "
            f"{platform.system()}: leave it out"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], with_pins(os.environ))


def facts() -> dict[str, object]:
    """Which arithmetic this process uses, for `run.json`: with the pins nothing that differs between processors."""
    libc = " ".join(platform.libc_ver())
    if pinned():
        return {"reproducible": True, "libc": libc}
    import torch  # start-up time: the pins must be in place before it is loaded
    from numba.core.registry import cpu_target  # start-up time: as torch

    named = (*PINS, *REMOVED)

    return {
        "reproducible": False,
        "libc": libc,
        "torch": torch.backends.cpu.get_cpu_capability(),
        "numba": cpu_target.target_context.codegen().magic_tuple()[1],
        "set": {name: os.environ[name] for name in named if name in os.environ and "THREADS" not in name},
    }
