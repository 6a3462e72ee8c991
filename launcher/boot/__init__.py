"""Boot data: what a machine runs when it starts. Opaque to providers.

The agent is packed from launcher/agent: comments, docstrings and annotations taken off, compressed. What the user
wrote travels inside the orders as encoded data, never spliced into a script.
"""

from launcher.boot.orders import DEFAULT_HEARTBEAT_S, HEARTBEAT_S, make_orders
from launcher.boot.pack import packed_agent, packed_core, packed_rest
from launcher.boot.render import LIMIT_BYTES, build, is_rented

__all__ = [
    "DEFAULT_HEARTBEAT_S",
    "HEARTBEAT_S",
    "LIMIT_BYTES",
    "build",
    "is_rented",
    "make_orders",
    "packed_agent",
    "packed_core",
    "packed_rest",
]
