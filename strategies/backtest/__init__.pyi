from .execution import backtest as backtest
