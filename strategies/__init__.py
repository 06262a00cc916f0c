"""From forecasts to positions, orders and equity; the main job; paper trading. Knows data and nas.

What a user may rely on is in `__all__`; it is declared in `__init__.pyi` and loaded when it is asked for. A backtest itself is
`strategies.backtest.backtest`.
"""

import lazy_loader

import data  # noqa: F401  # where kernels are kept is settled before numba asks

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
