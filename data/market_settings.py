"""Which market history a command asks for: the settings that all of them share (`data.sources.load_market` loads it)."""

from __future__ import annotations

from data.settings import Settings, setting

MARKET = "Market"


class MarketSettings(Settings):
    """Symbols, bars and span, from a source or from files."""

    symbol: tuple[str, ...] = setting(("BTCUSDT",), "One symbol or several: BTCUSDT,ETHUSDT.", MARKET, min_length=1)
    interval: str = setting("60", "Bar length as Bybit names it: 1 5 15 30 60 240 D.", MARKET)
    start: str | None = setting(None, "First bar, UTC, e.g. 2023-01-01.", MARKET)
    end: str | None = setting(None, "History ends before this time, UTC.", MARKET)
    source: str = setting("auto", "auto, bybit or simulated.", MARKET)
    category: str = setting("linear", "linear (perpetuals) or spot (no shorts, no funding, spot fees).", MARKET)
    data: tuple[str, ...] = setting(
        (), "CSV or Parquet candles instead of a source; one per symbol.", MARKET, repeat=True
    )
    funding: tuple[str, ...] = setting((), "Funding settlements of the same symbols.", MARKET, repeat=True)
    fill_gaps: bool = setting(False, "Fill missing bars with the last close.", MARKET)
    timeframes: tuple[str, ...] = setting(
        (), "Longer candles the features may use: 240,D (each seen after its close).", MARKET
    )
