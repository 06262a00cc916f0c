"""The public REST endpoints of the stand-in: `/v5/market/*`."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data.standin.market import DAY_MS, INTERVALS, MINUTE_MS, Instrument, bar_open
from data.standin.world import Call, Refused, Reply, World

Endpoint = Callable[[World, Call], Reply]
CATEGORIES = ("spot", "linear", "inverse")
OI_PERIODS = {"5min": 5, "15min": 15, "30min": 30, "1h": 60, "4h": 240, "1d": 1440}


def public_endpoints() -> dict[tuple[str, str], Endpoint]:
    """(method, path) -> endpoint."""
    price_klines = {
        "mark-price-kline": lambda price, premium: price * (1 + premium / 4),
        "index-price-kline": lambda price, premium: price / (1 + premium),
        "premium-index-price-kline": lambda price, premium: premium,
    }
    endpoints: dict[str, Endpoint] = {
        "time": server_time,
        "kline": klines,
        "funding/history": funding_history,
        "open-interest": open_interest,
        "account-ratio": account_ratio,
        "instruments-info": instruments_info,
        "risk-limit": risk_limit,
        "orderbook": orderbook,
        "tickers": tickers,
        "recent-trade": recent_trade,
        "price-limit": price_limit,
        **{name: _derived_klines(name, rule) for name, rule in price_klines.items()},
    }
    return {("GET", f"/v5/market/{name}"): endpoint for name, endpoint in endpoints.items()}


def server_time(world: World, _call: Call) -> Reply:
    now = world.clock.now_ms()
    return Reply({"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)})


def klines(world: World, call: Call) -> Reply:
    query, instrument = call.query, _instrument(world, call.query, "linear")
    found = _kline_rows(world, query, instrument)
    digits = instrument.price_digits
    rows = [
        [str(t), *(f"{x:.{digits}f}" for x in prices), f"{volume:.3f}", f"{turnover:.4f}"]
        for t, *prices, volume, turnover in zip(
            found.opens_ms.tolist(), found.open.tolist(), found.high.tolist(), found.low.tolist(), found.close.tolist(),
            found.volume.tolist(), found.turnover.tolist(), strict=True,
        )
    ]  # fmt: skip
    return Reply({"category": query.get("category") or "linear", "symbol": instrument.symbol, "list": rows[::-1]})


def _derived_klines(name: str, rule: Callable[[Any, Any], Any]) -> Endpoint:
    """Mark, index and premium klines: the same bars through a rule on price and premium; no volume."""

    def endpoint(world: World, call: Call) -> Reply:
        instrument = _instrument(world, call.query, "linear")
        if call.query.get("category") == "spot":
            raise Refused(10001, "Category is invalid")
        found = _kline_rows(world, call.query, instrument)
        premium = world.market.premium(instrument.symbol, found.opens_ms)
        values = [np.asarray(rule(x, premium)) for x in (found.open, found.high, found.low, found.close)]
        digits = 6 if name.startswith("premium") else instrument.price_digits + 1
        rows = [
            [str(t), *(f"{x:.{digits}f}" for x in bar)]
            for t, *bar in zip(found.opens_ms.tolist(), *(v.tolist() for v in values), strict=True)
        ]
        category = call.query.get("category") or "linear"
        return Reply({"category": category, "symbol": instrument.symbol, "list": rows[::-1]})

    return endpoint


def _kline_rows(world: World, query: Mapping[str, str], instrument: Instrument) -> Any:
    interval = query.get("interval", "")
    if interval not in INTERVALS:
        raise Refused(10001, "Invalid period!")
    limit = _whole(query, "limit", 200, 1, 1000)
    now = world.clock.now_ms()
    end = _whole(query, "end", now, 0, 2**62)
    length = INTERVALS[interval] or 31 * DAY_MS
    start = _whole(query, "start", max(end - limit * length, 0), 0, 2**62)
    if "start" in query and "end" not in query:
        end = min(now, start + (limit - 1) * length)
    if start > end:
        raise Refused(10001, "The start time must be before the end time")
    return world.market.klines(instrument.symbol, interval, start, end, now, limit)


def funding_history(world: World, call: Call) -> Reply:
    query, instrument = call.query, _instrument(world, call.query)
    if query.get("category") == "spot":
        raise Refused(10001, "params error: category invalid")
    now = world.clock.now_ms()
    if "startTime" in query and "endTime" not in query:
        raise Refused(10001, "params error: endTime is required with startTime")
    limit = _whole(query, "limit", 200, 1, 200)
    end = min(_whole(query, "endTime", now, 0, 2**62), now)
    start = _whole(query, "startTime", 0, 0, 2**62)
    times, rates = world.market.settlements(instrument.symbol, start, end)
    rows = [
        {"symbol": instrument.symbol, "fundingRate": f"{rate:.8f}", "fundingRateTimestamp": str(t)}
        for t, rate in zip(times[-limit:].tolist(), rates[-limit:].tolist(), strict=True)
    ]
    return Reply({"category": query.get("category"), "list": rows[::-1]})


def open_interest(world: World, call: Call) -> Reply:
    query, instrument = call.query, _instrument(world, call.query)
    times, cursor = _stamps(world, query, instrument, "intervalTime", most=200)
    values = world.market.open_interest(instrument.symbol, times)
    rows = [
        {"openInterest": f"{value:.8f}", "timestamp": str(t)}
        for t, value in zip(times.tolist(), values.tolist(), strict=True)
    ]
    result = {"symbol": instrument.symbol, "category": query.get("category"), "list": rows, "nextPageCursor": cursor}
    return Reply(result)


def account_ratio(world: World, call: Call) -> Reply:
    query, instrument = call.query, _instrument(world, call.query)
    times, cursor = _stamps(world, query, instrument, "period", most=500)
    values = world.market.long_ratio(instrument.symbol, times)
    rows = [
        {"symbol": instrument.symbol, "buyRatio": f"{x:.4f}", "sellRatio": f"{1 - x:.4f}", "timestamp": str(t)}
        for t, x in zip(times.tolist(), values.tolist(), strict=True)
    ]
    return Reply({"list": rows, "nextPageCursor": cursor})


def _stamps(
    world: World, query: Mapping[str, str], instrument: Instrument, period_name: str, most: int
) -> tuple[Any, str]:
    """Newest-first stamps of one page of a periodic statistic, and the cursor to the next page."""
    period = OI_PERIODS.get(query.get(period_name, ""))
    if period is None:
        raise Refused(10001, f"params error: {period_name} invalid")
    step, now = period * MINUTE_MS, world.clock.now_ms()
    limit = _whole(query, "limit", 50, 1, most)
    first = max(world.market.first_ms, instrument.launch_ms)
    end = min(_whole(query, "endTime", now, 0, 2**62), now)
    start = max(_whole(query, "startTime", 0, 0, 2**62), first)
    if cursor := query.get("cursor", ""):
        if not cursor.startswith("lasttime-") or not cursor[9:].isdigit():
            raise Refused(10001, "params error: cursor invalid")
        end = min(end, int(cursor[9:]) - 1)
    times = np.arange(end // step * step, start - 1, -step, dtype=np.int64)
    page = times[:limit]
    return page, f"lasttime-{page[-1]}" if len(times) > limit else ""


def instruments_info(world: World, call: Call) -> Reply:
    query = call.query
    if query.get("category") not in CATEGORIES:
        raise Refused(10001, "params error: category invalid")
    if "symbol" in query:
        chosen = [_instrument(world, query)]
    else:
        chosen = [] if query["category"] == "inverse" else list(world.market.instruments.values())
    describe = _describe_spot if query["category"] == "spot" else _describe
    return Reply({"category": query["category"], "list": [describe(i, world) for i in chosen], "nextPageCursor": ""})


def risk_limit(world: World, call: Call) -> Reply:
    """The more a position is worth, the less leverage is allowed: five tiers."""
    if call.query.get("category") not in ("linear", "inverse"):
        raise Refused(10001, "params error: category invalid")
    listed = world.market.instruments.values() if call.query["category"] == "linear" else ()
    chosen = [_instrument(world, call.query)] if "symbol" in call.query else listed
    rows = []
    for i in chosen:
        for tier in range(1, 6):
            rows.append({
                "id": tier, "symbol": i.symbol, "riskLimitValue": str(2_000_000 * tier), "maintenanceMargin": str(0.005 * tier),
                "initialMargin": str(0.01 * tier), "isLowestRisk": int(tier == 1),
                "maxLeverage": f"{float(i.max_leverage) / tier:.2f}", "mmDeduction": "",
            })  # fmt: skip
    return Reply({"category": call.query["category"], "list": rows, "nextPageCursor": ""})


def price_limit(world: World, call: Call) -> Reply:
    """The highest price to buy at, the lowest to sell at: 1% off the price (priceLimitRatioX)."""
    instrument, now = _instrument(world, call.query, "linear"), world.clock.now_ms()
    price, tick = world.market.price(instrument.symbol, now), float(instrument.tick_size)
    most, least = (f"{math.floor(price * ratio / tick) * tick:.{instrument.price_digits}f}" for ratio in (1.01, 0.99))
    return Reply({"symbol": instrument.symbol, "buyLmt": most, "sellLmt": least, "ts": str(now)})


def _symbol_id(i: Instrument) -> int:
    return zlib.crc32(i.symbol.encode()) % 10_000


def _describe(i: Instrument, world: World) -> dict[str, Any]:
    minutes = [m for begin, m in i.funding_minutes if begin <= world.clock.now_ms()][-1]
    return {
        "symbol": i.symbol, "symbolId": _symbol_id(i), "contractType": "LinearPerpetual", "status": i.status, "baseCoin": i.base_coin,
        "quoteCoin": "USDT", "settleCoin": "USDT", "launchTime": str(i.launch_ms), "deliveryTime": "0",
        "deliveryFeeRate": "", "priceScale": str(i.price_digits), "fundingInterval": minutes, "unifiedMarginTrade": True,
        "leverageFilter": {"minLeverage": "1", "maxLeverage": i.max_leverage, "leverageStep": "0.01"},
        "priceFilter": {"minPrice": i.tick_size, "maxPrice": "1999999.80", "tickSize": i.tick_size},
        "lotSizeFilter": {
            "maxOrderQty": i.max_order_qty, "minOrderQty": i.min_order_qty, "qtyStep": i.qty_step,
            "postOnlyMaxOrderQty": i.max_order_qty, "maxMktOrderQty": i.max_market_qty, "minNotionalValue": i.min_notional,
        },
        "copyTrading": "both", "upperFundingRate": "0.00375", "lowerFundingRate": "-0.00375", "isPreListing": False, "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"}, "symbolType": "",
    }  # fmt: skip


def _describe_spot(i: Instrument, world: World) -> dict[str, Any]:
    """The fields that the exchange documents for spot: a precision instead of a step, an amount instead of a notional."""
    return {
        "symbol": i.symbol, "symbolId": _symbol_id(i), "baseCoin": i.base_coin, "quoteCoin": "USDT", "innovation": "0", "status": i.status,
        "marginTrading": "both",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": i.qty_step, "quotePrecision": "0.00000001", "minOrderQty": i.min_order_qty,
            "maxOrderQty": i.max_order_qty, "minOrderAmt": i.min_notional, "maxOrderAmt": "8000000", "maxLimitOrderQty": i.max_order_qty,
            "maxMarketOrderQty": i.max_market_qty, "postOnlyMaxLimitOrderSize": i.max_order_qty,
        },
        "symbolType": "",
        "priceFilter": {"tickSize": i.tick_size}, "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
    }  # fmt: skip


def orderbook(world: World, call: Call) -> Reply:
    instrument = _instrument(world, call.query)
    limit = _whole(call.query, "limit", 25, 1, 1000)
    bids, asks = world.books.levels(instrument.symbol, limit)
    now = world.clock.now_ms()
    book = {"s": instrument.symbol, "b": bids, "a": asks, "ts": now, "u": now // 500, "seq": now // 500, "cts": now}
    return Reply(book)


def tickers(world: World, call: Call) -> Reply:
    category = call.query.get("category", "")
    if category not in CATEGORIES:
        raise Refused(10001, "params error: category invalid")
    listed = [] if category == "inverse" else list(world.market.instruments)
    symbols = [_instrument(world, call.query).symbol] if "symbol" in call.query else listed
    return Reply({"category": category, "list": [ticker_row(world, category, symbol) for symbol in symbols]})


def ticker_row(world: World, category: str, symbol: str) -> dict[str, Any]:
    """A ticker as REST and WebSocket show it."""
    market, now = world.market, world.clock.now_ms()
    instrument = market.instruments[symbol]
    digits = instrument.price_digits
    price, before = market.price(symbol, now), market.price(symbol, now - DAY_MS)
    bids, asks = world.books.levels(symbol, 1)
    stamp = np.array([now], dtype=np.int64)
    premium = float(market.premium(symbol, stamp)[0])
    day = market.between(symbol, bar_open("60", now - DAY_MS), now + 1, now)
    coming, rates = market.settlements(symbol, now, now + DAY_MS)
    row = {
        "symbol": symbol, "lastPrice": f"{price:.{digits}f}", "prevPrice24h": f"{before:.{digits}f}",
        "price24hPcnt": f"{price / before - 1:.6f}", "turnover24h": f"{day.turnover.sum():.4f}",
        "highPrice24h": f"{day.high.max(initial=price):.{digits}f}", "lowPrice24h": f"{day.low.min(initial=price):.{digits}f}",
        "volume24h": f"{day.volume.sum():.3f}", "bid1Price": bids[0][0] if bids else "",
        "bid1Size": bids[0][1] if bids else "", "ask1Price": asks[0][0] if asks else "",
        "ask1Size": asks[0][1] if asks else "",
    }  # fmt: skip
    if category != "spot":
        interest = float(market.open_interest(symbol, stamp)[0])
        row |= {
            "indexPrice": f"{price / (1 + premium):.{digits + 1}f}", "markPrice": f"{price * (1 + premium / 4):.{digits + 1}f}",
            "openInterest": f"{interest:.3f}", "openInterestValue": f"{interest * price:.2f}", "singleOpenInterest": f"{interest:.3f}",
            "fundingRate": f"{rates[0]:.8f}" if len(rates) else "", "nextFundingTime": str(coming[0]) if len(coming) else "",
        }  # fmt: skip
    return row


def recent_trade(world: World, call: Call) -> Reply:
    instrument = _instrument(world, call.query)
    limit = _whole(call.query, "limit", 50, 1, 1000)
    now = world.clock.now_ms()
    rows = []
    for i in range(limit):
        at = now // 1000 * 1000 - i * 1000
        price = world.market.price(instrument.symbol, at)
        rows.append({
            "execId": f"stand-in-{at}", "symbol": instrument.symbol, "price": f"{price:.{instrument.price_digits}f}",
            "size": instrument.min_order_qty, "side": "Buy" if at // 1000 % 2 else "Sell", "time": str(at),
            "isBlockTrade": False, "isRPITrade": False, "seq": str(at // 1000),
        })  # fmt: skip
    return Reply({"category": call.query.get("category"), "list": rows})


def _instrument(world: World, query: Mapping[str, str], category: str | None = None) -> Instrument:
    """category: what counts where none is given; None: it must be given. Inverse contracts are not listed here."""
    category = query.get("category") or category
    if category not in CATEGORIES:
        raise Refused(10001, "Category is invalid")
    instrument = None if category == "inverse" else world.market.instruments.get(query.get("symbol", ""))
    if instrument is None:
        raise Refused(10001, "params error: Symbol Is Invalid")
    return instrument


def _whole(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None or text == "":
        return default
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or int(text) < least:
        raise Refused(10001, f"params error: {name} invalid")
    return min(int(text), most)
