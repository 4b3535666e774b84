"""A consumer's offset in a file instead of on the broker: `python -m examples.offset_in_file [URI]`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import actorstream

STREAM = "example-offset-in-file"


class OffsetFile:
    """An `actorstream.OffsetStore`: one small file, replaced as a whole, so that no crash leaves half of one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def load(self, name: str, stream: str) -> int | None:
        offset: int | None = self._read().get(f"{stream} {name}")
        return offset

    async def store(self, name: str, stream: str, offset: int) -> None:
        # Off the loop: the disk may take its time.
        await asyncio.to_thread(self._write, self._read() | {f"{stream} {name}": offset})

    def _read(self) -> dict[str, int]:
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {}

    def _write(self, offsets: dict[str, int]) -> None:
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(offsets, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


async def main(uri: str, folder: Path) -> None:
    store = OffsetFile(folder / "offsets.json")
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await (await producer.send_batch([f"message {number}" for number in range(30)]))

        for end in (9, 19, None):  # three runs of a program
            until = "end" if end is None else end
            async with await client.consumer(STREAM, "first", name="app", offset_store=store, until=until) as consumer:
                offsets = [message.offset async for message in consumer]
            print(f"read {offsets[0]} to {offsets[-1]}; the file says {(folder / 'offsets.json').read_text()}")
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost", Path(directory)))
