"""One search: `from nas.search import search`, then `search(panel)`; on the command line `python -m nas.search`.

Loaded when it is asked for: torch takes seconds that `--help` does not need.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
