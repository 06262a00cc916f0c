"""What paper trading refuses to do: limits on size, loss, order rate, price and age of data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from data.panel import InputError
from strategies.paper.records.journal import Journal

DAY_MS = 86_400_000


class Halt(Exception):
    """Trading must stop until a person has looked: the message says why."""


@dataclass(frozen=True)
class Limits:
    """max_position: sum of |position| over the symbols as a fraction of equity; larger targets are cut. daily_loss, drawdown: of
    the account, fractions of equity that halt. orders_per_bar, orders_per_24_bars: of one symbol. collar_bps: an order is
    skipped while the last trade is further than this from the close it was decided on. stale_s: seconds (real) without a new
    candle or a working connection after which nothing is entered. clock_ms: this machine's clock behind the exchange's by more than
    this, or ahead by more than clock_ahead_ms: nothing is sent (Bybit refuses stamps of 1 s ahead, and of 5 s behind).
    """

    max_position: float = 3.0
    daily_loss: float = 0.10
    drawdown: float = 0.30
    orders_per_bar: int = 10
    orders_per_24_bars: int = 120
    collar_bps: float = 300.0
    stale_s: float = 180.0
    clock_ms: float = 2_000.0
    clock_ahead_ms: float = 800.0

    def __post_init__(self) -> None:
        for name in ("max_position", "daily_loss", "drawdown", "collar_bps", "stale_s", "clock_ms", "clock_ahead_ms"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"--{name.replace('_', '-')} must be a number above 0, not {value}")
        if self.orders_per_bar < 1 or self.orders_per_24_bars < 1:
            raise InputError("--orders-per-bar and --orders-per-24-bars must be at least 1")


class Risk:
    """Watches one account through its journal; survives restarts because everything it needs is written there."""

    def __init__(self, limits: Limits, journal: Journal, interval_ms: int) -> None:
        self.limits, self._journal, self._interval_ms = limits, journal, interval_ms
        self._since = int(journal.get("risk_since", "0"))

    def restart(self, open_ms: int) -> None:
        """Count losses anew from this bar (after a person has looked and said --resume)."""
        self._since = open_ms
        self._journal.set(risk_since=str(open_ms))

    def check_equity(self, open_ms: int, equity: float) -> None:
        """Raises Halt where the day's loss or the drawdown is too large. open_ms: the bar that has just closed."""
        if not equity > 0:  # also where it is no number
            raise Halt(f"equity is {equity:.2f}: the account is gone")
        highest = self._journal.rows(
            "SELECT MAX(CAST(equity AS REAL)) AS peak FROM equity WHERE open_ms >= ?", self._since
        )
        peak = max(float(highest[0]["peak"] or 0.0), equity)
        if equity < peak * (1.0 - self.limits.drawdown):
            raise Halt(
                f"drawdown {1 - equity / peak:.1%} is beyond the limit of {self.limits.drawdown:.1%} (equity {equity:.2f}, peak {peak:.2f})"
            )
        day = (open_ms + self._interval_ms) // DAY_MS
        query = "SELECT equity FROM equity WHERE open_ms >= ? ORDER BY open_ms LIMIT 1"
        today = [
            float(r["equity"]) for r in self._journal.rows(query, max(day * DAY_MS - self._interval_ms, self._since))
        ]
        if today and equity < today[0] * (1.0 - self.limits.daily_loss):
            raise Halt(
                f"loss of the day {1 - equity / today[0]:.1%} is beyond the limit of {self.limits.daily_loss:.1%} "
                f"(equity {equity:.2f}, at the day's first bar {today[0]:.2f})"
            )

    def check_rate(self, open_ms: int, symbol: str) -> None:
        """Raises Halt where orders of a symbol are sent too fast: something loops. Every sending counts, closing orders do not."""
        since = open_ms - 24 * self._interval_ms
        query = (
            "SELECT open_ms, MAX(sends, 1) AS sends FROM intents WHERE open_ms > ? AND symbol = ? AND reference != 0"
        )
        rows = self._journal.rows(query, since, symbol)
        here, day = (
            sum(int(r["sends"]) for r in part) for part in ([r for r in rows if r["open_ms"] == open_ms], rows)
        )
        if here >= self.limits.orders_per_bar:
            raise Halt(f"{here} orders of {symbol} for one bar reach the limit of {self.limits.orders_per_bar}")
        if day >= self.limits.orders_per_24_bars:
            raise Halt(f"{day} orders of {symbol} in 24 bars reach the limit of {self.limits.orders_per_24_bars}")

    def clock_off(self, skew_ms: float) -> str:
        """Why nothing may be sent with a clock like this; empty where it may. skew_ms: the exchange's time minus this machine's."""
        if -self.limits.clock_ahead_ms <= skew_ms <= self.limits.clock_ms:
            return ""
        how = "ahead of" if skew_ms < 0 else "behind"
        return f"this machine's clock is {abs(skew_ms) / 1000:.1f} s {how} the exchange's; set it (NTP), nothing is sent until then"

    def outside_collar(self, price: float, reference: float) -> str:
        """Why the price is too far from the close decided on; empty where it is not."""
        away = abs(price / reference - 1.0) * 1e4
        if away <= self.limits.collar_bps:
            return ""
        return f"price {price:g} is {away:.0f} bps from the close {reference:g}: beyond the collar of {self.limits.collar_bps:g}"


def capped(targets: Sequence[float], most: float) -> list[float]:
    """Targets cut, all in proportion, so that the sum of their sizes is at most `most`."""
    gross = sum(abs(target) for target in targets)
    if gross <= most:
        return list(targets)
    if sum(target != 0.0 for target in targets) == 1:  # exactly the limit, whatever rounding makes of the proportion
        return [math.copysign(most, target) if target else target for target in targets]
    return [target * (most / gross) for target in targets]
