"""What waits for a price: conditional orders, and stop losses and take profits of whole positions.

A price counts as reached by the candles since the order was there; of the one that forms, by the price now.
"""

from __future__ import annotations

from decimal import Decimal

from data.standin.desk import Desk
from data.standin.tickets import WAITING, Ticket


def reached(
    exchange: Desk, symbol: str, price: Decimal, rises: bool, since_ms: int, now: int
) -> tuple[Decimal, int] | None:
    """(price, time) at which the market has come to `price`, from below where it rises; None where it has not. A candle that opens
    beyond it gives its open."""
    market = exchange.world.market
    candles, step = market.base(symbol), market.step_ms
    listed, extremes = candles.opens_ms.item(0), candles.high if rises else candles.low  # evenly spaced
    for k in range(max((since_ms - listed) // step, 0), min((now - listed) // step + 1, len(extremes))):
        begins = listed + k * step
        furthest = exchange.mark(symbol, now) if begins + step > now else Decimal(str(extremes.item(k)))
        if furthest < price if rises else furthest > price:
            continue
        opened = Decimal(str(candles.open.item(k)))
        gap = begins > since_ms and (opened > price if rises else opened < price)
        when = begins + 1 if gap else min(begins + step // 2, now)
        return opened if gap else price, max(when, since_ms)
    return None


def due_guards(exchange: Desk, now: int) -> list[tuple[str, int, Decimal, int, str]]:
    """(symbol, positionIdx, price, time, createType) of positions whose stop loss or take profit was reached."""
    due = []
    for (symbol, index), h in exchange.account.holdings.items():
        for price, since_ms, loss in ((h.stop, h.stop_ms, True), (h.take, h.take_ms, False)):
            found = None
            if h.size and price:
                found = reached(exchange, symbol, price, (h.size > 0) != loss, since_ms, now)
            if found is not None:
                due.append((symbol, index, *found, "CreateByStopLoss" if loss else "CreateByTakeProfit"))
                break
    return due


def due_orders(exchange: Desk, now: int) -> list[Ticket]:
    """Conditional orders whose price was reached since they were there."""
    waiting = [t for t in exchange.alive.values() if t.status == WAITING]
    return [t for t in waiting if reached(exchange, t.symbol, t.trigger, t.rises, t.created_ms, now) is not None]
