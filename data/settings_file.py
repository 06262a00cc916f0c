"""Settings as TOML: read for `--config`, written for `--print-config`, a wrong name refused with the nearest known one."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError, nearest


def read_settings(file: Path) -> dict[str, Any]:
    """InputError where the file cannot be read or is no TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config file {file} cannot be read ({error.strerror}); give a TOML file") from None
    except ValueError as error:  # no TOML, or no text
        raise InputError(f"{file} is not valid TOML: {error}") from None


def check_names(given: Collection[str], known: Collection[str]) -> None:
    """InputError for the first name that is not known."""
    for name in given:
        if name not in known:
            hint = nearest(name.replace("-", "_"), known, "; --print-config lists them all")
            raise InputError(f"unknown setting {name!r}{hint}")


def to_toml(values: Mapping[str, Any]) -> str:
    """Settings as the text of a file that `--config` reads; what is None is left out (it means the default)."""
    return "".join(f"{_key(name)} = {_toml(value)}\n" for name, value in values.items() if value is not None)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # 1e-05, inf and nan read the same in both languages
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
