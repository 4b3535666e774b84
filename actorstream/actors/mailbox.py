"""What a user's own actors tell, and are told; for `producer.ref` and `Consumer.deliver_to`.

Any Pykka actor will do, in its own thread or not:

    producer.ref.tell(Publish(b"body"))                       fire and forget; a failure is an event, `PublishFailed`
    producer.ref.tell(Publish(b"body", reply_to=my_ref))      the outcome comes back as `Published`
    producer.ref.ask(Publish(b"body"), block=False)           … or as the future's result: None, or an error

    await consumer.deliver_to(my_ref)                         `Deliver` for each batch; acknowledge it to get the next
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from actorstream.wire.message import Message


class Tellable(Protocol):
    """What we need of a ref: a `pykka.ActorRef`, or anything that can be told."""

    def tell(self, message: Any) -> None:
        """Take a message without waiting."""


def is_alive(ref: Tellable) -> bool:
    """Whether it may still do something; one that cannot say so is taken to."""
    ask: Callable[[], bool] | None = getattr(ref, "is_alive", None)
    return ask is None or ask()


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

    body: bytes | str | Message
    publishing_id: int | None = None
    reply_to: Tellable | None = None
    context: object = None
    filter_value: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """Told to `Publish.reply_to`: the outcome of one message; `error` is None when it is confirmed."""

    context: object
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Deliver:
    """Told by `Consumer.deliver_to`: messages of one stream, in order. The next ones come after `acknowledge()`."""

    stream: str
    messages: Sequence[Message]
    _acknowledge: Callable[[], object] = field(repr=False)

    def acknowledge(self) -> None:
        """These messages are completed. From any thread, at any time, once or more."""
        self._acknowledge()
