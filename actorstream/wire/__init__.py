"""RabbitMQ Streams on the wire: bytes to values and back. Nothing here does I/O, reads a clock or knows of a thread."""

from typing import Final

from actorstream.wire.chunk import INTERPRETED

compiled: Final = not INTERPRETED
"""Whether this installation has these modules as machine code (mypyc); the same source does the same without."""
