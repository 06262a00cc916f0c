"""The stand-in exchange that stands still."""

from tests.data.moment import exchange, history

__all__ = ["exchange", "history"]
