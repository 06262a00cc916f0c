"""Trading in the past: terms, positions, Backtrader's account and a second one. `from strategies.backtest import backtest`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
