"""What is refused at the exchange's door: an order is checked against the rules of its symbol, the account and the price limits.

Codes are those of the exchange's page of errors (docs/v5/error); contracts and spot have codes of their own.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from data.standin.account import ZERO
from data.standin.desk import Desk, reserved
from data.standin.market import Instrument
from data.standin.parameters import Parameters
from data.standin.tickets import WAITING, Ticket
from data.standin.world import Refused

COLLAR = Decimal("0.01")  # a market order becomes an IOC limit this far away
#: priceLimitRatioX of instruments-info: an order that would pay more, or take less, than that off the price is refused
PRICE_LIMIT = Decimal("0.01")
FORCES = ("GTC", "IOC", "FOK", "PostOnly")
FILTERS = ("Order", "StopOrder", "tpslOrder")
#: create-order: open orders of one symbol; those that wait for a price
MOST_OPEN, MOST_WAITING = 500, 10
_LINK = re.compile(r"[A-Za-z0-9_-]{1,36}")
_SMALLEST = Decimal("1e-8")


def admitted(exchange: Desk, body: Mapping[str, Any]) -> Ticket:
    """The order that a create-order asks for; Refused with the retCode the exchange would answer."""
    given = Parameters(body)
    category = given.choice("category", ("linear", "spot", "inverse", "option"))
    instrument = exchange.instrument(category, given.text("symbol"))
    link = given.text("orderLinkId", "")
    if link and not _LINK.fullmatch(link):
        raise Refused(10001, "params error: orderLinkId invalid")
    if link and link in exchange.by_link:
        raise Refused(110072 if category == "linear" else 170141, "OrderLinkedID is duplicate")
    ticket = (_spot if category == "spot" else _linear)(exchange, given, instrument)
    ticket.link_id = link
    return ticket


def _linear(exchange: Desk, given: Parameters, instrument: Instrument) -> Ticket:
    account, symbol = exchange.account, instrument.symbol
    side, kind = given.choice("side", ("Buy", "Sell")), given.choice("orderType", ("Market", "Limit"))
    force = given.choice("timeInForce", FORCES, "GTC")
    qty, price = given.decimal("qty"), given.decimal("price") if kind == "Limit" else ZERO
    index = given.whole("positionIdx", 0)
    if index not in account.indices(symbol):
        raise Refused(10001, "position idx not match position mode")
    reduce_only, closing = given.flag("reduceOnly"), given.flag("closeOnTrigger")
    largest = Decimal(instrument.max_market_qty if kind == "Market" else instrument.max_order_qty)
    if not qty and reduce_only and closing:  # create-order: all that is held, up to the largest order
        qty = min(abs(exchange.held(symbol, index)), largest)
    elif qty % Decimal(instrument.qty_step) or qty < Decimal(instrument.min_order_qty) or qty <= 0:
        raise Refused(10001, f"The number of contracts {qty} is below the minimum or not a multiple of the step")
    if qty > largest:
        raise Refused(10001, "The number of contracts exceeds maximum limit allowed")
    if kind == "Limit" and (price <= 0 or price % Decimal(instrument.tick_size)):
        raise Refused(10001, "params error: price is not a multiple of the tick")
    mark, sign = exchange.mark(symbol), 1 if side == "Buy" else -1
    ticket = _ticket(exchange, symbol, side, kind, force, qty, price)
    ticket.reduce_only, ticket.index = reduce_only, index
    if "triggerPrice" in given:
        _waits(given, ticket, mark, instrument)
        room, code = MOST_WAITING, 110009
    else:
        if kind == "Limit" and beyond(price, sign, mark):
            raise Refused(110003, "Order price exceeds the allowable range.")
        room, code = MOST_OPEN, 110020
    waiting = ticket.status == WAITING
    if sum(t.symbol == symbol and (t.status == WAITING) == waiting for t in exchange.alive.values()) >= room:
        raise Refused(code, "The number of orders exceeds the maximum allowable limit")
    if reduce_only and ("stopLoss" in given or "takeProfit" in given):
        raise Refused(10001, "params error: a reduce-only order cannot set TP/SL")
    if not reduce_only and qty * (price or mark) < Decimal(instrument.min_notional):
        raise Refused(110094, "Order does not meet minimum order value")
    if not waiting:
        ticket.qty = affordable(exchange, ticket, mark)
    base = ticket.trigger or mark
    ticket.stop = guard(given, "stopLoss", sign, base)
    ticket.take = guard(given, "takeProfit", -sign, base)
    if kind == "Market" and not waiting:
        ticket.price = collared(mark, sign, instrument)
    return ticket


def _ticket(exchange: Desk, symbol: str, side: str, kind: str, force: str, qty: Decimal, price: Decimal) -> Ticket:
    now = exchange.world.clock.now_ms()
    force = "IOC" if kind == "Market" else force
    return Ticket(str(uuid.uuid4()), "", symbol, side, kind, force, qty, price, False, 0, now, now)


def _waits(given: Parameters, ticket: Ticket, mark: Decimal, instrument: Instrument) -> None:
    """A conditional order: triggerDirection says from which side the price must come."""
    ticket.trigger = given.decimal("triggerPrice")
    ticket.rises = given.whole("triggerDirection", None, 1, 2) == 1
    ticket.trigger_by = given.choice("triggerBy", ("LastPrice", "IndexPrice", "MarkPrice"), "LastPrice")
    if ticket.trigger <= 0 or ticket.trigger % Decimal(instrument.tick_size):
        raise Refused(10001, "params error: triggerPrice is not a multiple of the tick")
    if ticket.rises and ticket.trigger <= mark:
        raise Refused(110092, f"expect Rising, but trigger_price[{ticket.trigger}] <= current[{mark}]??laste")
    if not ticket.rises and ticket.trigger >= mark:
        raise Refused(110093, f"expect Falling, but trigger_price[{ticket.trigger}] >= current[{mark}]??last")
    ticket.status, ticket.filter = WAITING, "StopOrder"


def affordable(exchange: Desk, ticket: Ticket, mark: Decimal) -> Decimal:
    """The size that the account lets in: of a reduce-only order no more than is held; Refused without the margin for what it opens."""
    account, symbol = exchange.account, ticket.symbol
    held = exchange.held(symbol, ticket.index)
    if ticket.reduce_only:
        if held * ticket.sign >= 0:
            raise Refused(110017, "current position is zero, cannot fix reduce-only order qty")
        return min(ticket.qty, abs(held))
    opening = max(abs(held + ticket.sign * ticket.qty) - abs(held), ZERO)
    marks = {**exchange.marks(), symbol: mark}
    need = opening * mark / account.leverage.get(symbol, Decimal(10))
    if need > account.equity(marks) - account.initial_margin(marks) - exchange.order_margin():
        raise Refused(110007, "ab not enough for new order")
    return ticket.qty


def carry(exchange: Desk, ticket: Ticket) -> None:
    """A conditional order that is triggered: its price and size now; Refused where the account cannot carry it."""
    instrument, mark = exchange.world.market.instruments[ticket.symbol], exchange.mark(ticket.symbol)
    if ticket.kind == "Market":
        ticket.price = collared(mark, ticket.sign, instrument)
    if ticket.category == "linear":
        ticket.qty = affordable(exchange, ticket, mark)
    elif ticket.filter == "StopOrder":  # a tpslOrder has reserved what it needs
        coin, need = reserved(ticket, instrument)
        if need > exchange.free(coin):
            raise Refused(170131, "Balance insufficient")


def beyond(price: Decimal, sign: int, mark: Decimal) -> bool:
    """Whether a limit order would buy so high, or sell so low, that the exchange does not take it."""
    return sign * price > sign * mark * (1 + sign * PRICE_LIMIT)


def collared(mark: Decimal, sign: int, instrument: Instrument) -> Decimal:
    """The limit that a market order becomes."""
    tick = Decimal(instrument.tick_size)
    return (mark * (1 + sign * COLLAR) // tick) * tick


def guard(given: Parameters, name: str, sign: int, mark: Decimal) -> Decimal:
    """The price of a stop loss (sign of the position) or take profit (the opposite sign); 0 where none is asked for."""
    price = given.decimal(name, ZERO)
    if price and sign * (mark - price) <= 0:
        how = "lower" if sign > 0 else "higher"
        raise Refused(10001, f"{name}:{price} set for the position should {how} than base_price:{mark}")
    return price


def _spot(exchange: Desk, given: Parameters, instrument: Instrument) -> Ticket:
    """Spot: a market buy takes its qty in the quote coin unless marketUnit says otherwise; what is sold must be there."""
    symbol, step = instrument.symbol, Decimal(instrument.qty_step)
    side, kind = (
        given.choice("side", ("Buy", "Sell"), code=170117),
        given.choice("orderType", ("Market", "Limit"), code=170116),
    )
    force = given.choice("timeInForce", FORCES, "GTC", code=170115)
    which = given.choice("orderFilter", FILTERS, "Order")
    unit = given.choice("marketUnit", ("baseCoin", "quoteCoin"), "quoteCoin" if side == "Buy" else "baseCoin")
    if given.whole("isLeverage", 0, 0, 1):
        raise Refused(170036, "You haven't enabled Cross Margin Trading yet.")
    qty = given.decimal("qty", code=170130)
    price = given.decimal("price", code=170130) if kind == "Limit" else ZERO
    by_value = kind == "Market" and unit == "quoteCoin"
    mark, sign = exchange.mark(symbol), 1 if side == "Buy" else -1
    if qty % (_SMALLEST if by_value else step):
        raise Refused(170137, "Order volume decimal too long")
    worth = qty if by_value else qty * (price or mark)
    if not by_value and qty < Decimal(instrument.min_order_qty):
        raise Refused(170136, "Order quantity lower than the minimum.")
    if not by_value and qty > Decimal(instrument.max_order_qty):
        raise Refused(170124, "Order amount too large.")
    if worth < Decimal(instrument.min_notional):
        raise Refused(170140, "Order value exceeded lower limit")
    if kind == "Limit" and (price <= 0 or price % Decimal(instrument.tick_size)):
        raise Refused(170134, "Order price decimal too long.")
    ticket = _ticket(exchange, symbol, side, kind, force, qty, price)
    ticket.category, ticket.by_value, ticket.filter = "spot", by_value, which
    if which != "Order":
        ticket.trigger = given.decimal("triggerPrice", code=170130)
        if ticket.trigger <= 0 or ticket.trigger % Decimal(instrument.tick_size):
            raise Refused(170134, "Order price decimal too long.")
        ticket.rises, ticket.status = ticket.trigger > mark, WAITING
    elif kind == "Limit" and beyond(price, sign, mark):
        bound = f"{mark * (1 + sign * PRICE_LIMIT):f}"
        how = "Buy order price cannot be higher than" if sign > 0 else "Sell order price cannot be lower than"
        raise Refused(170193 if sign > 0 else 170194, f"{how} {bound}.")
    else:
        ticket.price = price or collared(mark, sign, instrument)
    if ticket.filter != "StopOrder":  # a conditional order reserves nothing until it is triggered
        coin, need = reserved(ticket, instrument)
        if need > exchange.free(coin):
            raise Refused(170131, "Balance insufficient")
    return ticket
