"""A user's handler that raises, hangs, or takes long, under each policy, while its connections are cut."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from actorstream import AutoTracking, BackoffPolicy, Client, ErrorPolicy, Message, Park, Skip, errors
from lab.shell import LabError
from tests.broker.reading import read, until
from tests.chaos import checker
from tests.chaos.checker import Violation
from tests.chaos.history import body_of, identity_of
from tests.chaos.proxy import Proxies
from tests.chaos.stage import TOLD_WITHIN_S, Stage

MESSAGES = 300
BATCH = 10
"""So many are published at a time, and are a chunk: what is delivered ahead is counted in chunks."""
WORKS_S = 0.002
HANGS_AT = MESSAGES // 2
CLOSE_TIMEOUT_S = 2.0
CREDIT = 2
NOTED = AutoTracking(every=1, interval_s=0.1)


class Hands:
    """A handler: what it got through, what it raised for, and whether it lets go of what it hangs on."""

    def __init__(self, fails: Sequence[int] = (), *, once: bool = False, hangs_at: int = -1) -> None:
        self.handled: list[int] = []
        self.raised: Counter[int] = Counter()
        self.hanging = asyncio.Event()
        self._fails = set(fails)
        self._once = once
        self._hangs_at = hangs_at

    async def __call__(self, message: Message) -> None:
        _, number = identity_of(message.body)
        await asyncio.sleep(WORKS_S)
        if number in self._fails and not (self._once and self.raised[number]):
            self.raised[number] += 1
            raise RuntimeError(f"the handler does not like {number}")
        if number == self._hangs_at:
            self.hanging.set()
            await asyncio.Event().wait()
        self.handled.append(number)

    def likes(self, number: int) -> None:
        """Do not raise for it any more."""
        self._fails.discard(number)


async def _publish(client: Client, stream: str) -> None:
    async with await client.producer(stream, name=f"{stream}-writer") as producer:
        for start in range(0, MESSAGES, BATCH):
            await (await producer.send_batch(body_of(0, number) for number in range(start, start + BATCH)))


async def raises(stage: Stage) -> str:
    """One handler for each policy; all lose their connections on the way."""
    stream, parked = await stage.stream("raises"), await stage.stream("parked")
    disliked = sorted(stage.rng.sample(range(MESSAGES), 20))
    others = [number for number in range(MESSAGES) if number not in disliked]
    skipping, parking, trying, stopping = Hands(disliked), Hands(disliked), Hands(disliked, once=True), Hands(disliked)
    again = ErrorPolicy(retries=1, backoff=BackoffPolicy(base_s=0.01, cap_s=0.02))
    async with stage.client("handlers") as (client, proxies, _):
        await _publish(client, stream)
        cutting = asyncio.create_task(_cut_amid(proxies, skipping))
        await asyncio.gather(
            _run(client, stream, skipping, ErrorPolicy(then=Skip())),
            _run(client, stream, parking, ErrorPolicy(then=Park(parked))),
            _run(client, stream, trying, again),
            _stop_and_go_on(stage, client, stream, stopping),
        )
        cut = await cutting
        there = await read(client, parked)
    everything = list(range(MESSAGES))
    stage.found += checker.check_handled("with Skip", skipping.handled, others)
    stage.found += checker.check_handled("with Park", parking.handled, others)
    parked_once = list(dict.fromkeys(identity_of(one.body)[1] for one in there))  # it is parked at least once
    stage.found += checker.check_handled("what was parked", parked_once, disliked)
    stage.found += checker.check_handled("with a retry", trying.handled, everything)
    stage.found += checker.check_handled("with Stop, and again", stopping.handled, everything)
    return f"{skipping.raised.total()} errors for each policy, and {cut} connections cut on the way"


async def _run(client: Client, stream: str, hands: Hands, policy: ErrorPolicy) -> None:
    async with await client.consumer(stream, "first", until="end") as consumer:
        await consumer.run(hands, on_error=policy)


async def _stop_and_go_on(stage: Stage, client: Client, stream: str, hands: Hands) -> None:
    """The default policy: `run` raises at each message that is not liked, which comes again to the next one."""
    async with await client.consumer(stream, "first", until="end") as consumer:
        while True:
            try:
                return await consumer.run(hands)
            except errors.HandlerFailed as failure:
                if failure.offset != consumer.position:
                    text = f"with Stop: {failure.offset} failed, and {consumer.position} is next"
                    stage.found.append(Violation("policy", text))
                hands.likes(failure.offset)


async def _cut_amid(proxies: Proxies, hands: Hands) -> int:
    """End all connections when a third is handled; how many there were."""
    await until(lambda: len(hands.handled) > MESSAGES // 3, "a third is handled", TOLD_WITHIN_S)
    return sum(proxy.reset_all() for proxy in proxies)


async def hangs(stage: Stage) -> str:
    """A handler that never returns: others of its client go on, closing is bounded, and its message comes again."""
    stream = await stage.stream("hangs")
    stuck, beside, after = Hands(hangs_at=HANGS_AT), Hands(), Hands()
    async with stage.client("handlers", close_timeout_s=CLOSE_TIMEOUT_S) as (client, proxies, _):
        await _publish(client, stream)
        consumer = await client.consumer(stream, "first", name="stuck", tracking=NOTED)
        running = asyncio.create_task(consumer.run(stuck))
        await until(stuck.hanging.is_set, "the handler hangs", TOLD_WITHIN_S)
        cut = sum(proxy.reset_all() for proxy in proxies)
        await _run(client, stream, beside, ErrorPolicy())
        begin = time.monotonic()
        await consumer.close()
        stage.bound("I14 close", "seconds to close beside a handler that hangs", time.monotonic() - begin, 15.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        async with await client.consumer(stream, "first", name="stuck", until="end", tracking=NOTED) as successor:
            await successor.run(after)
    everything = list(range(MESSAGES))
    stage.found += checker.check_handled("before it hung", stuck.handled, everything[:HANGS_AT])
    stage.found += checker.check_handled("beside one that hangs", beside.handled, everything)
    stage.found += checker.check_handled("after one that hung", after.handled, everything[HANGS_AT:])
    return f"it hung at {HANGS_AT} for {time.monotonic() - begin:.1f} s and {cut} connections were cut meanwhile"


async def is_slow(stage: Stage) -> str:
    """Handlers that take long, on the loop and in threads: what is delivered ahead of them is bounded by credit."""
    stream = await stage.stream("slow")
    on_loop, in_threads = Hands(), Hands()
    most = 0

    async def handle(message: Message) -> None:
        nonlocal most
        most = max(most, slow.delivered_messages - len(on_loop.handled))
        await on_loop(message)

    def block(message: Message) -> None:
        time.sleep(WORKS_S)
        in_threads.handled.append(identity_of(message.body)[1])

    begin = time.monotonic()
    async with stage.client("handlers") as (client, _, _):
        await _publish(client, stream)
        slow = await client.consumer(stream, "first", credit=CREDIT, until="end")
        threaded = await client.consumer(stream, "first", credit=CREDIT, until="end")
        async with slow, threaded:
            await asyncio.gather(slow.run(handle), threaded.run(block, threads=True, workers=4, key=_half))
    everything = list(range(MESSAGES))
    stage.found += checker.check_handled("slowly", on_loop.handled, everything)
    for half in (0, 1):
        mine = [number for number in in_threads.handled if number % 2 == half]
        stage.found += checker.check_handled("slowly in threads, by key", mine, everything[half::2])
    stage.bound("policy", "messages delivered ahead of a slow handler", most, (CREDIT + 1) * BATCH)
    if most < 2:  # the one that is being handled is one of them
        raise LabError("nothing was delivered ahead: the handlers were not slow")
    return f"up to {most} of {MESSAGES} messages were there ahead, over {time.monotonic() - begin:.1f} s"


def _half(message: Message) -> int:
    return identity_of(message.body)[1] % 2
