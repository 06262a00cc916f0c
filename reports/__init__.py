"""Pages and statistics of finished runs, from their files. Knows strategies, nas and data.

What a user may rely on is in `__all__`; it is declared in `__init__.pyi` and loaded when it is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
