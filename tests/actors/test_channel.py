"""Channel: a FIFO that no cancellation, thread or end takes an item from."""

import asyncio
import threading

import pytest

from actorstream.actors.future import Channel
from actorstream.errors import Closed
from tests.actors.clock import until


async def test_items_come_in_the_order_in_which_they_were_put() -> None:
    channel: Channel[int] = Channel()
    for item in range(3):
        channel.put(item)
    assert len(channel) == 3
    assert [await channel.get(), channel.get_nowait(), await channel.get()] == [0, 1, 2]
    with pytest.raises(asyncio.QueueEmpty):
        channel.get_nowait()


async def test_a_reader_that_waits_is_woken_on_its_own_loop() -> None:
    channel: Channel[int] = Channel()
    reader = asyncio.create_task(channel.get())
    await until(lambda: channel._waiter)
    channel.put(1)
    assert await reader == 1


async def test_many_threads_put_and_nothing_is_lost_or_doubled() -> None:
    channel: Channel[tuple[int, int]] = Channel()
    count, threads = 500, 4

    def put(number: int) -> None:
        for item in range(count):
            channel.put((number, item))

    workers = [threading.Thread(target=put, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    got = [await asyncio.wait_for(channel.get(), 5) for _ in range(count * threads)]
    for worker in workers:
        worker.join()
    for number in range(threads):
        assert [item for source, item in got if source == number] == list(range(count))


async def test_a_reader_that_is_cancelled_loses_no_item() -> None:
    channel: Channel[int] = Channel()
    reader = asyncio.create_task(channel.get())
    await until(lambda: channel._waiter)
    channel.put(1)  # the reader is on its way, and does not get there
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await channel.get() == 1


async def test_a_reader_that_gave_up_waiting_leaves_the_channel_to_the_next() -> None:
    channel: Channel[int] = Channel()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.get(), 0.001)
    reader = asyncio.create_task(channel.get())
    await until(lambda: channel._waiter)
    channel.put(1)
    assert await reader == 1


async def test_what_was_put_before_the_end_is_still_read() -> None:
    channel: Channel[int] = Channel()
    channel.put(1)
    assert not channel.closed
    channel.close()
    assert channel.closed
    channel.put(2)
    channel.close(ValueError("too late"))
    assert await channel.get() == 1
    for _ in range(2):
        with pytest.raises(Closed):
            await channel.get()
    with pytest.raises(Closed):
        channel.get_nowait()


async def test_the_end_wakes_a_reader_with_its_reason() -> None:
    channel: Channel[int] = Channel()
    reader = asyncio.create_task(channel.get())
    await until(lambda: channel._waiter)
    await asyncio.to_thread(channel.close, ValueError("why"))
    with pytest.raises(ValueError, match="why"):
        await reader


async def test_a_second_reader_is_refused() -> None:
    channel: Channel[int] = Channel()
    reader = asyncio.create_task(channel.get())
    await until(lambda: channel._waiter)
    with pytest.raises(RuntimeError, match="another task"):
        await channel.get()
    channel.put(1)
    assert await reader == 1


async def test_the_channel_may_change_loops() -> None:
    channel: Channel[int] = Channel()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(channel.get(), 0.001)
    reader = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(channel.get())))
    await until(lambda: channel._waiter)
    channel.put(5)
    assert await reader == 5


async def test_f91_putting_after_the_readers_loop_has_closed_harms_nobody() -> None:
    channel: Channel[int] = Channel()

    def abandoned() -> None:
        loop = asyncio.new_event_loop()
        channel._waiter = (loop, loop.create_future())
        loop.close()

    await asyncio.to_thread(abandoned)
    channel.put(1)
    assert await channel.get() == 1
