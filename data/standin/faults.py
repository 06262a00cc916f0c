"""How the stand-in fails: a list of faults, by path, by n-th call or by chance, each of one kind."""

from __future__ import annotations

import fnmatch
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: kinds that act before the endpoint runs: it never hears of the call
BEFORE = ("reset", "http_403", "http_403_country", "http_429", "http_500", "http_502_html", "code_10000", "code_10006", "code_10006_past",
          "code_10016", "code_10002")  # fmt: skip
#: kinds that act after it ran: its answer is lost, late or damaged
AFTER = (
    "drop",
    "hang",
    "half",
    "not_json",
    "wrong_shape",
    "empty",
    "duplicate_rows",
    "missing_rows",
    "clock_skew",
    "replace",
)
#: answers of the private part, before the endpoint runs
PRIVATE = ("http_401", "http_503", "code_10001", "code_10003", "code_10004", "code_10005", "code_10010", "code_10018", "code_110007",
           "code_110017", "code_110094")  # fmt: skip
KINDS = (*BEFORE, *AFTER, *PRIVATE)
#: what any read-only call must survive without changing its outcome (a country block does not pass)
READ_FAULTS = tuple(kind for kind in (*BEFORE, *AFTER) if kind not in ("http_403_country", "replace"))


@dataclass
class Fault:
    """One way to fail.

    kind: of KINDS, or code_<any retCode>. path: glob on the URL path. nth: only on these calls of a matching path (1-based), else
    every one; chance: probability per matching call; times: stop after this many. seconds: of `hang`, and the reset of code_10006.
    skew_ms: of `clock_skew`. replace: body -> body for kind `replace`.
    """

    kind: str
    path: str = "*"
    nth: Sequence[int] = ()
    chance: float = 1.0
    times: int | None = None
    seconds: float = 0.2
    skew_ms: int = 3_600_000
    replace: Callable[[bytes], bytes] | None = None
    seen: int = field(default=0, init=False)
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS and not re.fullmatch(r"code_-?[0-9]{1,9}", self.kind):
            raise ValueError(f"unknown fault {self.kind!r}; there are {', '.join(KINDS)}")


class Faults:
    """The faults in force. `draw` is asked once per request; `counts` tells what was done, by kind."""

    def __init__(self, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._faults = list(faults)
        self._dice = random.Random(seed)
        self.counts: Counter[str] = Counter()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def at_random(
        self, chance: float, kinds: Sequence[str] = READ_FAULTS, path: str = "/v5/market/*", **more: Any
    ) -> None:
        """Every matching call fails with probability `chance`, in one of `kinds`, each as likely as the other."""
        left = 1.0
        share = chance / len(kinds)
        for kind in kinds:  # asked one after the other: each needs its share of those the earlier ones let pass
            self.add(Fault(kind, path, chance=share / left, **more))
            left -= share

    def draw(self, path: str) -> Fault | None:
        """The fault that this call shall suffer, if any."""
        with self._lock:
            matching = [fault for fault in self._faults if fnmatch.fnmatch(path, fault.path)]
            for fault in matching:
                fault.seen += 1
            for fault in matching:
                spent = fault.times is not None and fault.done >= fault.times
                if spent or (fault.nth and fault.seen not in fault.nth):
                    continue
                if fault.chance < 1.0 and self._dice.random() >= fault.chance:
                    continue
                fault.done += 1
                self.counts[fault.kind] += 1
                return fault
        return None

    def damage(self, fault: Fault, body: bytes) -> bytes:
        """The body of a good answer after the fault."""
        if fault.kind == "not_json":
            return b"<html><body>upstream went away</body></html>"
        if fault.kind == "empty":
            return b""
        if fault.kind == "wrong_shape":
            return b'{"retCode": 0, "retMsg": "OK", "result": {"list": "none"}, "time": "soon"}'
        if fault.kind == "replace" and fault.replace is not None:
            return fault.replace(body)
        answer = json.loads(body)
        if fault.kind == "clock_skew":
            answer["time"] = int(answer["time"]) + fault.skew_ms
            if "timeSecond" in answer["result"]:
                answer["result"] = {
                    "timeSecond": str(answer["time"] // 1000),
                    "timeNano": str(answer["time"] * 1_000_000),
                }
            return json.dumps(answer).encode()
        rows = answer.get("result", {}).get("list")
        if isinstance(rows, list) and rows:
            with self._lock:
                at = self._dice.randrange(len(rows))
            if fault.kind == "duplicate_rows":
                rows.insert(at, rows[at])
                rows.append(rows[0])
            elif fault.kind == "missing_rows":
                del rows[at : at + 3]
        return json.dumps(answer).encode()
