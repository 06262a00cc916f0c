"""Parameters of a request, read as strictly as the exchange does: what is no such value is answered with a retCode, never with a crash."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from data.standin.world import Refused

_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
DAY_MS = 86_400_000


class Parameters:
    """A query or a body. An empty string counts as not given. Refused with 10001 (or `code`) where a value is wrong or missing."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def __contains__(self, name: str) -> bool:
        return self._given.get(name) not in (None, "")

    def text(self, name: str, default: str | None = None, code: int = 10001) -> str:
        """default None: it is required."""
        if name not in self:
            if default is None:
                raise Refused(code, f"params error: {name} is required")
            return default
        value = self._given[name]
        if not isinstance(value, str) or len(value) > 2000:
            raise Refused(code, f"params error: {name} must be a string")
        return value

    def choice(self, name: str, allowed: Sequence[str], default: str | None = None, code: int = 10001) -> str:
        value = self.text(name, default, code)
        if value not in allowed and (name in self or default is None):
            raise Refused(code, f"params error: {name} invalid")
        return value

    def decimal(self, name: str, default: Decimal | None = None, code: int = 10001) -> Decimal:
        """A string of digits with at most one point; numbers of JSON are refused, as v5 wants strings."""
        if name not in self and default is not None:
            return default
        value = self.text(name, None, code)
        if not _DECIMAL.fullmatch(value):
            raise Refused(code, f"params error: {name} invalid")
        return Decimal(value)

    def whole(self, name: str, default: int | None = None, least: int = 0, most: int = 2**62) -> int:
        """An integer, or a string of one; refused outside of [least, most]."""
        if name not in self:
            if default is None:
                raise Refused(10001, f"params error: {name} is required")
            return default
        value = self._given[name]
        right = (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, str) and _WHOLE.fullmatch(value)
        )
        if not right or not least <= int(value) <= most:
            raise Refused(10001, f"params error: {name} invalid")
        return int(value)

    def flag(self, name: str) -> bool:
        value = self._given.get(name)
        if not (value in (None, "") or isinstance(value, bool)):
            raise Refused(10001, f"params error: {name} must be true or false")
        return value is True

    def window(self, now_ms: int, longest_ms: int = 7 * DAY_MS, default_ms: int | None = None) -> tuple[int, int]:
        """startTime and endTime [ms], as the lists of v5 take them: both, one of them, or none; refused beyond the longest window."""
        length = default_ms or longest_ms
        if "startTime" in self:
            start = self.whole("startTime")
            end = self.whole("endTime", start + length)
        else:
            end = self.whole("endTime", now_ms)
            start = end - length
        if not 0 <= end - start <= longest_ms:
            raise Refused(10001, "params error: endTime must lie after startTime, within the longest window")
        return start, end
