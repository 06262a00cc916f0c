"""`python -m docs.pictures [NAME ...]`: draw the pictures of the concept pages anew."""

from __future__ import annotations

import importlib
import sys
import time

import torch

from docs.pictures.style import save

NAMES = ("relaxation", "bilevel", "discretisation", "walkforward", "purge", "luck")

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or NAMES:
        started = time.perf_counter()
        path = save(importlib.import_module(f"docs.pictures.{name}").draw(), name)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB in {time.perf_counter() - started:.1f} s")
