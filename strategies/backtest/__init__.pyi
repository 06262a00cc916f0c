from .accounting import accounts_for as accounts_for
from .execution import backtest as backtest
