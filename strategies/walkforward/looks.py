"""The register of looks: who has seen which unseen stretch, and how often (docs/decisions/110-looks-and-evidence.md).

What inflates an out-of-sample record is looking at the same stretch again with other settings and keeping the best. So whatever
shows figures of a test stretch writes one row here: a line of JSON that holds the hash of the line before it. Beside it lies a seal
(rows and hash of the last one), so that cut-off rows are missed as well. Both can be removed together; then the register begins
anew, and says when.

A look is a run: the same settings, code and data at the same stretch are the same look, however often they are shown.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from data.atomic import write_text
from data.errors import InputError
from data.store import default_root

FILE, SEAL = "looks.jsonl", "looks.seal"
BEGINNING = "0" * 64


@dataclass(frozen=True)
class Stretch:
    """Whose unseen bars. market: symbols of a real market; of a simulated one the fingerprint of its data, for no other has them.

    start, stop: ISO times, UTC, of the first and the last bar that was traded.
    """

    market: tuple[str, ...]
    start: str
    stop: str

    @classmethod
    def of(cls, symbols: Sequence[str], simulated: bool, fingerprint: str, start: str, stop: str) -> Stretch:
        return cls((fingerprint,) if simulated else tuple(sorted(symbols)), start, stop)

    def overlaps(self, other: Stretch) -> bool:
        """A market in common, and time: histories that a later download made longer are still the same market."""
        return bool({*self.market} & {*other.market}) and self.start <= other.stop and other.start <= self.stop

    def __str__(self) -> str:
        return f"{self.start[:10]} to {self.stop[:10]}"


@dataclass(frozen=True)
class Row:
    """when: of the first time that `what` showed it. look: the run. figures: what was shown, by name."""

    when: str
    what: str
    look: str
    stretch: Stretch
    data: str
    code: str
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class Look:
    """This run is look `number` of the `total` at its stretch. None: not known, and `why`. begun: day of the register's first row."""

    stretch: Stretch
    number: int | None
    total: int | None
    begun: str = ""
    why: str = ""

    @property
    def told(self) -> str:
        """In words: `look 7 at 2024-08-01 to 2024-12-01`."""
        if self.number is None or self.total is None:
            return f"looks at {self.stretch}: not known, {self.why}"
        later = f" ({self.total} by now)" if self.total > self.number else ""
        return f"look {self.number} at {self.stretch}{later}"


class Register:
    """The rows of one folder. Every way in takes the lock: two processes at once lose nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or default_root() / "looks").absolute()

    @property
    def path(self) -> Path:
        return self.folder / FILE

    def enter(
        self, what: str, look: str, stretch: Stretch, data: str, code: str, figures: Mapping[str, float | None]
    ) -> Look:
        """Write the row unless it is there, and count. A register that cannot be written or was changed counts nothing, and says so."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / ".lock"):
                rows, last = self._read()
                if not any((row.what, row.look, row.stretch) == (what, look, stretch) for row in rows):
                    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                    rows.append(Row(now, what, look, stretch, data, code, figures))
                    self._append(rows[-1], last, len(rows))
        except OSError as error:
            return Look(stretch, None, None, why=f"the register {self.path} cannot be written ({error.strerror})")
        except InputError as error:
            return Look(stretch, None, None, why=str(error))
        return counted(rows, look, stretch)

    def enter_run(self, what: str, info: Mapping[str, Any], start: str, stop: str) -> Look:
        """The same of a run. info: its run.json. start, stop: times of the first and the last traded bar."""
        origin, headline = info.get("provenance") or {}, info.get("headline") or {}
        data, code = (str(origin.get(name)) for name in ("data_fingerprint", "code_version"))
        stretch = self.stretch_of(info, start, stop)
        told = headline.items() if isinstance(headline, Mapping) else ()
        figures = {name: one.get("sharpe") for name, one in told if isinstance(one, Mapping)}
        return self.enter(what, str(info.get("run_id")), stretch, data, code, figures)

    @staticmethod
    def stretch_of(info: Mapping[str, Any], start: str, stop: str) -> Stretch:
        """Days of the market of a run. info: its run.json."""
        origin = info.get("provenance") or {}
        times = (pd.Timestamp(time).tz_localize(None).isoformat() for time in (start, stop))
        fingerprint = str(origin.get("data_fingerprint"))
        return Stretch.of(origin.get("symbols") or (), bool(origin.get("simulated")), fingerprint, *times)

    def looks_at(self, stretch: Stretch) -> int:
        """How many looks are registered at these days; 0 where the register cannot be read (`enter` says why)."""
        try:
            return len({row.look for row in self.rows() if row.stretch.overlaps(stretch)})
        except (InputError, OSError):
            return 0

    def rows(self) -> list[Row]:
        """Every row, oldest first. InputError where one was edited, moved or removed."""
        if not self.folder.is_dir():
            return []
        with filelock.FileLock(self.folder / ".lock"):
            return self._read()[0]

    def _append(self, row: Row, last: str, count: int) -> None:
        body = json.dumps({"before": last, **asdict(row)}, sort_keys=True)
        digest = hashlib.sha256(body.encode()).hexdigest()
        # the seal tells later how far the file was good
        with self.path.open("ab") as file:
            file.write(f"{digest} {body}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        write_text(self.folder / SEAL, f"{count} {digest}\n")

    def _read(self) -> tuple[list[Row], str]:
        """Rows and the hash of the last; a line that a kill left unfinished behind the seal is cut off."""
        text = self.path.read_bytes() if self.path.exists() else b""
        seal = (self.folder / SEAL).read_text() if (self.folder / SEAL).exists() else ""
        sealed, _, sealed_hash = seal.rstrip("\n").partition(" ")
        if seal and (seal != f"{sealed} {sealed_hash}\n" or not sealed.isascii() or not sealed.isdigit()):
            raise self._changed("its seal is not what was written")
        whole, _, torn = text.rpartition(b"\n")
        rows: list[Row] = []
        last, at_seal = BEGINNING, BEGINNING
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            digest, _, body = line.partition(b" ")
            if digest != hashlib.sha256(body).hexdigest().encode():
                raise self._changed(f"row {number} is not what was written")
            found = json.loads(body)
            if found.pop("before") != last:
                raise self._changed(f"a row is missing before row {number}")
            found["stretch"] = Stretch(**{**found["stretch"], "market": tuple(found["stretch"]["market"])})
            rows.append(Row(**found))
            last = digest.decode()
            if number == int(sealed or 0):
                at_seal = last
        # a kill between row and seal leaves one row more than sealed; never fewer
        if at_seal != (sealed_hash or BEGINNING) or len(rows) > int(sealed or 0) + 1:
            raise self._changed(f"the seal counts {sealed or 'no'} rows, the file has {len(rows)}")
        if torn:
            if len(rows) != int(sealed or 0):
                raise self._changed("its last row is cut off")
            with self.path.open("r+b") as file:
                file.truncate(len(text) - len(torn))
        return rows, last

    def _changed(self, how: str) -> InputError:
        return InputError(
            f"the register of looks {self.path} was changed: {how}; restore it from a copy, or move {self.folder} away to begin anew"
        )


def counted(rows: Sequence[Row], look: str, stretch: Stretch) -> Look:
    """Which look this is at its stretch, and of how many: by the first row of each."""
    order = list(dict.fromkeys(row.look for row in rows if row.stretch.overlaps(stretch)))
    return Look(stretch, order.index(look) + 1, len(order), rows[0].when[:10])
