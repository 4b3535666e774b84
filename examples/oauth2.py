"""OAuth 2: tokens that expire, renewed while messages flow: `python -m examples.oauth2 [URI]`.

`make secure` starts a broker for it; the tokens come from the lab, in the place of an authorization server.
"""

from __future__ import annotations

import asyncio
import sys

import actorstream
from actorstream import Token, events
from lab import tokens

STREAM = "example-oauth2"


async def fetch_token() -> Token:
    """Ask the authorization server, as your HTTP client does it; here, for a token that is good for four seconds.

    It is asked once for all connections, and again when four fifths of a token's life are over.
    """
    value = await asyncio.to_thread(tokens.issue, 4.0)
    return Token(value=value, expires_in=4.0)


async def main(uri: str) -> None:
    async with actorstream.connect(uri, token_provider=fetch_token) as client:
        happening = client.events()
        await client.create_stream(STREAM, exist_ok=True)
        producer = await client.producer(STREAM)
        await producer.send_wait(b"with the first token")

        # Each open connection gets the new token; nothing is connected anew.
        async for event in happening:
            if isinstance(event, events.SecretRenewed):
                print("renewed on", event.path.rpartition("/")[2].partition("-")[0])
                if "publisher" in event.path:
                    break
        await producer.send_wait(b"with the second token, on the same connection")
        async with await client.consumer(STREAM, "first", until="end") as consumer:
            async for message in consumer:
                print(message.body.decode())
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost:5574"))
