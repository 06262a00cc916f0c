"""Which market history a command asks for: the settings that all of them share (`data.sources.load_market` loads it)."""

from __future__ import annotations

from pydantic import field_validator

from data.settings import Settings, setting
from data.symbols import parse_symbols

MARKET = "Market"


class MarketSettings(Settings):
    """Symbols, bars and span, from a source or from files."""

    symbol: tuple[str, ...] = setting(("BTCUSDT",), "One symbol or several: BTCUSDT,ETHUSDT.", MARKET, min_length=1)
    interval: str | None = setting(
        None, "Bar length, as Bybit names it: 1 5 15 30 60 240 D (default: a file's own, else 60).", MARKET
    )
    start: str | None = setting(None, "First bar, UTC, e.g. 2023-01-01.", MARKET)
    end: str | None = setting(None, "History ends before this time, UTC.", MARKET)
    source: str = setting(
        "auto",
        "auto, bybit, simulated, demo: simulated with something to be found, or bundled: real daily prices of SP500, NASDAQ or STOCKS20.",
        MARKET,
    )
    category: str = setting("linear", "linear (perpetuals) or spot (no shorts, no funding, spot fees).", MARKET)
    data: tuple[str, ...] = setting(
        (), "File of candles instead of a source (CSV, Parquet, Feather ...); one per symbol.", MARKET, repeat=True
    )
    funding: tuple[str, ...] = setting((), "Funding settlements of the same symbols.", MARKET, repeat=True)
    columns: tuple[str, ...] = setting(
        (), "What a file's columns are, where their names do not say it: time=ts,volume=vol.", MARKET
    )
    timezone: str | None = setting(
        None,
        "Of times in files that name none (default: UTC): Europe/Berlin, or data=UTC,funding=Europe/Berlin.",
        MARKET,
    )
    any_candles: bool = setting(False, "Take candles that are no prices (Heikin-Ashi), too.", MARKET)
    fill_gaps: bool = setting(False, "Fill missing bars with the last close.", MARKET)
    timeframes: tuple[str, ...] = setting(
        (), "Longer candles the features may use: 240,D (each seen after its close).", MARKET
    )

    @field_validator("symbol", mode="after")
    @classmethod
    def _names(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        return parse_symbols(symbols)
