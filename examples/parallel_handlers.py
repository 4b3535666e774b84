"""Several workers, with the order kept for each customer: `python -m examples.parallel_handlers [URI]`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict

import actorstream
from actorstream import ErrorPolicy, Message, Skip

STREAM = "example-parallel-handlers"
CUSTOMERS = 10
COUNT = 200
PAUSE_S = 0.01


def customer(message: Message) -> str:
    return message.body.decode().split(":")[0]


async def main(uri: str) -> None:
    handled: dict[str, list[int]] = defaultdict(list)

    async def handle(message: Message) -> None:
        who, number = message.body.decode().split(":")
        await asyncio.sleep(PAUSE_S)  # a request to some service; what blocks goes into `await asyncio.to_thread(…)`
        handled[who].append(int(number))

    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            orders = [f"customer-{number % CUSTOMERS}:{number}" for number in range(COUNT)]
            await (await producer.send_batch(orders))

        async with await client.consumer(STREAM, "first", until="end") as consumer:
            begin = time.monotonic()
            policy = ErrorPolicy(retries=2, then=Skip())  # works in parallel as it does for one
            await consumer.run(handle, workers=8, key=customer, on_error=policy)
            seconds = time.monotonic() - begin

            print(f"{sum(map(len, handled.values()))} orders of {len(handled)} customers")
            print("in order for each:", all(numbers == sorted(numbers) for numbers in handled.values()))
            print("faster than one at a time:", seconds < COUNT * PAUSE_S / 2)
            # The last offset up to which everything is done, whatever was done beyond it: it is safe to go on from.
            print("completed:", consumer.completed)
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
