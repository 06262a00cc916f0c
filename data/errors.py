"""The one error that is the user's to mend. Apart from `data.panel`, so that the doctor can tell of a broken numpy."""

from __future__ import annotations

import difflib
from collections.abc import Collection


class InputError(ValueError):
    """The user's input is wrong. The message is one line for a person; commands print it and exit with code 2.

    Examples
    --------
    >>> from data import InputError, load_panel
    >>> try:
    ...     load_panel(["BTCUSDT"], source="nowhere")
    ... except InputError as error:
    ...     print(error)
    unknown --source 'nowhere'; expected auto, bybit, simulated, demo, bundled
    """


def nearest(name: str, known: Collection[str], otherwise: str = "") -> str:
    """The end of a message about an unknown name: `; did you mean 'x'?`, or `otherwise` where nothing is near."""
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else otherwise


def shortened(value: object, most: int = 40) -> str:
    """Anything out of a file as a few letters of one line."""
    text = " ".join(str(value)[: 4 * most].split())
    return text if len(text) <= most else text[: most - 3] + "..."


def known_word(what: str, given: object, known: Collection[object]) -> None:
    """InputError where `given` is none of `known`, naming them and the nearest."""
    if given not in known:
        near = nearest(given, [word for word in known if isinstance(word, str)]) if isinstance(given, str) else ""
        raise InputError(f"{what} {given!r} is not known; there are {', '.join(str(word) for word in known)}{near}")
