"""The register of looks: who has seen which unseen stretch, and how often (docs/decisions/110-looks-and-evidence.md).

What inflates an out-of-sample record is looking at the same stretch again with other settings and keeping the best. So whatever
shows figures of a test stretch writes one row here: a line of JSON that holds the hash of the line before it. Beside it lies a seal
(rows and hash of the last one), so that cut-off rows are missed as well. Both can be removed together; then the register begins
anew, and says when.

A look is a run: the same settings, code and data at the same stretch are the same look, however often they are shown.

A budget of looks (`--budget`) is charged before a run begins, and each of its runs is judged as after the whole budget: whatever
its order, and wherever one stops, no skill is then shown by any of them with 95%.
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
BUDGET = "budget"  # what a charge is called in its row, and its figure
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
    """This run is look `number` of the `total` at its stretch. None: not known, and `why`. begun: day of the register's first row.

    budget: of looks, to which the run was charged; 0: none. total is never less, whatever part of it is spent.
    """

    stretch: Stretch
    number: int | None
    total: int | None
    begun: str = ""
    why: str = ""
    budget: int = 0

    @property
    def told(self) -> str:
        """In words: `look 7 at 2024-08-01 to 2024-12-01`."""
        if self.number is None or self.total is None:
            return f"looks at {self.stretch}: not known, {self.why}"
        later = f" ({self.total} by now)" if self.total > max(self.number, self.budget) else ""
        charged = f", charged to a budget of {self.budget}" if self.budget else ""
        return f"look {self.number} at {self.stretch}{later}{charged}"


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
                    self._append(rows, last, Row(_now(), what, look, stretch, data, code, figures))
        except OSError as error:
            return Look(stretch, None, None, why=f"the register {self.path} cannot be written ({error.strerror})")
        except InputError as error:
            return Look(stretch, None, None, why=str(error))
        return counted(rows, look, stretch)

    def charge(self, look: str, stretch: Stretch, data: str, code: str, budget: int) -> None:
        """Take one look from the budget before it is made; a look that was charged already is free.

        The first charge fixes the budget: one that could be raised by who spends it would be none. InputError where it is spent, another
        one was begun, or the register cannot be read or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / ".lock"):
                rows, last = self._read()
                charged = charged_to(rows)
                if look in charged:
                    return
                begun = next(iter(charged.values()), budget)
                if begun != budget:
                    raise InputError(
                        f"the register {self.path} began with a budget of {begun} looks; go on with that one"
                    )
                if len(charged) >= budget:
                    raise InputError(
                        f"the budget of {budget} looks is spent ({self.path}): what they did not show on these days, nothing more will; "
                        "read the runs that were made, or wait for days that nobody has seen"
                    )
                self._append(rows, last, Row(_now(), BUDGET, look, stretch, data, code, {BUDGET: float(budget)}))
        except OSError as error:
            raise InputError(
                f"the register {self.path} cannot be written ({error.strerror}): no budget without it"
            ) from None

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

    def _append(self, rows: list[Row], last: str, row: Row) -> None:
        rows.append(row)
        body = json.dumps({"before": last, **asdict(row)}, sort_keys=True)
        digest = hashlib.sha256(body.encode()).hexdigest()
        # the seal tells later how far the file was good
        with self.path.open("ab") as file:
            file.write(f"{digest} {body}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        write_text(self.folder / SEAL, f"{len(rows)} {digest}\n")

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
    budget = charged_to(rows).get(look, 0)
    return Look(stretch, order.index(look) + 1, max(len(order), budget), rows[0].when[:10], budget=budget)


def charged_to(rows: Sequence[Row]) -> dict[str, int]:
    """Looks that were charged -> the budget they were charged to, oldest first."""
    return {row.look: int(row.figures[BUDGET] or 0) for row in rows if row.what == BUDGET}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
