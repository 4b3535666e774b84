"""Results and the offset in one transaction, for an effect exactly once: `python -m examples.offset_in_sqlite [URI]`.

Whatever kills the program, either both are in the database or neither is. Shown with a "crash" in the middle.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import actorstream
from actorstream import Message

STREAM = "example-offset-in-sqlite"
NAME = "totals"

SCHEMA = """
CREATE TABLE IF NOT EXISTS total (account TEXT PRIMARY KEY, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS place (name TEXT, stream TEXT, offset INTEGER NOT NULL, PRIMARY KEY (name, stream));
"""


class Totals:
    """What the program is about: how much was booked on each account. It is its own `actorstream.OffsetStore`."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(SCHEMA)

    def book(self, batch: list[Message]) -> None:
        """Book these messages, and with them how far that is: one transaction."""
        with self._database:
            for message in batch:
                account, amount = message.body.decode().split()
                self._database.execute(
                    "INSERT INTO total VALUES (?, ?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
                    (account, int(amount)),
                )
            self._place(NAME, STREAM, batch[-1].offset)

    def _place(self, name: str, stream: str, offset: int) -> None:
        # Never back: a message that comes again would be booked again.
        self._database.execute(
            "INSERT INTO place VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET offset = max(offset, excluded.offset)",
            (name, stream, offset),
        )

    async def load(self, name: str, stream: str) -> int | None:
        found = self._database.execute(
            "SELECT offset FROM place WHERE name = ? AND stream = ?", (name, stream)
        ).fetchone()
        return None if found is None else found[0]

    async def store(self, name: str, stream: str, offset: int) -> None:
        with self._database:
            self._place(name, stream, offset)

    def totals(self) -> dict[str, int]:
        return dict(self._database.execute("SELECT account, amount FROM total ORDER BY account"))

    def close(self) -> None:
        self._database.close()


async def run(client: actorstream.Client, path: Path, crash_after: int | None) -> None:
    """One run of the program. With `tracking=None`, only the transaction stores an offset."""
    with closing(Totals(path)) as totals:
        async with await client.consumer(
            STREAM, "first", name=NAME, offset_store=totals, tracking=None, until="end"
        ) as consumer:
            print("begins at", consumer.position)
            batches = 0
            async for batch in consumer.batches(50):
                if batches == crash_after:
                    print("crashes with a batch in hand")
                    return
                totals.book(batch)
                batches += 1
        print("done:", totals.totals())


async def main(uri: str, folder: Path) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await (await producer.send_batch([f"{'abc'[number % 3]} {number}" for number in range(300)]))
        for crash_after in (2, 3, None):
            await run(client, folder / "totals.db", crash_after)
        print("right:", {account: sum(range(first, 300, 3)) for first, account in enumerate("abc")})
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost", Path(directory)))
