"""A search that can be watched from outside: each epoch's row is a line of a file, written where the search runs, read anywhere.

`<folder>/<name>.jsonl`: first a line that names the edges and ops, then one line per epoch (fields in docs/variants.md). A line that is
not whole yet ends without a line break. These files are for looking only: nothing reads them back into a result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def recorder(folder: Path | None, name: str, head: Row) -> Callable[[Row], None]:
    """A function that adds a row to the file of this search; one that does nothing where there is no folder."""
    if folder is None:
        return lambda _row: None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text(json.dumps(head) + "\n", encoding="utf-8")

    def record(row: Row) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    return record


class Reader:
    """New rows since the last look, of all searches of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, int] = {}
        self._heads: dict[str, Row] = {}

    def news(self) -> Iterator[tuple[str, Row, Row]]:
        """(name of the search, its head, row) of every line that is whole and new."""
        for path in sorted(self.folder.glob("*.jsonl")):
            content = path.read_bytes()
            at = self._read.get(path.stem, 0)
            if at > len(content):  # begun anew
                at = 0
            end = content.rfind(b"\n") + 1
            for line in content[at:end].splitlines():
                row = json.loads(line)
                if at == 0:
                    self._heads[path.stem], at = row, 1
                else:
                    yield path.stem, self._heads[path.stem], row
            self._read[path.stem] = end
