"""A process that runs a pipe, to be killed; its arguments are those of `main`.

It says "running" once the first message came through. What it makes of a message is told by the message alone.
"""

import asyncio
import sys

import actorstream
from actorstream import ErrorPolicy, Message, Park, Pipe


def outputs_of(number: int) -> list[bytes]:
    """None of every seventh, one of most, and of every fifth four."""
    if number % 7 == 0:
        return []
    return [b"out %d.%d" % (number, part) for part in range(4)] if number % 5 == 0 else [b"out %d" % number]


def is_parked(number: int) -> bool:
    return number % 100 == 13


async def main(
    uri: str, source: str, target: str, parked: str, name: str, pause_s: str, until: str | None = None
) -> None:
    said = False

    async def function(message: Message) -> list[bytes]:
        nonlocal said
        number = int(message.body)
        if number % 10 == 0:
            await asyncio.sleep(float(pause_s))
        if not said:
            said = True
            sys.stdout.write("running\n")
            sys.stdout.flush()
        if is_parked(number):
            raise ValueError(f"number {number}")
        return outputs_of(number)

    async with actorstream.connect(uri) as client:
        policy = ErrorPolicy(then=Park(parked))
        await Pipe(client, source, target, function, name=name, on_error=policy, until=until).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
