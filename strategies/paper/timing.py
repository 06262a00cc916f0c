"""How long paper trading waits for what, by venue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Real seconds. poll_s: between looks at the candles; settle_s: how long an order may take; late_s: how long the candles of
    the other symbols may take once one symbol has closed a bar; check_clock: whether the venue's clock is the wall clock (a
    replayed market's is not); give_up_s: how long a stop that keeps the positions goes on trying to cancel orders (one that closes them
    goes on without end, until it is asked again); look_s: between looks at positions, orders and margin between bars."""

    poll_s: float = 2.0
    order_poll_s: float = 0.5
    settle_s: float = 20.0
    reprice_s: float = 15.0
    late_s: float = 60.0
    check_clock: bool = True
    give_up_s: float = 60.0
    look_s: float = 20.0
