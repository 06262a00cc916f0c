"""The main job, `python -m strategies.walkforward --symbol BTCUSDT`: a run and its pages, composed by commands/walkforward.py."""

import importlib
import sys

app = importlib.import_module("commands.walkforward").app  # by name: no room knows what stands on top of it

if __name__ == "__main__":
    sys.exit(app())
