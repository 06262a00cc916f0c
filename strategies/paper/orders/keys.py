"""The API key: where it comes from, and that it never shows itself."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from data.panel import InputError

_NAMES = ("BYBIT_API_KEY", "BYBIT_API_SECRET")


@dataclass(frozen=True)
class Keys:
    """An API key and its secret. repr and str never show them."""

    key: str = field(repr=False)
    secret: str = field(repr=False)

    def redact(self, text: str) -> str:
        for value in (self.secret, self.key):
            text = text.replace(value, "[redacted]") if value else text
        return text


def load_keys(file: Path | None, venue: str) -> Keys:
    """From BYBIT_API_KEY and BYBIT_API_SECRET, or a file of two such lines that only its owner can read (mode 0600).

    InputError in one line where there are none, where others can read the file, or where it holds no plain letters and digits.
    """
    values = {name: os.environ.get(name, "") for name in _NAMES}
    if file is not None:
        values |= _read(file)
    if not all(values[name] for name in _NAMES):
        where = {"testnet": "testnet.bybit.com", "demo": "bybit.com in Demo Trading mode"}.get(venue, "the exchange")
        raise InputError(
            f"no API keys: make a pair on {where} (API, Unified Trading: orders and positions), then set BYBIT_API_KEY and "
            "BYBIT_API_SECRET or give --keys FILE (mode 0600); or try --venue local, which needs none"
        )
    for name in _NAMES:
        if not re.fullmatch(r"[!-~]{1,200}", values[name], re.ASCII):
            raise InputError(
                f"{name} holds a space or a letter that no key has; copy it anew, without quotes or line breaks"
            )
    return Keys(values["BYBIT_API_KEY"], values["BYBIT_API_SECRET"])


def _read(file: Path) -> dict[str, str]:
    if not file.is_file():
        raise InputError(f"no key file {file}; write BYBIT_API_KEY=... and BYBIT_API_SECRET=... into it, mode 0600")
    try:
        mode, raw = stat.S_IMODE(file.stat().st_mode), file.read_bytes()
    except OSError as error:
        raise InputError(f"key file {file} cannot be read ({error.strerror})") from None
    if mode & 0o077:
        raise InputError(f"key file {file} can be read by others (mode {mode:04o}); run: chmod 600 {file}")
    try:  # editors of Windows write UTF-16 or a byte-order mark
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"key file {file} is no plain text; save it as UTF-8 with two lines NAME=VALUE") from None
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        found[name.strip().removeprefix("export ").strip()] = value.strip().strip("'\"")
    return {name: found[name] for name in _NAMES if name in found}
