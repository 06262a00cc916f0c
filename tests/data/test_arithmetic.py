"""The pins win over whatever the environment says, and what the tests call another processor is one."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.arithmetic import PINS, REMOVED, pinned, with_pins

LOOK = """
from data.arithmetic import facts, pin, pinned
pin()
import json, math, numba, torch
from numba.core.registry import cpu_target
sums = [math.exp(k / 997) + math.log(k) for k in range(1, 20000)]
print(json.dumps([pinned(), facts(), torch.backends.cpu.get_cpu_capability(), cpu_target.target_context.codegen().magic_tuple()[1:],
                  torch.get_num_threads(), repr(math.fsum(sums))]))
"""


def _printed(code: str, **environment: str) -> object:
    kept = {name: value for name, value in os.environ.items() if name not in (*PINS, *REMOVED)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_process_starts_itself_anew_with_the_pins_whatever_was_set() -> None:
    free = _printed(LOOK)
    forced = _printed(
        LOOK, ATEN_CPU_CAPABILITY="avx2", MKL_CBWR="AVX2", NUMBA_CPU_NAME="haswell", NUMBA_OPT="1", OMP_NUM_THREADS="2",
        NPY_ENABLE_CPU_FEATURES="X86_V3", GLIBC_TUNABLES="glibc.cpu.hwcaps=AVX2,FMA", OPENBLAS_CORETYPE="Haswell",
    )  # fmt: skip
    assert free == forced
    assert isinstance(free, list)
    assert (free[0], free[2], free[3], free[4]) == (True, "DEFAULT", ["generic", ""], 1)


@pytest.mark.parametrize("name", [*PINS, *REMOVED])
def test_one_missing_pin_or_one_variable_beside_them_is_not_pinned(name: str) -> None:
    there = with_pins({"HOME": "/", "NUMBA_OPT": "0"})
    assert pinned(there)
    assert there["HOME"] == "/"
    assert not pinned({**there, name: "something else"})


def test_the_c_library_is_pinned_too() -> None:
    """Its exp and log round otherwise with fused multiply-adds; a processor without them has nothing to pin."""
    if not {"fma", "avx2"} <= set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("this processor has no fused multiply-add")
    code = "import json, math; print(json.dumps([math.sin(k / 997) for k in range(20000)]))"
    free, held = _printed(code), _printed(code, GLIBC_TUNABLES=PINS["GLIBC_TUNABLES"])
    assert isinstance(free, list)
    assert isinstance(held, list)
    assert free != held
    assert all(math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12) for a, b in zip(free, held, strict=True))


def test_noisy_weights_differ_by_a_rounding_and_repeat() -> None:
    noise = Path(__file__).resolve().parents[1] / "weight_noise"
    draw = "torch.manual_seed(0); w = torch.nn.Linear(5, 5).weight; x = torch.randn(50).tolist() + w.flatten().tolist()"
    code = f"import json, torch; {draw}; print(json.dumps(x))"
    own, noisy, again = (
        _printed(code, PYTHONPATH=str(noise), REGIME_TEST_WEIGHT_NOISE=size) for size in ("0", "1e-6", "1e-6")
    )
    assert isinstance(own, list)
    assert isinstance(noisy, list)
    assert noisy == again
    assert sum(a != b for a, b in zip(own, noisy, strict=True)) > 50
    assert all(math.isclose(a, b, rel_tol=3e-6) for a, b in zip(own, noisy, strict=True))
