"""Publish and consume while the broker is being broken, and prove afterwards that nothing was lost.

Run it with `make demo`. It sets up and starts a broker of its own, publishes numbered messages at a steady rate,
consumes them at the same time, and meanwhile closes the connections from the broker's side, kills the stream's leader
process, and restarts the broker. In the end it reads the stream back and compares. It exits with 1 when a number is
wrong.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable

import actorstream
from actorstream import events
from lab import engine, image, start
from lab.broker import Broker
from lab.shell import LabError

STREAM = "actorstream-demo"
NAME = "actorstream-demo"
RATE = 4_000
QUIET_S = 3.0
"""Undisturbed seconds before the first fault and after each recovery."""
BODY = b"%012d" + b"." * 88


@dataclasses.dataclass
class Ledger:
    """What the demo counted, on both sides."""

    sent: int = 0
    confirmed: int = 0
    failed: int = 0
    received: int = 0
    next_number: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    restarts: int = 0
    last_received_at: float = dataclasses.field(default_factory=time.monotonic)
    longest_interruption_s: float = 0.0


def number_of(message: actorstream.Message) -> int:
    return int(message.body[:12])


class Demo:
    """One run: a publisher, a consumer, the faults, the verdict."""

    def __init__(self, client: actorstream.Client, broker: Broker) -> None:
        self.client = client
        self.broker = broker
        self.ledger = Ledger()
        self.confirmed_numbers: set[int] = set()
        self.started_at = time.monotonic()
        self.stop_sending = asyncio.Event()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.started_at:6.1f}s  {text}", flush=True)

    # The load -------------------------------------------------------------------------------------------------------

    async def publish(self, producer: actorstream.Producer) -> None:
        """Send at a steady rate; `send` itself waits while the broker is away and the window is full."""
        loop = asyncio.get_running_loop()
        begin, receipts = loop.time(), []
        while not self.stop_sending.is_set():
            due = int((loop.time() - begin) * RATE) - self.ledger.sent
            if due <= 0:
                await asyncio.sleep(0.005)
                continue
            for _ in range(min(due, RATE)):
                receipts.append((self.ledger.sent, await producer.send(BODY % self.ledger.sent)))
                self.ledger.sent += 1
            receipts = self.settle(receipts)
        await producer.flush()
        self.settle(receipts)

    def settle(self, receipts: list[tuple[int, actorstream.Receipt]]) -> list[tuple[int, actorstream.Receipt]]:
        """Count the receipts that have an outcome; return the others."""
        waiting = []
        for number, receipt in receipts:
            if not receipt.done:
                waiting.append((number, receipt))
            elif receipt.confirmed:
                self.confirmed_numbers.add(number)
            else:
                self.ledger.failed += 1
        self.ledger.confirmed = len(self.confirmed_numbers)
        return waiting

    async def consume(self, consumer: actorstream.Consumer) -> None:
        """Receive, and check that each number follows the one before."""
        ledger = self.ledger
        async for message in consumer:
            now = time.monotonic()
            ledger.longest_interruption_s = max(ledger.longest_interruption_s, now - ledger.last_received_at)
            ledger.last_received_at = now
            number = number_of(message)
            ledger.received += 1
            if number < ledger.next_number:
                ledger.duplicates += 1
            elif number > ledger.next_number:
                ledger.out_of_order += 1
            ledger.next_number = max(ledger.next_number, number + 1)

    async def watch(self) -> None:
        """Tell what the tree goes through."""
        async for event in self.client.events():
            match event:
                case events.ActorRestarting():
                    self.ledger.restarts += 1
                    self.say(f"  restart   {event.path} in {event.delay_s:.2f} s: {event.reason}")
                case events.Connected():
                    self.say(f"  connected {event.path} to {event.broker}")
                case events.Moved() | events.OffsetGap() | events.StreamTruncated():
                    self.say(f"  {event}")

    async def report(self) -> None:
        """One line a second."""
        last = 0
        while True:
            await asyncio.sleep(1.0)
            ledger = self.ledger
            self.say(
                f"sent {ledger.sent:,}  confirmed {ledger.confirmed:,}  received {ledger.received:,}  "
                f"lag {ledger.sent - ledger.received:,}  {ledger.received - last:,}/s"
            )
            last = ledger.received

    # The faults -----------------------------------------------------------------------------------------------------

    async def break_things(self) -> None:
        """Three faults, each followed by proof that confirms and deliveries go on."""
        await asyncio.sleep(QUIET_S)
        await self.fault("closing all connections from the broker's side", self.close_connections)
        await self.fault("killing the stream's leader process", lambda: self.broker.kill_stream_leader(STREAM))
        await self.fault("restarting the broker", self.broker.restart)

    def close_connections(self) -> None:
        for role in ("publisher", "consumer", "control"):
            self.broker.management.close_connections(f"{NAME}-{role}")

    async def fault(self, title: str, inject: Callable[[], object]) -> None:
        self.say(f"*** {title}")
        await asyncio.to_thread(inject)
        self.say(f"*** done: {title}")
        sent = self.ledger.sent
        async with asyncio.timeout(60):
            while self.ledger.next_number <= sent or self.ledger.confirmed <= sent:
                await asyncio.sleep(0.02)
        self.say("*** healed: what was sent since then is confirmed and received. The tree:")
        print(render(await self.client.tree()), flush=True)
        await asyncio.sleep(QUIET_S)

    # The verdict ----------------------------------------------------------------------------------------------------

    async def run(self) -> bool:
        """The whole demo; True when all is well."""
        await self.client.delete_stream(STREAM, missing_ok=True)
        await self.client.create_stream(STREAM)
        producer = await self.client.producer(STREAM, name=NAME)
        consumer = await self.client.consumer(STREAM, "first")
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(work) for work in (self.watch(), self.report(), self.consume(consumer))]
            publishing = group.create_task(self.publish(producer))
            await self.break_things()
            self.stop_sending.set()
            await publishing
            async with asyncio.timeout(30):
                while self.ledger.next_number < self.ledger.sent:
                    await asyncio.sleep(0.02)
            for task in background:
                task.cancel()
        await producer.close()
        await consumer.close()
        return await self.verify()

    async def verify(self) -> bool:
        """Read the stream back, and compare it with what was confirmed and what was received."""
        stored: list[int] = []
        async with await self.client.consumer(STREAM, "first", until="end") as reader:
            async for batch in reader.batches():
                stored.extend(number_of(message) for message in batch)
        ledger = self.ledger
        lost = len(self.confirmed_numbers - set(stored)) + len(set(stored) - set(range(ledger.next_number)))
        disorder = sum(1 for before, after in itertools.pairwise(stored) if after <= before)
        checks = [
            ("sent", ledger.sent, None),
            ("confirmed", ledger.confirmed, ledger.sent),
            ("failed", ledger.failed, 0),
            ("stored (read back)", len(stored), ledger.sent),
            ("received", ledger.received, ledger.sent),
            ("lost", lost, 0),
            ("out of order", disorder + ledger.out_of_order, 0),
            ("duplicates seen by the consumer", ledger.duplicates, 0),
            ("duplicates in the stream", len(stored) - len(set(stored)), 0),
            ("restarts", ledger.restarts, None),
        ]
        print("\nsummary, verified by reading the stream back")
        for title, value, wanted in checks:
            verdict = "" if wanted is None else "ok" if value == wanted else f"WRONG, should be {wanted:,}"
            print(f"  {title:34} {value:>12,}  {verdict}")
        print(f"  {'longest interruption':34} {ledger.longest_interruption_s:>10.2f} s")
        ok = all(wanted is None or value == wanted for _, value, wanted in checks) and ledger.restarts > 0
        print("nothing was lost, nothing came twice" if ok else "SOMETHING IS WRONG")
        return ok


def render(node: actorstream.Node, depth: int = 0) -> str:
    """The supervision tree as text."""
    details = "  ".join(f"{key}={value}" for key, value in node.details.items() if value not in ("", None))
    restarts = f"  restarts={node.restarts} ({node.last_reason})" if node.restarts else ""
    line = f"        {'   ' * depth}{node.name} [{node.state}]{restarts}  {details}".rstrip()
    return "\n".join([line, *(render(child, depth + 1) for child in node.children)])


INTRODUCTION = f"""
{RATE:,} messages a second go to one stream and are read back at once, while the broker is broken three ways.
Each second: how many were sent, confirmed by the broker, and received; the lag is what was sent and not yet received;
the rate is of what was received. With 10,000 messages unconfirmed, `send` waits: while the broker is away, nothing more
is sent. Lines with *** say what is broken; those below them, what the supervisors make of it.
"""


def set_up() -> Broker:
    """A broker to break, with everything it takes."""
    engine.ensure()
    return start.chaos(image=image.choose())


async def main() -> int:
    print("starting a broker to break (the first time, this builds or pulls its image)", flush=True)
    broker = await asyncio.to_thread(set_up)
    print(f"broker at {broker.uri}, its pages at {broker.management.url} (guest, guest)\n{INTRODUCTION}", flush=True)
    async with actorstream.connect(broker.uri, name=NAME) as client:
        return 0 if await Demo(client, broker).run() else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        sys.exit("stopped")
    except LabError as error:
        sys.exit(f"no broker: {error}")
