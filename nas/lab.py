"""The evidence lab moved: `python -m lab`."""

import sys

if __name__ == "__main__":
    sys.exit("nas.lab is now a package of its own; type: python -m lab" + "".join(f" {word}" for word in sys.argv[1:]))
