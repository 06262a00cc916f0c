"""Names of markets, as people and other programs write them. None becomes a path."""

from __future__ import annotations

import re
from collections.abc import Iterable

from data.errors import InputError, shortened

#: BTCUSDT, BRK.B, ^GSPC, EURUSD=X, BTC-USD
_NAME = re.compile(r"[A-Za-z0-9^][A-Za-z0-9^=_-]*(\.[A-Za-z0-9^=_-]+)*")
_CCXT = re.compile(r"([A-Za-z0-9]+)/([A-Za-z0-9]+)(?::([A-Za-z0-9]+))?")
MOST_LETTERS = 40
#: the stocks of `--source bundled` (data.bundled); as a symbol the name stands for all of them
STOCKS20 = (
    "AAPL", "AMD", "BAC", "BBY", "CVX", "GE", "HD", "JNJ", "JPM", "KO", "LLY", "MRK", "MSFT", "PEP", "PFE", "PG", "RRC", "UNH", "WMT",
    "XOM",
)  # fmt: skip


def parse_symbol(text: str) -> str:
    """The exchange's name of a market: `BTC/USDT:USDT`, as ccxt writes it, is BTCUSDT. InputError for what is no name.

    >>> parse_symbol("BTC/USDT:USDT"), parse_symbol("BTC/USDC:USDC"), parse_symbol("BRK.B")
    ('BTCUSDT', 'BTCPERP', 'BRK.B')
    """
    name = text.strip()
    pair = _CCXT.fullmatch(name)
    if pair is not None:
        base, quote, settled = pair.groups()
        # Bybit's perpetuals that are paid in USDC
        name = f"{base}PERP" if settled == quote == "USDC" else f"{base}{quote}"
    if len(name) > MOST_LETTERS or _NAME.fullmatch(name) is None:
        raise InputError(f"{shortened(text)!r} is no symbol; give one like BTCUSDT, or BTC/USDT:USDT")
    return name


def parse_symbols(texts: Iterable[str]) -> tuple[str, ...]:
    """`parse_symbol` of each, STOCKS20 spelt out; InputError where one comes twice or there is none."""
    names = tuple(
        name for text in texts for name in (STOCKS20 if text.strip() == "STOCKS20" else (parse_symbol(text),))
    )
    if not names:
        raise InputError("no symbol given; expected --symbol BTCUSDT or --symbol BTCUSDT,ETHUSDT")
    if len(set(names)) != len(names):
        raise InputError(f"a symbol is given twice: {', '.join(names)}")
    return names
