"""Who is attached to a connection: publishers and subscribers, the ids they have there, and how they come and go.

Plain: what it sends and whom it tells is handed to it by the `Connection`, on whose loop it is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pykka

from actorstream.actors import messages as m
from actorstream.actors.future import LoopFuture
from actorstream.actors.membership import NO_MATTER
from actorstream.errors import ActorStreamError, ConnectionLost, response_error
from actorstream.offset import OffsetSpecification
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode

A = TypeVar("A")


@dataclass(slots=True)
class Attachment:
    """What the connection knows of one publisher or subscriber on it.

    `take` gets what comes all the time, confirmed ids or chunks, without a message; all else is told to `ref`.
    """

    number: int
    slot: m.Slot
    ref: m.Ref
    stream: str
    take: Callable[[Any], object]
    is_publisher: bool


class Attachments:
    """See the module.

    Args:
        request: sends a request; its future has the answer, or why there is none. Raises when nothing was sent.
        respond: answers a request of the broker. Raises when the connection is not open any more.
        release: gives a slot back to the pool.
        retire: says that the broker and we disagree about this connection: nobody new should come to it.
        watch: has the connection told when an entity ends.
    """

    def __init__(
        self,
        *,
        request: Callable[[c.Request], LoopFuture[c.Response]],
        respond: Callable[[c.Response, int], object],
        release: Callable[[m.Slot], object],
        retire: Callable[[], object],
        watch: Callable[[m.Ref], object],
    ) -> None:
        self._request = request
        self._respond = respond
        self._release = release
        self._retire = retire
        self._watch = watch
        self._by_number: dict[int, Attachment] = {}
        self._publishers: dict[int, Attachment] = {}
        self._subscribers: dict[int, Attachment] = {}
        self._updates: dict[int, int] = {}

    @property
    def counts(self) -> tuple[int, int]:
        """How many publishers, and how many subscribers."""
        return len(self._publishers), len(self._subscribers)

    def publisher(self, entity_id: int) -> Attachment | None:
        """The publisher that has this id on the wire."""
        return self._publishers.get(entity_id)

    def subscriber(self, entity_id: int) -> Attachment | None:
        """The subscriber that has this id on the wire."""
        return self._subscribers.get(entity_id)

    def of_stream(self, stream: str) -> list[Attachment]:
        """All that have to do with a stream."""
        return [one for one in self._by_number.values() if one.stream == stream]

    def tell(self, attachment: Attachment, message: object) -> None:
        """Tell an entity; one that is not there any more is taken off the broker."""
        try:
            attachment.ref.tell(message)
        except pykka.ActorDeadError:
            self.detach(attachment.number)

    def clear(self) -> None:
        """The connection has ended, and with it everything on it."""
        self._by_number.clear()
        self._publishers.clear()
        self._subscribers.clear()
        self._updates.clear()

    # Coming -------------------------------------------------------------------------------------------------------

    def attach_publisher(self, message: m.AttachPublisher, write: A) -> LoopFuture[A]:
        """Declare a publisher, which is to `write`. Raises the broker's refusal; the slot is given back then."""
        slot, take = message.slot, message.confirmed
        attachment = Attachment(message.attachment, slot, message.ref, message.stream, take, is_publisher=True)
        # Known before the request leaves: a confirm can follow the answer in the same read (F24, F62).
        self._publishers[slot.entity_id] = attachment
        command = c.DeclarePublisher(slot.entity_id, message.reference, message.stream)
        return self._attach(attachment, command, write)

    def attach_subscriber(self, message: m.AttachSubscriber, send: A) -> LoopFuture[A]:
        """Subscribe; likewise."""
        slot, take = message.slot, message.delivered
        attachment = Attachment(message.attachment, slot, message.ref, message.stream, take, is_publisher=False)
        self._subscribers[slot.entity_id] = attachment
        command = c.Subscribe(slot.entity_id, message.stream, message.offset, message.credit, dict(message.properties))
        return self._attach(attachment, command, send)

    def _attach(self, attachment: Attachment, command: c.Request, way: A) -> LoopFuture[A]:
        self._by_number[attachment.number] = attachment
        self._watch(attachment.ref)
        done: LoopFuture[A] = LoopFuture()

        def answered(future: LoopFuture[c.Response]) -> None:
            try:
                code = future.get(timeout=0).code
            except ActorStreamError as error:
                # Whether the broker has it is unknown after a timeout: `detach` takes it back in either case (F07).
                self.detach(attachment.number)
                done.try_set_exception(error)
                return
            if code == ResponseCode.OK:
                done.try_set(way)
                return
            if attachment.number in self._by_number:  # else it is detached already, and that gives the slot back
                self._give_back(attachment)
            done.try_set_exception(response_error(code, f"stream {attachment.stream!r}"))

        try:
            reply = self._request(command)
        except ActorStreamError as error:  # nothing was sent
            self._give_back(attachment)
            done.try_set_exception(error)
        else:
            reply.add_done_callback(answered)
        return done

    # Single active consumers ----------------------------------------------------------------------------------------

    def update(self, command: c.ConsumerUpdate, correlation_id: int) -> None:
        """The broker makes a subscriber active or not, and goes on in its group only when that is answered.

        It may come in the same read as the answer to Subscribe (F62). Without a subscriber it is answered at once.
        """
        attachment = self._subscribers.get(command.subscription_id)
        if attachment is None:
            self._answer(correlation_id, NO_MATTER)
            return
        self._updates[correlation_id] = attachment.number
        self.tell(
            attachment, m.ConsumerUpdated(attachment.slot.connection, attachment.number, correlation_id, command.active)
        )

    def answer_update(self, answer: m.AnswerConsumerUpdate) -> None:
        """Let the broker have the answer. One that was given already, when its subscriber left, is not given again."""
        if self._updates.get(answer.correlation_id) == answer.attachment:
            del self._updates[answer.correlation_id]
            self._answer(answer.correlation_id, answer.offset)

    def _answer(self, correlation_id: int, offset: OffsetSpecification) -> None:
        with contextlib.suppress(ConnectionLost):  # nobody is left to wait for it
            self._respond(c.ConsumerUpdateResponse(ResponseCode.OK, offset), correlation_id)

    # Going --------------------------------------------------------------------------------------------------------

    def entity_ended(self, ref: m.Ref) -> None:
        """An actor is gone: so is what it had here."""
        for attachment in [one for one in self._by_number.values() if one.ref.actor_urn == ref.actor_urn]:
            self.detach(attachment.number)

    def detach(self, number: int) -> LoopFuture[None]:
        """Take an entity off the broker; its id is free for others only when the broker has said so (F61)."""
        done: LoopFuture[None] = LoopFuture()
        attachment = self._by_number.get(number)
        if attachment is None:
            done.set(None)
            return done
        self._forget(attachment)
        for correlation_id in [one for one, owner in self._updates.items() if owner == number]:
            # Before it leaves: a group whose member left without an answer waited for it in some brokers (F72).
            del self._updates[correlation_id]
            self._answer(correlation_id, NO_MATTER)
        entity_id = attachment.slot.entity_id
        command = c.DeletePublisher(entity_id) if attachment.is_publisher else c.Unsubscribe(entity_id)

        def answered(future: LoopFuture[c.Response]) -> None:
            # Whatever it says: 4 and 18 mean that the broker dropped it by itself. Without an answer the connection is
            # on its way out, and the id with it.
            try:
                future.get(timeout=0)
            except ActorStreamError as error:
                if not isinstance(error, ConnectionLost):
                    self._retire()
            self._release(attachment.slot)
            done.try_set(None)

        try:
            self._request(command).add_done_callback(answered)
        except ActorStreamError:  # the connection ended meanwhile, and its slots with it
            done.set(None)
        return done

    def _give_back(self, attachment: Attachment) -> None:
        self._forget(attachment)
        self._release(attachment.slot)

    def _forget(self, attachment: Attachment) -> None:
        self._by_number.pop(attachment.number, None)
        table = self._publishers if attachment.is_publisher else self._subscribers
        if table.get(attachment.slot.entity_id) is attachment:
            del table[attachment.slot.entity_id]
