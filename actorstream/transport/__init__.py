"""How bytes reach a broker: TCP sockets with or without TLS, and an in-memory twin of them for tests.

Everything here belongs to one asyncio loop: the one that runs when a connection is opened.
"""

from actorstream.transport.base import Listener, Opener, Transport
from actorstream.transport.memory import MemoryLink, MemoryNetwork, MemoryTransport
from actorstream.transport.tcp import explain, open_tcp

__all__ = ["Listener", "MemoryLink", "MemoryNetwork", "MemoryTransport", "Opener", "Transport", "explain", "open_tcp"]
