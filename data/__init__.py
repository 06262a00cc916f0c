"""Market history: from a source or files to one validated, immutable `Panel`. Knows nothing of models.

What a user may rely on is in `__all__`; it is declared in `__init__.pyi` and loaded when it is asked for.
"""

import lazy_loader

from data import place

place.settle()

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
