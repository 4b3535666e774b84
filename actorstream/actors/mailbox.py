"""What a user's own actors tell and ask, and are told: of `producer.ref`, `consumer.ref` and `client.ref`.

Any Pykka actor will do, in its own thread or not:

    producer.ref.tell(Publish(b"body"))                       fire and forget; a failure is an event, `PublishFailed`
    producer.ref.tell(Publish(b"body", reply_to=my_ref))      the outcome comes back as `Published`
    producer.ref.ask(Publish(b"body"), block=False)           … or as the future's result: None, or an error

    consumer.ref.tell(Pause())                                and Resume; ask for Where, Seek, StoreOffset
    client.ref.ask(Subscribe("orders", to=my_ref))            `Deliver` for each batch; acknowledge it to get the next
    await consumer.deliver_to(my_ref)                         the same for a consumer that is there already

What is asked and cannot be done raises the same error as the method of the handle that it stands for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from actorstream.actors.messages import Pause, Ref, Resume
from actorstream.errors import Closed
from actorstream.offset import OffsetLike
from actorstream.options import StreamArguments

if TYPE_CHECKING:
    from actorstream.actors.encoding import Body
    from actorstream.wire.message import Message

__all__ = [
    "Close",
    "CreateStream",
    "DeleteStream",
    "Deliver",
    "DeliveryEnded",
    "GetTree",
    "OpenProducer",
    "Pause",
    "Place",
    "Publish",
    "PublishBatch",
    "Published",
    "ReportEvents",
    "Resume",
    "Seek",
    "StoreOffset",
    "Subscribe",
    "Tellable",
    "Where",
    "is_alive",
]

logger = logging.getLogger("actorstream.actors")


class Tellable(Protocol):
    """What we need of a ref: a `pykka.ActorRef`, or anything that can be told."""

    def tell(self, message: Any) -> None:
        """Take a message without waiting."""


def is_alive(ref: Tellable) -> bool:
    """Whether it may still do something; one that cannot say so is taken to."""
    ask: Callable[[], bool] | None = getattr(ref, "is_alive", None)
    return ask is None or ask()


# To a producer's ref ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publish:
    """Told to or asked of a producer's ref: publish one message.

    Attributes:
        body: bytes, text or a `Message`.
        publishing_id, filter_value: as for `Producer.send`.
        reply_to: who is told the outcome, as `Published`. Not needed with `ask`.
        context: anything; comes back in `Published`.

    There is no waiting for room: when the producer's window is full, the outcome is `OutboxFull` at once.
    """

    body: Body
    publishing_id: int | None = None
    reply_to: Tellable | None = None
    context: object = None
    filter_value: str | None = None

    def never_handled(self, reason: Exception, *, was_asked: bool) -> None:
        """Called by the runtime when the producer ended before it saw the message; whoever asked is answered there."""
        _tell_of_the_end(self, reason, was_asked=was_asked)


@dataclass(frozen=True, slots=True)
class PublishBatch:
    """Told to or asked of a producer's ref: publish many messages, which have one outcome.

    It is None once all are confirmed, else the first error. Those behind one that cannot be accepted are not published.
    """

    bodies: Sequence[Body]
    reply_to: Tellable | None = None
    context: object = None

    def never_handled(self, reason: Exception, *, was_asked: bool) -> None:
        """Called by the runtime when the producer ended before it saw the message; whoever asked is answered there."""
        _tell_of_the_end(self, reason, was_asked=was_asked)


@dataclass(frozen=True, slots=True)
class Published:
    """Told to `reply_to`: the outcome of a `Publish` or `PublishBatch`; `error` is None when it is confirmed."""

    context: object
    error: Exception | None


def _tell_of_the_end(message: Publish | PublishBatch, reason: Exception, *, was_asked: bool) -> None:
    if message.reply_to is not None:
        error = Closed("the producer was closed before it saw the message, which is not published")
        error.__cause__ = reason
        message.reply_to.tell(Published(message.context, error))
    elif not was_asked:  # there is nobody to emit an event any more
        logger.warning("a message was told to a producer that was being closed, and is not published: %s", reason)


# To a consumer's ref: also `Pause` and `Resume` -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Where:
    """Asked of a consumer's ref: how far it has come. -> `Place`."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a consumer has come; the fields are those of `Consumer`."""

    stream: str
    position: int
    completed: int | None
    committed_chunk_id: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Seek:
    """Told to or asked of a consumer's ref: go on from another place; see `Consumer.seek`. -> None, before it is done.

    A batch that was delivered before has to be acknowledged all the same, as the next one comes after that; it
    completes nothing any more.
    """

    offset: OffsetLike


@dataclass(frozen=True, slots=True)
class StoreOffset:
    """Asked of a named consumer's ref: store an offset, or the last completed one; see `Consumer.store_offset`."""

    offset: int | None = None


ConsumerRequest = Seek | StoreOffset
"""What the handle of a consumer carries out, on its own loop."""


# To a consumer's reader -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deliver:
    """Told by `Consumer.deliver_to`: messages of one stream, in order. The next ones come after `acknowledge()`."""

    stream: str
    messages: Sequence[Message]
    _acknowledge: Callable[[], object] = field(repr=False)

    def acknowledge(self) -> None:
        """These messages are completed. From any thread, at any time, once or more."""
        self._acknowledge()


@dataclass(frozen=True, slots=True)
class DeliveryEnded:
    """Told after `Subscribe`: there will be no more of this stream. `error` is None when the consumer was closed."""

    stream: str
    error: Exception | None


# To a client's ref ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateStream:
    """Asked of a client's ref; see `Client.create_stream`. -> None."""

    stream: str
    arguments: StreamArguments | None = None
    exist_ok: bool = False


@dataclass(frozen=True, slots=True)
class DeleteStream:
    """Asked of a client's ref; see `Client.delete_stream`. -> None."""

    stream: str
    missing_ok: bool = False


@dataclass(frozen=True, slots=True)
class OpenProducer:
    """Asked of a client's ref: a producer; `options` are those of `Client.producer`. -> its ref, once it is declared.

    It is open until it is closed with `Close(ref)`, or with the client.
    """

    stream: str
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Asked of a client's ref: deliver a stream to an actor. -> the consumer's ref, once it is subscribed.

    The actor is told `Deliver`, one batch after the other, and in the end `DeliveryEnded`. The consumer is closed when
    the actor is dead, with `Close(ref)`, or with the client; a batch that was not acknowledged then is not completed.

    Attributes:
        stream: which one.
        to: who is told.
        offset, name, options: as for `Client.consumer`.
        max_size: of a batch; None: a chunk.
    """

    stream: str
    to: Tellable
    offset: OffsetLike = "next"
    name: str = ""
    max_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Close:
    """Asked of a client's ref: close the producer or consumer with this ref; see their `close`. -> None, also again."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class GetTree:
    """Asked of a client's ref: a snapshot of the tree. -> `Node`."""


@dataclass(frozen=True, slots=True)
class ReportEvents:
    """Told to a client's ref: tell this actor every event from now on, as `Client.events` has them, while it lives."""

    to: Tellable


ClientRequest = CreateStream | DeleteStream | OpenProducer | Subscribe | Close | GetTree | ReportEvents
"""What the client carries out, on the loop of its user."""
