"""A pipe from stream to stream, killed again and again, that loses and repeats nothing.

`python -m examples.exactly_once_pipe [URI]`: starts itself as a second process that runs the pipe, kills that process
at random moments, and compares what came out with what went in.
"""

from __future__ import annotations

import asyncio
import random
import sys

import actorstream
from actorstream import Message, Pipe

ORDERS = "example-pipe-orders"
BILLS = "example-pipe-bills"
COUNT = 5_000
KILLS = 5


async def make_bill(message: Message) -> str | None:
    number = int(message.body)
    if number % 3 == 0:
        return None  # left out
    if number % 20 == 0:
        await asyncio.sleep(0.01)  # slow enough to be killed in the middle
    return f"bill for order {number}"


async def run_pipe(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        # The name is all that a new process needs to go on where the one before it was killed.
        pipe = Pipe(client, ORDERS, BILLS, make_bill, name="billing", until="end")
        print("the pipe begins", flush=True)
        await pipe.run()


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        for stream in (ORDERS, BILLS):
            await client.create_stream(stream, exist_ok=True)
        async with await client.producer(ORDERS) as producer:
            await (await producer.send_batch([str(number) for number in range(COUNT)]))

        killed = 0
        while True:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "examples.exactly_once_pipe", uri, "--pipe"), stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            await process.stdout.readline()
            if killed < KILLS:
                await asyncio.sleep(random.uniform(0.1, 0.4))
                process.kill()
                killed += 1
            if await process.wait() == 0:
                break
        print(f"killed {killed} times")

        async with await client.consumer(BILLS, "first", until="end") as consumer:
            bills = [message.body.decode() async for message in consumer]
        wanted = [f"bill for order {number}" for number in range(COUNT) if number % 3]
        print(f"{len(bills)} bills, each once and in order: {bills == wanted}")
        for stream in (ORDERS, BILLS):
            await client.delete_stream(stream)


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"
    asyncio.run(run_pipe(address) if "--pipe" in sys.argv else main(address))
