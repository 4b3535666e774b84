"""Cutting the byte stream into frames: each is a u32 size and as many bytes (protocol section 1)."""

from __future__ import annotations

from typing import Final

from actorstream.errors import MalformedFrame

_SIZE_BYTES: Final = 4
_SMALL_PIECE: Final = 4096


class FrameBuffer:
    """Takes bytes however they were split on the way, and gives back whole frame bodies.

    `max_size` (bytes of a body, changeable at any time) bounds what a peer can make us store. Memory grows with what
    has arrived, never with what a size field announces.

    A frame that is too large ends the stream: what follows cannot be told apart any more. `fault` says so then; the
    frames before it are still returned, and everything after it is ignored.
    """

    __slots__ = ("_missing", "_pieces", "_size", "fault", "max_size")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.fault: MalformedFrame | None = None
        # Either the first bytes of a size field, or (_missing > 0) a body of which _missing bytes are yet to come. Its
        # pieces are joined once, when it is whole. A growing bytearray moves them several times: measured side by side
        # with pieces of 64 KiB, a body of 1 MB took 1.3 times as long that way, and one of 16 MB 2.2 times.
        self._size = b""
        self._pieces: list[bytes] = []
        self._missing = 0

    def pending(self) -> int:
        """Bytes held back, since the frame they belong to is not complete. The size of a body begun does not count."""
        return len(self._size) + sum([len(piece) for piece in self._pieces])

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of the frames that these bytes complete, in order; often none."""
        frames: list[bytes] = []
        if self.fault is not None:
            return frames
        if self._missing:
            if len(data) < self._missing:
                self._keep(data)
                return frames
            position = self._missing
            self._pieces.append(data[:position])
            frames.append(b"".join(self._pieces))
            self._pieces = []
            self._missing = 0
        else:
            position = 0
            data = self._size + data  # at most 3 bytes, and mostly none: then nothing is copied
            self._size = b""
        self._cut(data, position, frames)
        return frames

    def _cut(self, data: bytes, position: int, frames: list[bytes]) -> None:
        """Take the frames out of `data`, the first of which begins at `position`, and keep what is left over."""
        end = len(data)
        while position + _SIZE_BYTES <= end:
            start = position + _SIZE_BYTES
            size = int.from_bytes(data[position:start], "big")
            if size > self.max_size:
                self.fault = MalformedFrame(f"a frame of {size} bytes, and no more than {self.max_size} are accepted")
                return
            position = start + size
            if position > end:
                self._missing = size
                self._keep(data[start:])
                return
            frames.append(data[start:position])
        self._size = data[position:]

    def _keep(self, piece: bytes) -> None:
        """Add a piece, not the last one, to the body."""
        self._missing -= len(piece)
        # A peer that sends byte by byte must not cost an object for each.
        if self._pieces and len(self._pieces[-1]) < _SMALL_PIECE:
            self._pieces[-1] += piece
        else:
            self._pieces.append(piece)
