"""The evidence lab: does the search work, and does the pipeline fool itself? `python -m lab --help`."""
