"""`python -m docs.pictures [NAME ...]`: draw the pictures of the concept pages and of the architecture anew."""

from __future__ import annotations

import importlib
import sys
import time

import torch

from docs.pictures.style import FOLDER, save

NAMES = ("relaxation", "bilevel", "discretisation", "walkforward", "purge", "luck", "leadlag")  # of the concept pages
ELSEWHERE = ("architecture", "regret")  # of other pages

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or (*NAMES, *ELSEWHERE):
        started = time.perf_counter()
        folder = FOLDER.parent if name in ELSEWHERE else FOLDER
        path = save(importlib.import_module(f"docs.pictures.{name}").draw(), name, folder)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB in {time.perf_counter() - started:.1f} s")
