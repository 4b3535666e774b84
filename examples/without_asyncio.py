"""The same without asyncio: `python -m examples.without_asyncio [URI]`."""

from __future__ import annotations

import sys

import actorstream.blocking

STREAM = "example-without-asyncio"


def main(uri: str) -> None:
    with actorstream.blocking.connect(uri) as client:
        client.create_stream(STREAM, exist_ok=True)
        with client.producer(STREAM) as producer:
            receipts = [producer.send(f"message {number}") for number in range(10)]
            for receipt in receipts:
                receipt.result(timeout=10)
        with client.consumer(STREAM, "first", until="end") as consumer:
            for message in consumer:
                print(message.offset, message.body.decode())
        client.delete_stream(STREAM)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost")
