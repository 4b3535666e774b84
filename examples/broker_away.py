"""What `send` does while the broker cannot be reached: `python -m examples.broker_away [URI]`.

A relay stands for the network between: cut, nothing goes through it, and the broker itself is left in peace.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import actorstream
from actorstream import WhenAway
from actorstream.errors import BrokerAway, OutboxFull

STREAM = "example-broker-away"


class Network:
    """A relay to one broker that can be cut and mended."""

    def __init__(self, broker: actorstream.Endpoint) -> None:
        self._broker = broker
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._link, "localhost", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._links):
            writer.transport.abort()
        while self._links:
            await asyncio.sleep(0)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, out = await asyncio.open_connection(self._broker.host, self._broker.port)
        self._links |= {writer, out}
        await asyncio.gather(_pump(reader, out), _pump(onward, writer))
        self._links -= {writer, out}


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


async def publish(client: actorstream.Client, network: Network, choice: WhenAway) -> None:
    async with await client.producer(
        STREAM, when_away=choice, max_unconfirmed=10, send_timeout_s=0.3 if choice is WhenAway.WAIT else None
    ) as producer:
        await producer.send_wait("before")
        await network.cut()
        accepted = 0
        try:
            while True:
                await producer.send(f"message {accepted}")
                accepted += 1
        except (OutboxFull, BrokerAway) as error:
            print(f"{choice.value}: up to the bound: {accepted <= 10}, then {type(error).__name__}")
        await network.mend()
        await producer.flush()
        print(f"{choice.value}: all that was accepted is there: {producer.confirmed == accepted + 1}")


async def main(uri: str) -> None:
    address = actorstream.options.parse_uri(uri)
    network = Network(address.endpoint)
    await network.mend()

    async def through_the_network(_: actorstream.Endpoint) -> actorstream.Endpoint:
        return actorstream.Endpoint("localhost", network.port)

    async with actorstream.connect(uri, address_resolver=through_the_network) as client:
        await client.create_stream(STREAM, exist_ok=True)
        for choice in WhenAway:
            await publish(client, network, choice)
        await client.delete_stream(STREAM)
    await network.cut()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
