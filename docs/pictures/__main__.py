"""Draw the pictures anew: `python -m docs.pictures [NAME ...]` those of the concept pages and of the architecture.

`python -m docs.pictures gallery`: those of the gallery, by its examples.
"""

from __future__ import annotations

import importlib
import sys
import time

import torch

from docs.pictures import gallery
from docs.pictures.style import FOLDER, save

NAMES = ("relaxation", "bilevel", "discretisation", "walkforward", "purge", "luck", "leadlag")  # of the concept pages
ELSEWHERE = ("architecture", "regret")  # of other pages

if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["gallery"]:
        gallery.draw_all()
        sys.exit()
    for name in sys.argv[1:] or (*NAMES, *ELSEWHERE):
        started = time.perf_counter()
        folder = FOLDER.parent if name in ELSEWHERE else FOLDER
        path = save(importlib.import_module(f"docs.pictures.{name}").draw(), name, folder)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB in {time.perf_counter() - started:.1f} s")
