"""What happens when a handler raises: each policy, on a consumer that is a list."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Self, cast

import pytest

from actorstream import BackoffPolicy, Message, Producer, errors, handling
from actorstream.handling import Consumable, ErrorPolicy, Handler, Park, Skip, Stop, Workers

AT_ONCE = BackoffPolicy(base_s=0.001, cap_s=0.001)


class Listed:
    """As much of a consumer as a handler's loop needs."""

    stream = "orders"

    def __init__(self, count: int) -> None:
        self.messages = [self.make(number) for number in range(count)]
        self.put_back_again: list[int] = []
        self.asked = 0

    @staticmethod
    def make(number: int) -> Message:
        message = Message(b"%d" % number, application_properties={"kept": True})
        message.offset = number
        message.stream = "orders"
        return message

    def put_back(self, messages: list[Message]) -> None:
        self.put_back_again += [message.offset for message in messages]

    async def __aiter__(self) -> AsyncIterator[Message]:
        for message in self.messages:
            self.asked += 1
            yield message


class Parking:
    def __init__(self, error: Exception | None = None) -> None:
        self.parked: list[Message] = []
        self.error = error
        self.closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.closed = True

    async def send_wait(self, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.parked.append(message)


async def run(
    consumer: Listed,
    handler: Handler,
    policy: ErrorPolicy | None = None,
    parking: Parking | None = None,
    workers: Workers | None = None,
) -> None:
    async def make(stream: str) -> Producer:
        assert stream == "parked"
        return cast(Producer, parking)

    await handling.consume(cast(Consumable, consumer), make, handler, policy or ErrorPolicy(), workers or Workers())
    assert parking is None or parking.closed


class Failing:
    """Fails on the messages given, so often; an error that is not one of the exceptions is raised as it is."""

    def __init__(self, fails: dict[int, int], error: type[BaseException] = ValueError) -> None:
        self.fails = fails
        self.error = error
        self.tries: list[int] = []

    def __call__(self, message: Message) -> None:
        self.tries.append(message.offset)
        if self.fails.get(message.offset, 0) > 0:
            self.fails[message.offset] -= 1
            raise self.error(f"not {message.offset}")


async def test_every_message_is_handed_over_in_order_to_a_plain_handler() -> None:
    handler = Failing({})
    await run(Listed(4), handler)
    assert handler.tries == [0, 1, 2, 3]


async def test_an_async_handler_has_ended_before_the_next_message() -> None:
    log: list[str] = []

    async def handle(message: Message) -> None:
        log.append(f"begin {message.offset}")
        await asyncio.sleep(0)
        log.append(f"end {message.offset}")

    await run(Listed(2), handle)
    assert log == ["begin 0", "end 0", "begin 1", "end 1"]


async def test_f57_the_default_stops_at_the_first_failure_and_chains_it() -> None:
    consumer, handler = Listed(4), Failing({2: 1})
    with pytest.raises(errors.HandlerFailed) as caught:
        await run(consumer, handler)
    assert (caught.value.stream, caught.value.offset) == ("orders", 2)
    assert isinstance(caught.value.__cause__, ValueError)
    assert handler.tries == [0, 1, 2]
    assert consumer.asked == 3, "the next one was not asked for: that would have completed this one"
    assert consumer.put_back_again == [2]


async def test_f57_retries_are_for_one_message_and_begin_anew_for_the_next() -> None:
    consumer, handler = Listed(3), Failing({0: 2, 1: 2})
    await run(consumer, handler, ErrorPolicy(retries=2, backoff=AT_ONCE))
    assert handler.tries == [0, 0, 0, 1, 1, 1, 2]
    assert consumer.put_back_again == []


async def test_f57_what_fails_once_more_than_it_is_retried_meets_the_policy() -> None:
    handler = Failing({1: 3})
    with pytest.raises(errors.HandlerFailed):
        await run(Listed(3), handler, ErrorPolicy(retries=2, backoff=AT_ONCE))
    assert handler.tries == [0, 1, 1, 1]


async def test_f57_skip_goes_on_and_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    consumer, handler = Listed(3), Failing({1: 1})
    with caplog.at_level(logging.WARNING, "actorstream"):
        await run(consumer, handler, ErrorPolicy(then=Skip()))
    assert handler.tries == [0, 1, 2]
    assert consumer.put_back_again == []
    (record,) = caplog.records
    assert "offset 1 of stream 'orders'" in record.getMessage()


async def test_f57_park_publishes_the_message_with_its_origin_and_goes_on() -> None:
    handler, parking = Failing({1: 1}), Parking()
    await run(Listed(3), handler, ErrorPolicy(then=Park("parked")), parking)
    assert handler.tries == [0, 1, 2]
    (message,) = parking.parked
    assert message.body == b"1"
    assert message.application_properties == {
        "kept": True,
        "x-origin-stream": "orders",
        "x-origin-offset": 1,
        "x-reason": "ValueError: not 1",
    }


async def test_f57_what_cannot_be_parked_stops() -> None:
    consumer = Listed(3)
    with pytest.raises(errors.HandlerFailed) as caught:
        await run(consumer, Failing({1: 1}), ErrorPolicy(then=Park("parked")), Parking(errors.Unconfirmed("late")))
    assert isinstance(caught.value.__cause__, errors.Unconfirmed)
    assert isinstance(caught.value.__cause__.__context__, ValueError | None)
    assert consumer.put_back_again == [1]


@pytest.mark.parametrize("raw", [False, True])
async def test_f57_a_record_that_is_no_amqp_message_is_parked_as_the_body_of_one(raw: bool) -> None:
    consumer, parking = Listed(0), Parking()
    # As a raw record, even one that could be read is not to be taken for a message.
    record = Message(b"text", application_properties={"a": 1}).encode() if raw else b"\xde\xad\xbe\xef"
    message = Message.decode(record, raw=raw)
    message.offset, message.stream = 9, "orders"
    consumer.messages = [message]

    def handle(message: Message) -> None:
        raise ValueError(message.body)

    await run(consumer, handle, ErrorPolicy(then=Park("parked")), parking)
    (kept,) = parking.parked
    assert kept.body == record
    assert kept.application_properties["x-origin-offset"] == 9
    assert kept.application_properties["x-raw"] is True
    assert kept.application_properties.keys() == {"x-origin-stream", "x-origin-offset", "x-reason", "x-raw"}


async def test_f57_a_message_whose_application_properties_are_broken_is_parked_as_its_record() -> None:
    consumer, parking = Listed(0), Parking()
    message = Message.decode(b"\x00\x53\x74\xff" + Message(b"body").encode())
    message.offset, message.stream = 9, "orders"
    consumer.messages = [message]
    await run(consumer, Failing({9: 1}), ErrorPolicy(then=Park("parked")), parking)
    assert parking.parked[0].body == message.encode()


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("\ud800 is no character", "ValueError: \\ud800 is no character"), ("x" * 10_000, "ValueError: " + "x" * 988)],
)
async def test_f57_whatever_an_exception_says_can_be_kept(reason: str, kept: str) -> None:
    parking = Parking()

    def handle(_message: Message) -> None:
        raise ValueError(reason)

    await run(Listed(1), handle, ErrorPolicy(then=Park("parked")), parking)
    assert parking.parked[0].application_properties["x-reason"] == kept


async def test_f57_what_was_parked_before_and_fails_again_names_where_it_failed_last() -> None:
    first, second = Parking(), Parking()
    await run(Listed(1), Failing({0: 1}), ErrorPolicy(then=Park("parked")), first)
    consumer = Listed(0)
    (message,) = first.parked
    message.offset, message.stream = 77, "other"
    consumer.messages = [message]
    await run(consumer, Failing({77: 1}), ErrorPolicy(then=Park("parked")), second)
    assert second.parked[0].application_properties["x-origin-stream"] == "other"
    assert second.parked[0].application_properties["x-origin-offset"] == 77


async def test_to_park_in_the_stream_itself_is_refused_since_it_would_never_end() -> None:
    consumer, handler = Listed(1), Failing({})
    with pytest.raises(errors.InvalidArgument, match="comes again"):
        await run(consumer, handler, ErrorPolicy(then=Park("orders")), Parking())
    assert handler.tries == []


async def test_to_park_in_a_partition_of_the_super_stream_that_is_read_stops() -> None:
    consumer, parking = Listed(2), Parking()
    consumer.stream = "all orders"
    consumer.messages[1].stream = "parked"
    with pytest.raises(errors.HandlerFailed, match="offset 1 of stream 'parked'") as caught:
        await run(consumer, Failing({0: 1, 1: 1}), ErrorPolicy(then=Park("parked")), parking)
    assert isinstance(caught.value.__cause__, errors.InvalidArgument)
    assert [message.body for message in parking.parked] == [b"0"]


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
async def test_f57_what_is_no_exception_is_no_failure_of_the_handler(error: type[BaseException]) -> None:
    consumer, handler = Listed(3), Failing({1: 1}, error)
    with pytest.raises(error):
        await run(consumer, handler, ErrorPolicy(retries=5, then=Skip()))
    assert handler.tries == [0, 1], "neither tried again nor skipped"
    assert consumer.put_back_again == [1]


async def test_a_run_that_is_cancelled_puts_its_message_back() -> None:
    consumer, begun = Listed(2), asyncio.Event()

    async def handle(_message: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(consumer, handle))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert consumer.put_back_again == [0]


@pytest.mark.parametrize(
    "wrong", [{"retries": -1}, {"retries": 1.5}, {"retries": True}, {"then": "skip"}, {"then": Stop}]
)
def test_a_policy_that_is_none_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        ErrorPolicy(**wrong)


@pytest.mark.parametrize("name", ["", "x" * 256, "two\nlines"])
def test_a_stream_to_park_in_has_a_name_that_a_broker_takes(name: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        Park(name)
