"""Lines of a file or of stdin, as they come.

A thread reads: a terminal or a pipe may be silent for as long as it likes, and the loop has other work. It is a daemon,
and reads the descriptor itself: who is interrupted need not wait for a line that may never come.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable

CHUNK = 2**16
AHEAD = 8
"""Chunks that are read before their lines are wanted."""

Item = list[bytes] | OSError | None
"""Lines; or why there are no more; None for the end."""


async def read_lines(path: str | None) -> AsyncIterator[list[bytes]]:
    """The lines without their line feeds, as many at a time as came together; of stdin when there is no path.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    descriptor = sys.stdin.fileno() if path is None else os.open(path, os.O_RDONLY)
    queue: asyncio.Queue[Item] = asyncio.Queue(AHEAD)
    loop = asyncio.get_running_loop()

    def put(item: Item) -> None:
        putting = queue.put(item)
        try:
            asyncio.run_coroutine_threadsafe(putting, loop).result()
        except RuntimeError:  # the loop is closed: nobody wants any more
            putting.close()
            raise SystemExit from None

    threading.Thread(target=_pump, args=(descriptor, put, path is not None), name="lines", daemon=True).start()
    while (item := await queue.get()) is not None:
        if isinstance(item, OSError):
            raise item
        yield item


def _pump(descriptor: int, put: Callable[[Item], None], is_ours: bool) -> None:
    begun: list[bytes] = []  # of the line whose end has not come yet
    try:
        while chunk := os.read(descriptor, CHUNK):
            begun.append(chunk)
            if b"\n" in chunk:
                *lines, rest = b"".join(begun).split(b"\n")
                begun = [rest]
                put(lines)
    except OSError as error:
        put(error)
        return
    finally:
        if is_ours:
            os.close(descriptor)
    if last := b"".join(begun):
        put([last])
    put(None)
