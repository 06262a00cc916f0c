"""Paper trading, `python -m strategies.paper`: an account and its page, composed by commands/paper.py."""

import importlib
import sys

app = importlib.import_module("commands.paper").app  # by name: no room knows what stands on top of it

if __name__ == "__main__":
    sys.exit(app())
