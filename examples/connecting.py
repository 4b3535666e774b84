"""Several URIs, names for the operator, and other ways to log in: `python -m examples.connecting [URI]`."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import unquote, urlsplit

import actorstream
from actorstream import ConnectionOptions, Credentials, errors


async def main(uri: str) -> None:
    # Any broker that answers leads to all of its cluster; here the first one refuses.
    said = urlsplit(uri)
    nobody = said._replace(netloc=said.netloc.replace(f":{said.port or 5552}", ":9")).geturl()
    options = ConnectionOptions(heartbeat_s=10, properties={"team": "orders"})
    async with actorstream.connect([nobody, uri], name="importer", options=options) as client:
        print("connected:", await client.stream_exists("no such stream"))

    # Asked before each attempt to log in: a vault may change the password while the client runs. A plain function may
    # block, since it runs in a thread.
    def from_vault() -> Credentials:
        print("the vault is asked")
        return Credentials(unquote(said.username or "guest"), unquote(said.password or "guest"))

    async with actorstream.connect(uri, credentials=from_vault) as client:
        print("logged in:", await client.stream_exists("no such stream"))

    # As the user that the broker keeps for those without a name; brokers before 4.0 have none.
    try:
        async with actorstream.connect(uri, mechanism="ANONYMOUS") as client:
            print("anonymous:", await client.stream_exists("no such stream"))
    except errors.SaslMechanismNotSupported as error:
        print("not supported:", error)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
