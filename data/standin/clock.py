"""The stand-in's own clock: it may start anywhere, run at any speed, stand still, and be set."""

from __future__ import annotations

import threading
import time


class Clock:
    """Milliseconds since 1970, UTC. `speed` is exchange seconds per real second; 0 stands still."""

    def __init__(self, start_ms: int | None = None, speed: float = 1.0) -> None:
        if speed < 0:
            raise ValueError(f"speed is {speed}; a clock does not run backwards")
        self._lock = threading.Lock()
        self._start = time.time() * 1000.0 if start_ms is None else float(start_ms)
        self._real = time.monotonic()
        self.speed = speed

    def now_ms(self) -> int:
        with self._lock:
            return int(self._now())

    def set(self, now_ms: int, speed: float | None = None) -> None:
        with self._lock:
            self._start, self._real = float(now_ms), time.monotonic()
            self.speed = self.speed if speed is None else speed

    def advance(self, milliseconds: int) -> None:
        with self._lock:
            self._start, self._real = self._now() + milliseconds, time.monotonic()

    def _now(self) -> float:
        return self._start + (time.monotonic() - self._real) * 1000.0 * self.speed
