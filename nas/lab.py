"""The evidence lab moved: `python -m lab`."""

import sys

if __name__ == "__main__":
    sys.stderr.write(
        f"error: nas.lab is now a package of its own; type: {' '.join(['python -m lab', *sys.argv[1:]])}\n"
    )
    sys.exit(2)
