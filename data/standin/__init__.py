"""A stand-in exchange: a real HTTP and WebSocket server on loopback that speaks Bybit v5, and fails on request.

It shares no code with the trader: what it believes about v5 was written down a second time, so that an error on one side
shows. `python -m data.standin` runs it for a person; tests use `with StandIn() as exchange: ...`.
"""

from data.standin.clock import Clock
from data.standin.faults import Fault, Faults
from data.standin.market import Instrument, Market
from data.standin.server import StandIn
from data.standin.world import Reply, World

__all__ = ["Clock", "Fault", "Faults", "Instrument", "Market", "Reply", "StandIn", "World"]
