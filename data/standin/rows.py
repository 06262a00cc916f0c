"""Rows as v5 shows them: orders, executions, positions, closed profit, the transaction log; every value a string, as on the wire."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from data.standin.account import ZERO, Account, Holding
from data.standin.parameters import Parameters
from data.standin.tickets import WAITING, Fill, Ticket
from data.standin.world import Call, Refused, Reply


def page(rows: list[dict[str, Any]], call: Call, most: int, default: int = 20) -> Reply:
    """One page of a list, newest first, with the cursor to the next one."""
    given = Parameters(call.query)
    limit = given.whole("limit", default, 1, most)
    place = given.text("cursor", "page-0").removeprefix("page-")
    if not place.isdigit() or len(place) > 9:
        raise Refused(10001, "params error: cursor invalid")
    start = int(place)
    cursor = f"page-{start + limit}" if start + limit < len(rows) else ""
    return Reply(
        {"nextPageCursor": cursor, "category": given.text("category", ""), "list": rows[start : start + limit]}
    )


def text_of(value: Decimal) -> str:
    return format(value.normalize(), "f") if value else "0"


def order_row(t: Ticket) -> dict[str, Any]:
    """As order/realtime and order/history show it."""
    return {
        "orderId": t.order_id, "orderLinkId": t.link_id, "blockTradeId": "", "symbol": t.symbol, "price": text_of(t.price),
        "qty": text_of(t.qty), "side": t.side, "isLeverage": "", "positionIdx": t.index, "orderStatus": t.status,
        "cancelType": t.cancel, "rejectReason": t.reject, "avgPrice": text_of(t.average) if t.filled else "",
        "leavesQty": text_of(t.left if t.open else ZERO), "leavesValue": text_of((t.left if t.open else ZERO) * t.price),
        "cumExecQty": text_of(t.filled), "cumExecValue": text_of(t.value), "cumExecFee": text_of(t.fee),
        "timeInForce": t.time_in_force, "orderType": t.kind, "stopOrderType": _stop_order_type(t), "orderIv": "",
        "triggerPrice": text_of(t.trigger), "takeProfit": text_of(t.take) if t.take else "", "stopLoss": text_of(t.stop) if t.stop else "",
        "tpTriggerBy": "LastPrice" if t.take else "UNKNOWN", "slTriggerBy": "MarkPrice" if t.stop else "UNKNOWN",
        "triggerDirection": 0 if not t.trigger or t.category == "spot" else 1 if t.rises else 2,
        "triggerBy": t.trigger_by if t.trigger else "UNKNOWN", "lastPriceOnCreated": "",
        "reduceOnly": t.reduce_only, "closeOnTrigger": False,
        "smpType": "None", "smpGroup": 0, "smpOrderId": "", "tpslMode": "", "tpLimitPrice": "", "slLimitPrice": "",
        "placeType": "", "createdTime": str(t.created_ms), "updatedTime": str(t.updated_ms),
        "createType": t.created_by or "CreateByUser", "cumFeeDetail": {_fee_coin(t): text_of(t.fee)} if t.fee else {},
    }  # fmt: skip


def _stop_order_type(t: Ticket) -> str:
    guards = ("StopLoss", "TakeProfit", "PartialStopLoss", "PartialTakeProfit")
    name = t.created_by.removeprefix("CreateBy")
    return name if name in guards else ({"StopOrder": "Stop", "tpslOrder": "tpslOrder"}.get(t.filter, "UNKNOWN"))


def _fee_coin(t: Ticket) -> str:
    return t.symbol.removesuffix("USDT") if t.category == "spot" and t.side == "Buy" else "USDT"


def guard_rows(symbol: str, index: int, h: Holding) -> list[dict[str, Any]]:
    """The conditional orders that a stop loss and a take profit are, as order/realtime lists them."""
    found = []
    for price, order_id, at_ms, name in (
        (h.stop, h.stop_id, h.stop_ms, "StopLoss"),
        (h.take, h.take_id, h.take_ms, "TakeProfit"),
    ):
        if price:
            side, rises = "Sell" if h.size > 0 else "Buy", (h.size > 0) == (name == "TakeProfit")
            t = Ticket(
                order_id, "", symbol, side, "Market", "IOC", abs(h.size), ZERO, True, index, at_ms, at_ms, WAITING,
                created_by=f"CreateBy{name}", trigger=price, rises=rises, trigger_by="MarkPrice",
            )  # fmt: skip
            found.append({**order_row(t), "closeOnTrigger": True, "tpslMode": "Full"})
    return found


def stream_order_row(t: Ticket) -> dict[str, Any]:
    """As the private topic `order` shows it."""
    return {**order_row(t), "category": t.category, "feeCurrency": _fee_coin(t)}


def stream_position_row(row: dict[str, Any]) -> dict[str, Any]:
    """As the private topic `position` shows it: entryPrice instead of avgPrice."""
    out = {k: v for k, v in row.items() if k != "avgPrice"}
    return {
        **out, "entryPrice": row["avgPrice"], "sessionAvgPrice": "", "category": "linear",
        "positionIMByMp": row["positionIM"], "positionMMByMp": row["positionMM"],
    }  # fmt: skip


def fill_row(f: Fill) -> dict[str, Any]:
    """As execution/list and the private topic `execution` show it."""
    t = f.ticket
    return {
        "symbol": t.symbol, "orderId": t.order_id, "orderLinkId": t.link_id, "side": f.side, "orderPrice": text_of(t.price),
        "orderQty": text_of(t.qty), "leavesQty": text_of(t.left),
        "createType": t.created_by or ("CreateByUser" if t.link_id else ""), "orderType": t.kind,
        "stopOrderType": _stop_order_type(t), "execFee": text_of(f.fee), "execId": f.exec_id,
        "execPrice": text_of(f.price), "execQty": text_of(f.qty), "execType": f.kind, "execValue": text_of(f.qty * f.price),
        "execTime": str(f.time_ms), "feeCurrency": f.fee_coin if t.category == "spot" else "",
        "isMaker": f.maker, "feeRate": text_of(f.rate), "tradeIv": "",
        "markIv": "", "markPrice": text_of(f.mark), "indexPrice": "", "underlyingPrice": "", "blockTradeId": "",
        "closedSize": text_of(f.closed), "seq": f.seq, "isLeverage": "0",
    }  # fmt: skip


def position_row(account: Account, symbol: str, index: int, mark: Decimal, seq: int) -> dict[str, Any]:
    """As position/list shows it; a flat one too."""
    h = account.holdings.get((symbol, index), Holding())
    lever = account.leverage.get(symbol, Decimal(10))
    value = abs(h.size) * h.average
    return {
        "positionIdx": index, "riskId": 1, "riskLimitValue": "2000000", "symbol": symbol,
        "side": "Buy" if h.size > 0 else "Sell" if h.size < 0 else "", "size": text_of(abs(h.size)),
        "avgPrice": text_of(h.average), "positionValue": text_of(value), "tradeMode": 0, "positionStatus": "Normal",
        "autoAddMargin": 0, "adlRankIndicator": 2 if h.size else 0, "leverage": text_of(lever),
        "positionBalance": text_of(value / lever), "breakEvenPrice": text_of(h.average), "markPrice": text_of(mark), "liqPrice": "",
        "bustPrice": "", "positionMM": text_of(value / 200), "positionMMByMp": text_of(value / 200),
        "positionIM": text_of(value / lever), "positionIMByMp": text_of(value / lever), "tpslMode": "Full",
        "takeProfit": text_of(h.take) if h.take else "", "stopLoss": text_of(h.stop) if h.stop else "", "trailingStop": "0",
        "unrealisedPnl": text_of(h.profit(mark)), "curRealisedPnl": text_of(h.realised), "cumRealisedPnl": text_of(h.realised),
        "seq": seq, "isReduceOnly": False, "mmrSysUpdateTime": "", "mmrSysUpdatedTime": "", "leverageSysUpdatedTime": "",
        "sessionAvgPrice": "", "createdTime": str(h.updated_ms), "updatedTime": str(h.updated_ms),
    }  # fmt: skip


def closed_row(fills: list[Fill], lever: Decimal) -> dict[str, Any]:
    """What one order closed, as position/closed-pnl shows it: profit after the fees of both ways."""
    t = fills[0].ticket
    size = sum((f.closed for f in fills), ZERO)
    entry, out = sum((f.closed * f.entry for f in fills), ZERO), sum((f.closed * f.price for f in fills), ZERO)
    fee_in = (entry * fills[0].rate).quantize(Decimal("1E-8"))
    fee_out = sum((f.fee * f.closed / f.qty for f in fills), ZERO).quantize(Decimal("1E-8"))
    profit = sum((f.gain for f in fills), ZERO) - fee_in - fee_out
    return {
        "symbol": t.symbol, "orderType": t.kind, "leverage": text_of(lever), "updatedTime": str(fills[-1].time_ms), "side": t.side,
        "orderId": t.order_id, "closedPnl": text_of(profit), "avgEntryPrice": text_of(entry / size), "qty": text_of(t.qty),
        "cumEntryValue": text_of(entry), "createdTime": str(t.created_ms), "orderPrice": text_of(t.price), "closedSize": text_of(size),
        "avgExitPrice": text_of(out / size), "execType": fills[0].kind, "fillCount": str(len(fills)), "cumExitValue": text_of(out),
        "openFee": text_of(fee_in), "closeFee": text_of(fee_out),
    }  # fmt: skip


def log_rows(f: Fill) -> list[dict[str, Any]]:
    """What changed the wallet, as account/transaction-log shows it: change = cashFlow + funding - fee; on spot a row for each coin."""
    t, settles = f.ticket, f.kind == "Funding"
    row = {
        "id": f.exec_id, "symbol": t.symbol, "category": t.category, "side": f.side, "transactionTime": str(f.time_ms),
        "type": "SETTLEMENT" if settles else "LIQUIDATION" if f.kind == "BustTrade" else "TRADE", "transSubType": "",
        "qty": text_of(f.qty), "size": text_of(f.size), "currency": "USDT", "tradePrice": text_of(f.price),
        "funding": text_of(-f.fee) if settles else "", "fee": "0" if settles else text_of(f.fee), "cashFlow": text_of(f.gain),
        "change": text_of(f.gain - f.fee), "cashBalance": text_of(f.balance), "feeRate": text_of(f.rate), "bonusChange": "",
        "tradeId": f.exec_id, "orderId": t.order_id, "orderLinkId": t.link_id, "extraFees": "",
    }  # fmt: skip
    if t.category != "spot":
        return [row]
    sign = 1 if f.side == "Buy" else -1
    rows = []
    for coin, flow, after in (
        (t.symbol.removesuffix("USDT"), sign * f.qty, f.size),
        ("USDT", -sign * f.qty * f.price, f.balance),
    ):
        fee = f.fee if coin == f.fee_coin else ZERO
        rows.append({
            **row, "id": f"{f.exec_id}-{coin}", "currency": coin, "qty": text_of(flow), "size": "0", "cashFlow": text_of(flow),
            "fee": text_of(fee), "change": text_of(flow - fee), "cashBalance": text_of(after),
        })  # fmt: skip
    return rows
