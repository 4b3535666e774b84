"""TLS with an authority of your own, and a log-in by client certificate: `python -m examples.tls [URI]`.

`make secure` starts a broker for it, prints its URI, and makes the certificates.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import actorstream
from actorstream import errors
from lab.certificates import Certificates

STREAM = "example-tls"
FILES = Certificates()


async def main(uri: str) -> None:
    # The broker's certificate is always verified, against the system's authorities unless you name another.
    try:
        await actorstream.connect(uri)
    except errors.ConnectFailed as error:
        print("not verified:", error.cause)

    async with actorstream.connect(uri, tls_ca=FILES.authority) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await producer.send_wait(b"nobody else can read this on its way")

    # Mutual TLS: the certificate in this context says who we are, and no password is sent.
    context = ssl.create_default_context(cafile=FILES.authority)
    context.load_cert_chain(FILES.client, FILES.client_key)
    async with actorstream.connect(uri, tls=context, mechanism="EXTERNAL") as client:
        async with await client.consumer(STREAM, "first", until="end") as consumer:
            async for message in consumer:
                print(message.body.decode())
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream+tls://localhost:5575"))
