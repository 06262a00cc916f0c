"""What Bybit's retCodes mean for a call: every code of the exchange's own page has one of seven classes (ret_codes.csv)."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

TABLE = Path(__file__).with_name("ret_codes.csv")
DEFINITE, PASSING, KEYS, ACCOUNT, LIMITS, OURS, DONE = (
    "definite",
    "passing",
    "keys",
    "account",
    "limits",
    "ours",
    "done",
)
#: class -> (what it says, what happens to an order that gets it)
CLASSES: dict[str, tuple[str, str]] = {
    DEFINITE: ("no", "sent once, looked up, given up for this bar, told; the other symbols go on"),
    PASSING: (
        "busy, late or restarting: whether it was done is not known",
        "looked up; sent again under the same id, at most 8 times a bar",
    ),
    KEYS: ("the keys or the user may not trade", "halted, alert"),
    ACCOUNT: (
        "the account is set up in a way that cannot work",
        "at the start: one line and exit 2; later as definite",
    ),
    LIMITS: (
        "balance, margin, size or number is beyond a limit",
        "as definite; rules of the symbol are read again, and a size that they change is tried once more",
    ),
    OURS: (
        "the request is wrong, or its order is gone",
        "as limits; a duplicate orderLinkId is looked up and taken over where it is ours; not listed for a minute, it is lost",
    ),
    DONE: ("nothing to change", "success"),
}
NO_SUCH_ORDER, DUPLICATE, NOT_REDUCING = 110001, 110072, 110017
#: what to change at the exchange, where the account's set-up refuses a start
ADVICE = {
    110024: "close the position of the symbol, or start with the other of --hedge and --one-way",
    110028: "cancel the open orders of the symbol, or start with the other of --hedge and --one-way",
    110029: "start with --one-way",
    110013: "give a lower --leverage",
    110036: "switch the account from isolated to cross margin",
    110038: "switch the account from portfolio margin to cross margin",
    110077: "switch the account from portfolio margin to cross margin",
    10032: "use an account that is not a demo, sub- or copy-trading one, or another venue",
}


@functools.cache
def ret_codes() -> dict[int, tuple[str, str]]:
    """code -> (part of the exchange's page, class)."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {int(row["code"]): (row["part"], row["class"]) for row in rows}


def class_of(code: int) -> str:
    """A code that the page does not list is a no: whatever it means, the order was answered.

    >>> class_of(110007), class_of(10016), class_of(33004), class_of(987654321)
    ('limits', 'passing', 'keys', 'definite')
    """
    return ret_codes().get(code, ("", DEFINITE))[1]


def advice(code: int | None) -> str:
    """What to do about a refusal of the account's set-up; empty where nothing is known."""
    return ADVICE.get(code or 0, "")
