"""Endpoints of account, positions, user and assets, behind the signature: `AccountEndpoints(exchange, key, info).routes()`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from data.standin.account import ZERO
from data.standin.admission import guard
from data.standin.market import Instrument
from data.standin.matching import MAKER, SPOT_FEE, TAKER, Exchange
from data.standin.parameters import DAY_MS, Parameters
from data.standin.rows import closed_row, log_rows, page, position_row, text_of
from data.standin.tickets import WAITING, Fill, Ticket
from data.standin.world import Call, Refused, Reply

CONTRACTS = ("linear", "inverse", "option")
MARGIN_MODES = ("ISOLATED_MARGIN", "REGULAR_MARGIN", "PORTFOLIO_MARGIN")


class AccountEndpoints:
    """Reads and changes the account. info: what account/info answers."""

    def __init__(self, exchange: Exchange, key: str, info: dict[str, Any]) -> None:
        self._exchange, self._world = exchange, exchange.world
        self._key, self._info = key, info

    def routes(self) -> dict[tuple[str, str], Callable[[Call], Reply]]:
        """(method, path) -> endpoint."""
        return {
            ("GET", "/v5/position/list"): self.positions,
            ("GET", "/v5/position/closed-pnl"): self._closed,
            ("POST", "/v5/position/set-leverage"): self._leverage,
            ("POST", "/v5/position/switch-mode"): self._mode,
            ("POST", "/v5/position/trading-stop"): self._trading_stop,
            ("GET", "/v5/account/wallet-balance"): self._wallet,
            ("GET", "/v5/account/info"): self.info,
            ("GET", "/v5/account/fee-rate"): self.fees,
            ("GET", "/v5/account/transaction-log"): self._log,
            ("POST", "/v5/account/set-margin-mode"): self._margin_mode,
            ("GET", "/v5/asset/coin/query-info"): self._coins,
            ("GET", "/v5/user/query-api"): self._permissions,
        }

    # positions

    def positions(self, call: Call) -> Reply:
        given, account = Parameters(call.query), self._exchange.account
        category = given.choice("category", CONTRACTS)
        if "symbol" in given:
            symbol = self._exchange.instrument(category, given.text("symbol")).symbol
            places = [(symbol, i) for i in account.indices(symbol)]
        elif category == "linear":
            if given.text("settleCoin") != "USDT":
                return page([], call, 200)
            places = [place for place, h in account.holdings.items() if h.size]
        else:
            places = []
        return page([self.position(*p) for p in places], call, 200)

    def position(self, symbol: str, index: int) -> dict[str, Any]:
        return position_row(
            self._exchange.account, symbol, index, self._exchange.mark(symbol), len(self._exchange.fills)
        )

    def _closed(self, call: Call) -> Reply:
        given = Parameters(call.query)
        category = given.choice("category", ("linear", "inverse", "option"))
        symbol = self._exchange.instrument(category, given.text("symbol")).symbol if "symbol" in given else ""
        start, end = given.window(self._world.clock.now_ms())
        orders: dict[str, list[Fill]] = {}
        for fill in self._exchange.fills:
            if fill.closed and start <= fill.time_ms <= end and symbol in ("", fill.ticket.symbol):
                orders.setdefault(fill.ticket.order_id, []).append(fill)
        lever = self._exchange.account.leverage
        rows = [closed_row(fills, lever.get(fills[0].ticket.symbol, Decimal(10))) for fills in orders.values()]
        return page(rows[::-1] if category == "linear" else [], call, 100, default=50)

    def _leverage(self, call: Call) -> Reply:
        given = Parameters(call.body)
        instrument = self._exchange.instrument(given.choice("category", CONTRACTS[:2]), given.text("symbol"))
        lever, other = given.decimal("buyLeverage"), given.decimal("sellLeverage")
        if lever != other or lever < 1:
            raise Refused(10001, "params error: buyLeverage must be the same as sellLeverage, and at least 1")
        if lever > Decimal(instrument.max_leverage):
            raise Refused(110013, "cannot set leverage greater than maxLeverage by risk limit")
        if self._exchange.account.leverage.get(instrument.symbol, Decimal(10)) == lever:
            raise Refused(110043, "leverage not modified")
        self._exchange.account.leverage[instrument.symbol] = lever
        return Reply({})

    def _trading_stop(self, call: Call) -> Reply:
        """Stop loss and take profit of a position: of the whole set, moved, or removed with 0; of a part added. No trailing ones."""
        given, exchange = Parameters(call.body), self._exchange
        instrument = exchange.instrument(given.choice("category", CONTRACTS), given.text("symbol"))
        symbol, index = instrument.symbol, given.whole("positionIdx")
        if index not in exchange.account.indices(symbol):
            raise Refused(10001, "position idx not match position mode")
        mode = given.choice("tpslMode", ("Full", "Partial"))
        for name in ("tpTriggerBy", "slTriggerBy"):
            given.choice(name, ("LastPrice", "IndexPrice", "MarkPrice"), "LastPrice")
        if given.decimal("trailingStop", ZERO) or not {"stopLoss", "takeProfit"} & set(call.body):
            raise Refused(10001, "params error: stopLoss or takeProfit is required; trailing stops are not served here")
        if not exchange.held(symbol, index):
            raise Refused(10001, "can not set tp/sl/ts for zero position")
        h, mark = exchange.account.holding(symbol, index), exchange.mark(symbol)
        sign = 1 if h.size > 0 else -1
        if mode == "Partial":
            self._part_stops(given, instrument, index, sign)
            return Reply({})
        stop = guard(given, "stopLoss", sign, mark) if "stopLoss" in given else h.stop
        take = guard(given, "takeProfit", -sign, mark) if "takeProfit" in given else h.take
        if (stop, take) == (h.stop, h.take):
            raise Refused(34040, "not modified")
        for price in (stop, take):
            if price % Decimal(instrument.tick_size):
                raise Refused(10001, "params error: stopLoss or takeProfit is not a multiple of the tick")
        if stop != h.stop:
            exchange.set_stop(symbol, index, stop)
        if take != h.take:
            exchange.set_take(symbol, index, take)
        exchange.publish("position", [symbol])
        return Reply({})

    def _part_stops(self, given: Parameters, instrument: Instrument, index: int, sign: int) -> None:
        """Conditional reduce-only orders for a part of a position."""
        exchange, now = self._exchange, self._world.clock.now_ms()
        for name, size, kind in (("stopLoss", "slSize", "StopLoss"), ("takeProfit", "tpSize", "TakeProfit")):
            if name not in given:
                continue
            loss = kind == "StopLoss"
            price = guard(given, name, sign if loss else -sign, exchange.mark(instrument.symbol))
            qty = given.decimal(size)
            if not qty or not price or qty % Decimal(instrument.qty_step) or price % Decimal(instrument.tick_size):
                raise Refused(10001, f"params error: {name} or {size} invalid")
            exchange.enter(Ticket(
                str(uuid.uuid4()), "", instrument.symbol, "Sell" if sign > 0 else "Buy", "Market", "IOC", qty, ZERO, True, index, now, now,
                WAITING, created_by=f"CreateByPartial{kind}", trigger=price, rises=(sign > 0) != loss, filter="StopOrder",
            ))  # fmt: skip

    def _mode(self, call: Call) -> Reply:
        given, account = Parameters(call.body), self._exchange.account
        category = given.choice("category", ("linear", "inverse"))
        if "symbol" in given:
            symbols = [self._exchange.instrument(category, given.text("symbol")).symbol]
        elif given.text("coin") == "USDT":
            symbols = list(self._world.market.instruments)
        else:
            raise Refused(10001, "params error: coin invalid")
        mode = given.whole("mode")
        if mode not in (0, 3):
            raise Refused(10001, "params error: mode invalid")
        hedge = mode == 3
        if all((len(account.indices(s)) == 2) == hedge for s in symbols):
            raise Refused(110025, "Position mode is not modified")
        if any(h.size for (s, _), h in account.holdings.items() if s in symbols):
            raise Refused(110024, "Existing position, so position mode cannot be switched")
        if any(t.symbol in symbols and t.category == "linear" for t in self._exchange.alive.values()):
            raise Refused(110028, "Existing open orders, so position mode cannot be switched")
        account.hedged |= dict.fromkeys(symbols, hedge)
        return Reply({})

    # account

    def _wallet(self, call: Call) -> Reply:
        given = Parameters(call.query)
        given.choice("accountType", ("UNIFIED",))
        row = self.wallet()
        if "coin" in given:
            wanted = given.text("coin").split(",")
            row["coin"] = [coin for coin in row["coin"] if coin["coin"] in wanted]
        return Reply({"list": [row]})

    def wallet(self) -> dict[str, Any]:
        account, marks = self._exchange.account, self._exchange.marks()
        equity, margin, keep = account.equity(marks), account.initial_margin(marks), account.maintenance(marks)
        orders, profit = self._exchange.order_margin(), account.unrealised(marks)
        coins = [self._coin(self._exchange.account.coin, equity, account.wallet, profit, margin, keep, equity)]
        worth = ZERO
        for coin, amount in account.coins.items():
            if amount:
                value = amount * self._exchange.mark(f"{coin}USDT")
                worth += value
                coins.append(self._coin(coin, amount, amount, ZERO, ZERO, ZERO, value))
        rate = text_of(margin / equity if equity > 0 else ZERO)
        kept = text_of(keep / equity if equity > 0 else ZERO)
        isolated = self._info.get("marginMode") == "ISOLATED_MARGIN"
        return {
            "accountType": "UNIFIED", "totalEquity": text_of(equity + worth), "totalWalletBalance": text_of(account.wallet + worth),
            "totalMarginBalance": "" if isolated else text_of(equity),
            "totalAvailableBalance": "" if isolated else text_of(equity - margin - orders), "totalPerpUPL": text_of(profit),
            "totalInitialMargin": "" if isolated else text_of(margin + orders),
            "totalInitialMarginByMp": "" if isolated else text_of(margin + orders),
            "totalMaintenanceMargin": "" if isolated else text_of(keep), "totalMaintenanceMarginByMp": "" if isolated else text_of(keep),
            "accountIMRate": "" if isolated else rate, "accountIMRateByMp": "" if isolated else rate, "accountLTV": "0",
            "accountMMRate": "" if isolated else kept, "accountMMRateByMp": "" if isolated else kept, "coin": coins,
        }  # fmt: skip

    def _coin(
        self,
        coin: str,
        equity: Decimal,
        balance: Decimal,
        profit: Decimal,
        margin: Decimal,
        keep: Decimal,
        usd: Decimal,
    ) -> dict[str, Any]:
        settles = coin == self._exchange.account.coin
        return {
            "coin": coin, "equity": text_of(equity), "usdValue": text_of(usd), "walletBalance": text_of(balance),
            "unrealisedPnl": text_of(profit), "cumRealisedPnl": "0", "totalPositionIM": text_of(margin),
            "totalOrderIM": text_of(self._exchange.order_margin() if settles else ZERO), "totalPositionMM": text_of(keep),
            "availableToWithdraw": "", "availableToBorrow": "", "borrowAmount": "0", "accruedInterest": "0", "bonus": "0",
            "locked": text_of(self._exchange.locked(coin)), "spotBorrow": "0", "spotHedgingQty": "0", "collateralSwitch": settles,
            "marginCollateral": settles,
        }  # fmt: skip

    def info(self, _call: Call) -> Reply:
        return Reply(dict(self._info))

    def fees(self, call: Call) -> Reply:
        given = Parameters(call.query)
        category = given.choice("category", ("spot", "linear", "inverse", "option"))
        if "symbol" in given:
            symbols = [self._exchange.instrument(category, given.text("symbol")).symbol]
        else:
            symbols = list(self._world.market.instruments) if category in ("spot", "linear") else []
        taker, maker = (SPOT_FEE, SPOT_FEE) if category == "spot" else (TAKER, MAKER)
        row = {"takerFeeRate": text_of(taker), "makerFeeRate": text_of(maker), "baseCoin": ""}
        return Reply({"category": category, "list": [{"symbol": symbol, **row} for symbol in symbols]})

    def _log(self, call: Call) -> Reply:
        given = Parameters(call.query)
        given.choice("accountType", ("UNIFIED",), "UNIFIED")
        start, end = given.window(self._world.clock.now_ms(), default_ms=DAY_MS)
        wanted = {name: given.text(name) for name in ("category", "currency", "type") if name in given}
        rows = [
            row
            for fill in self._exchange.fills
            if start <= fill.time_ms <= end
            for row in log_rows(fill)
            if all(row[name] == value for name, value in wanted.items())
        ]
        return page(rows[::-1], call, 50, default=20)

    def _margin_mode(self, call: Call) -> Reply:
        mode = Parameters(call.body).choice("setMarginMode", MARGIN_MODES)
        if mode == "PORTFOLIO_MARGIN" and self._exchange.account.wallet < 1000:
            reason = {"reasonCode": "3400000", "reasonMsg": "Equity needs to be equal to or greater than 1000 USDC"}
            return Reply({"reasons": [reason]}, 3400045, "Set margin mode failed")
        self._info["marginMode"] = mode
        return Reply({"reasons": []}, message="Request accepted")

    # user and assets

    def _coins(self, call: Call) -> Reply:
        wanted = Parameters(call.query).text("coin", "")
        instruments = self._world.market.instruments.values()
        names = ["USDT", *sorted({i.base_coin for i in instruments})]
        chain = {
            "chainType": "Stand-in", "confirmation": "1", "withdrawFee": "1", "depositMin": "0", "withdrawMin": "1", "chain": "STANDIN",
            "chainDeposit": "0", "chainWithdraw": "0", "minAccuracy": "8", "withdrawPercentageFee": "0", "contractAddress": "",
            "safeConfirmNumber": "1", "withdrawMax": "-1",
        }  # fmt: skip
        rows = [{"name": c, "coin": c, "remainAmount": "", "chains": [chain]} for c in names if wanted in ("", c)]
        return Reply({"rows": rows}, message="success")

    def _permissions(self, _call: Call) -> Reply:
        allowed: dict[str, list[str]] = {
            "ContractTrade": ["Order", "Position"], "Spot": ["SpotTrade"], "Wallet": [], "Options": [], "Derivatives": ["DerivativesTrade"],
            "CopyTrading": [], "BlockTrade": [], "Exchange": [], "NFT": [], "Affiliate": [], "Earn": [], "FiatP2P": [],
            "FiatConvertBroker": [], "FiatBitPay": [], "BitCard": [], "ByXPost": [],
        }  # fmt: skip
        return Reply({
            "id": "1", "note": "stand-in", "apiKey": self._key, "readOnly": 0, "secret": "", "permissions": allowed, "ips": ["*"],
            "type": 1, "deadlineDay": 90, "expiredAt": "2030-01-01T00:00:00Z", "createdAt": "2020-01-01T00:00:00Z", "unified": 0,
            "uta": 1, "userID": 1, "inviterID": 0, "vipLevel": "No VIP", "mktMakerLevel": "0", "affiliateID": 0, "rsaPublicKey": "",
            "isMaster": True, "parentUid": "0", "kycLevel": "LEVEL_1", "kycRegion": "",
        }, message="")  # fmt: skip
