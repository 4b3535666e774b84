"""Ctrl-C, whatever a program is doing: it ends promptly, with one KeyboardInterrupt and nothing else to read."""

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.broker import Broker
from tests.conftest import Streams

ROOT = Path(__file__).parent.parent

BEGIN = """
import asyncio, sys
import actorstream
from actorstream import blocking, errors

uri, stream = sys.argv[1:]

def ready():
    print("ready", flush=True)
"""

ASYNC = {
    "connecting": """
async def main():
    asyncio.get_running_loop().call_later(0.2, ready)
    async with actorstream.connect(uri):
        pass
""",
    "connecting in a thread": """
async def main():
    asyncio.get_running_loop().call_later(0.2, ready)
    async with actorstream.connect(uri, own_thread=True):
        pass
""",
    "consuming": """
async def main():
    async with actorstream.connect(uri) as client, await client.consumer(stream) as consumer:
        ready()
        async for message in consumer:
            pass
""",
    "consuming in a thread": """
async def main():
    async with actorstream.connect(uri, own_thread=True) as client, await client.consumer(stream) as consumer:
        ready()
        async for message in consumer:
            pass
""",
    "publishing": """
async def main():
    async with actorstream.connect(uri) as client, await client.producer(stream) as producer:
        ready()
        while True:
            await producer.send_wait(b"x")
""",
    "flushing": """
async def main():
    async with actorstream.connect(uri, close_timeout_s=1.0) as client, await client.producer(stream) as producer:
        producer.ref.actor_inbox.actor._flush = lambda: None  # nothing leaves, and so nothing is confirmed
        await producer.send(b"x")
        ready()
        await producer.flush()
""",
    "closing": """
async def main():
    async with actorstream.connect(uri, close_timeout_s=1.0) as client, await client.producer(stream) as producer:
        producer.ref.actor_inbox.actor._flush = lambda: None
        await producer.send(b"x")
        asyncio.get_running_loop().call_later(0.2, ready)
""",
    "handling": """
async def main():
    async with actorstream.connect(uri) as client, await client.consumer(stream, "first") as consumer:
        async with await client.producer(stream) as producer:
            await producer.send_wait(b"x")
        async def handle(message):
            ready()
            await asyncio.sleep(60)
        await consumer.run(handle)
""",
    "consuming without closing": """
async def main():
    client = await actorstream.connect(uri)
    consumer = await client.consumer(stream)
    ready()
    async for message in consumer:
        pass
""",
    "consuming in a thread without closing": """
async def main():
    client = await actorstream.connect(uri, own_thread=True)
    consumer = await client.consumer(stream)
    ready()
    async for message in consumer:
        pass
""",
}

BLOCKING = {
    "connecting": """
threading.Timer(0.2, ready).start()
blocking.connect(uri)
""",
    "consuming": """
with blocking.connect(uri) as client, client.consumer(stream) as consumer:
    ready()
    for message in consumer:
        pass
""",
    "waiting for a confirm": """
with blocking.connect(uri, close_timeout_s=0.5) as client, client.producer(stream) as producer:
    producer.asynchronous.ref.actor_inbox.actor._flush = lambda: None
    receipt = producer.send(b"x")
    ready()
    receipt.result()
""",
    "consuming without closing": """
client = blocking.connect(uri)
consumer = client.consumer(stream)
ready()
for message in consumer:
    pass
""",
}


def interrupt(program: str, uri: str, stream: str, tmp_path: Path) -> tuple[float, str]:
    """Run it until it says that it is ready, interrupt it; the seconds it takes to end, and its stderr."""
    file = tmp_path / "program.py"
    file.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONASYNCIODEBUG": "0"}
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error::RuntimeWarning", str(file), uri, stream],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                assert selector.select(15), "it never got that far"
            assert process.stdout.readline() == "ready\n", process.communicate(timeout=5)[1]
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, shown = process.communicate(timeout=20)
            return time.monotonic() - begin, shown
        finally:
            process.kill()


def check(took: float, shown: str, doing: str) -> None:
    assert took < 5.0, f"took {took:.1f} s:\n{shown}"
    if "without closing" in doing:  # which is what these two lines are about, and rightly so
        shown = re.sub(r".*ResourceWarning: unclosed transport.*\n", "", shown)
    for noise in ("never retrieved", "was destroyed", "never awaited", "Unclosed", "ResourceWarning", "unhandled"):
        assert noise not in shown, shown
    assert shown.count("Traceback") <= 2, shown  # that of the cancellation, and that of Ctrl-C
    assert shown.rstrip().endswith("KeyboardInterrupt"), shown
    assert not [line for line in shown.splitlines() if line.startswith(("Exception", "Task", "Future"))], shown


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections, as a frozen broker does, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"rabbitmq-stream://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("doing", ASYNC)
def test_i14_interrupted_while(broker: Broker, stream: Streams, silent: str, tmp_path: Path, doing: str) -> None:
    uri = silent if "connecting" in doing else broker.uri
    program = f"{BEGIN}\n{ASYNC[doing]}\nasyncio.run(main())\n"
    check(*interrupt(program, uri, stream({}), tmp_path), doing)


@pytest.mark.parametrize("doing", BLOCKING)
def test_i14_interrupted_without_asyncio_while(
    broker: Broker, stream: Streams, silent: str, tmp_path: Path, doing: str
) -> None:
    uri = silent if "connecting" in doing else broker.uri
    check(*interrupt(f"{BEGIN}\nimport threading\n{BLOCKING[doing]}", uri, stream({}), tmp_path), doing)
