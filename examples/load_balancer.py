"""A cluster behind a load balancer: `python -m examples.load_balancer [URI of the balancer]`.

Without a balancer at hand, the URI of a broker will do: a balancer that knows a single one looks the same.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

import actorstream
from actorstream import Endpoint

STREAM = "example-load-balancer"


async def main(uri: str) -> None:
    # All connections go to the balancer's address. One that comes to another broker than the one it is for is closed,
    # and tried again after a moment.
    async with actorstream.connect(uri, load_balancer_mode=True) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await producer.send_wait(b"by way of the balancer")

    # Where each broker has an address of its own, only not the one that it advertises: a function says which.
    outside = urlsplit(uri)

    def resolver(advertised: Endpoint) -> Endpoint:
        return Endpoint(outside.hostname or "localhost", outside.port or advertised.port)

    async with actorstream.connect(uri, address_resolver=resolver) as client:
        async with await client.consumer(STREAM, "first", until=0) as consumer:
            async for message in consumer:
                print(message.body.decode())
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
