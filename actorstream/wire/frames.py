"""Cutting the byte stream into frames: each is a u32 size and as many bytes (protocol section 1)."""

from __future__ import annotations

from typing import Final

from actorstream.errors import MalformedFrame

_SIZE_BYTES: Final = 4


class FrameBuffer:
    """Takes bytes however they were split on the way, and gives back whole frame bodies.

    `max_size` (bytes of a body, changeable at any time) bounds what a peer can make us store. Memory grows with what
    has arrived, never with what a size field announces.

    A frame that is too large ends the stream: what follows cannot be told apart any more. `fault` says so then; the
    frames before it are still returned, and everything after it is ignored.
    """

    __slots__ = ("_missing", "_partial", "fault", "max_size")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.fault: MalformedFrame | None = None
        # Either the first bytes of a size field (_missing is 0), or of a body of which _missing bytes are yet to come.
        # A bytearray grows in place, so that each byte of a large frame is moved a bounded number of times.
        self._partial = bytearray()
        self._missing = 0

    def pending(self) -> int:
        """Bytes held back, since the frame they belong to is not complete."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of the frames that these bytes complete, in order; often none."""
        frames: list[bytes] = []
        position = 0
        if self._missing:
            position = self._continue_body(data, 0, frames)
        elif self._partial:
            position = self._continue_size(data, frames)
        end = len(data)
        while self.fault is None and position + _SIZE_BYTES <= end:
            start = position + _SIZE_BYTES
            size = int.from_bytes(data[position:start], "big")
            if self._accept(size):
                position = start + size
                if position <= end:
                    frames.append(data[start:position])
                else:
                    self._partial += data[start:]
                    self._missing = position - end
        if self.fault is None and position < end:
            self._partial += data[position:]
        return frames

    def _continue_size(self, data: bytes, frames: list[bytes]) -> int:
        """Complete the size field that an earlier call began, and return where its body ends in `data`."""
        position = min(_SIZE_BYTES - len(self._partial), len(data))
        self._partial += data[:position]
        if len(self._partial) < _SIZE_BYTES:
            return position
        size = int.from_bytes(self._partial, "big")
        self._partial.clear()
        if not self._accept(size):
            return position
        self._missing = size
        return self._continue_body(data, position, frames)

    def _continue_body(self, data: bytes, start: int, frames: list[bytes]) -> int:
        """Take up to `_missing` bytes at `start` into the body, and return where they end."""
        position = min(start + self._missing, len(data))
        self._partial += data[start:position]
        self._missing -= position - start
        if not self._missing:
            frames.append(bytes(self._partial))
            self._partial = bytearray()
        return position

    def _accept(self, size: int) -> bool:
        if size > self.max_size:
            self.fault = MalformedFrame(f"a frame of {size} bytes, and no more than {self.max_size} are accepted")
        return self.fault is None
