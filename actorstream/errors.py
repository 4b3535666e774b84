"""Every error that actorstream raises, and what each one asks of the reader.

All derive from `ActorStreamError`. Two class flags let the recovery code ask the error what to do next instead of
testing for types: `retryable` (the same thing may succeed later) and `refresh_topology` (ask where the stream lives
before trying again).

    ActorStreamError
    ├─ InvalidArgument (also ValueError)      the caller's value is wrong; says which one and what would be right
    │   └─ MessageTooLarge                    one message does not fit into a frame
    ├─ UnsupportedByBroker                    names the feature and the broker version that has it
    ├─ Closed                                 the handle was closed
    ├─ WrongLoop                              used from a place where waiting would hang
    ├─ RequestTimeout                         no answer in time; whether it was carried out is unknown
    ├─ ConnectionLost                         the socket is gone, whatever the cause
    │   ├─ ConnectFailed                      it never came up: DNS, TCP, TLS, or a handshake step
    │   │   └─ WrongBroker                    a load balancer leads to other brokers than the one wanted
    │   ├─ CredentialsUnavailable             the provider of credentials or tokens failed; its error is the cause
    │   ├─ HeartbeatTimeout                   it was silent for twice the heartbeat
    │   └─ ClosedByBroker                     the broker said Close, with a code and a reason
    ├─ WireError                              bytes that do not follow the protocol
    │   ├─ MalformedFrame
    │   ├─ UnknownFrame                       a well-framed command that we do not know: skipped, never fatal
    │   ├─ CorruptChunk                       CRC mismatch, or counts and lengths that contradict each other
    │   ├─ CompressionError                   unknown codec, broken data, or more output than allowed
    │   └─ MessageCodecError                  a value that AMQP 1.0 cannot carry, or bytes that are not AMQP 1.0
    ├─ UnknownContentType                     no codec for the content type of a message
    ├─ ObjectCodecError                       a codec cannot encode an object, or not decode a body
    ├─ ResponseError                          the broker answered with a code other than OK (one class a code)
    ├─ PublishError                           the outcome of a message that is not confirmed
    │   ├─ PublishRejected                    the broker refused it, with a code
    │   ├─ Unconfirmed                        no confirm by the deadline, or before close: it may be stored
    │   ├─ OutboxFull                         no room within the time allowed; it was not sent
    │   └─ NoRoute                            no partition of the super stream is meant for it; it was not sent
    ├─ PartitionsChanged                      a super stream has other partitions than its producer began with
    ├─ PublisherFenced                        another producer publishes under the same name
    ├─ ConsumeError
    │   ├─ OffsetGap                          the offset wanted is below what the stream retains
    │   ├─ StreamTruncated                    the offset wanted is beyond the end of the stream
    │   ├─ SourceReplaced                     a pipe's source is not the stream that it read before
    │   ├─ FilterFailed                       the predicate of the consumer's filter raised
    │   ├─ HandlerFailed                      the user's handler raised, and its policy says stop
    │   ├─ OffsetStoreFailed                  a consumer's offset could not be loaded, or not be stored
    │   └─ ActivationFailed                   the user's `on_activation` raised, or took too long
    └─ RestartIntensityExceeded               a bug: an actor failed too often in too short a time
"""

from __future__ import annotations

from typing import ClassVar


class ActorStreamError(Exception):
    """The root: catch this to catch everything that actorstream raises on purpose."""

    retryable: ClassVar[bool] = False
    refresh_topology: ClassVar[bool] = False


class InvalidArgument(ActorStreamError, ValueError):
    """A value given by the caller cannot be used; nothing was sent."""


class MessageTooLarge(InvalidArgument):
    """One message does not fit into a frame of the negotiated size.

    `size` and `limit` are bytes on the wire, all headers included.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a message of {size} bytes on the wire does not fit the broker's frame_max of {limit} bytes: "
            "send a smaller message, or raise stream.frame_max on the broker"
        )
        self.size = size
        self.limit = limit


class UnsupportedByBroker(ActorStreamError):
    """The broker is too old for a feature; the command was not sent, since it would have cost the connection."""

    def __init__(self, feature: str, needed: str, broker: str) -> None:
        super().__init__(f"{feature} needs RabbitMQ {needed} or newer, and this broker is {broker}")
        self.feature = feature
        self.needed = needed
        self.broker = broker


class Closed(ActorStreamError):
    """The handle (client, producer or consumer) was closed, by its owner or because what it stood for is gone."""


class WrongLoop(ActorStreamError):
    """A blocking wait on the loop that would have to produce the result: it would hang for ever."""


class RequestTimeout(ActorStreamError):
    """The broker did not answer in time. Whether it carried the request out is unknown.

    `last` is what the last of several attempts ended with, if there were some.
    """

    retryable = True
    refresh_topology = True

    def __init__(self, request: str, seconds: float, last: str = "") -> None:
        super().__init__(
            f"no answer to {request} within {seconds:g} s" + (f"; the last attempt: {last}" if last else "")
        )
        self.request = request
        self.seconds = seconds
        self.last = last


class ConnectionLost(ActorStreamError):
    """The connection to a broker ended."""

    retryable = True
    refresh_topology = True


class ConnectFailed(ConnectionLost):
    """A connection could not be opened: name resolution, TCP, TLS or a step of the handshake.

    `step` names what failed: "resolve", "connect", "tls", or the protocol's step.
    """

    def __init__(self, address: str, step: str, cause: str) -> None:
        super().__init__(f"cannot connect to {address}: {step}: {cause}")
        self.address = address
        self.step = step
        self.cause = cause


class WrongBroker(ConnectFailed):
    """Behind a load balancer, no connection came to a broker that is wanted within the time for it (F16).

    `found` are the brokers that answered instead, by what they advertise.
    """

    def __init__(self, wanted: str, balancer: str, found: str, seconds: float) -> None:
        super().__init__(wanted, "load balancer", f"{balancer} led to {found or 'nobody'} only, in {seconds:.1f} s")
        self.found = found


class CredentialsUnavailable(ConnectionLost):
    """The provider of credentials or tokens failed, or gave what is none; what it raised is chained as the cause."""


class HeartbeatTimeout(ConnectionLost):
    """Nothing was received for twice the heartbeat interval: the peer counts as dead."""


class ClosedByBroker(ConnectionLost):
    """The broker sent a Close command."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the broker closed the connection: {reason} (code {code})")
        self.code = code
        self.reason = reason


class WireError(ActorStreamError):
    """Bytes that do not follow the protocol."""


class MalformedFrame(WireError):
    """A frame whose bytes contradict its layout. The connection that carried it cannot be trusted any more."""

    retryable = True


class UnknownFrame(WireError):
    """A well-framed command that this version does not know; the frame was skipped whole."""

    def __init__(self, key: int, version: int) -> None:
        super().__init__(f"unknown command 0x{key:04x} version {version}")
        self.key = key
        self.version = version


class CorruptChunk(WireError):
    """A chunk whose CRC does not match, or whose counts and lengths contradict each other."""

    retryable = True


class CompressionError(WireError):
    """A sub-entry batch that cannot be (de)compressed: unknown codec, broken data, or output above the limit."""


class MessageCodecError(WireError, ValueError):
    """A value that AMQP 1.0 cannot carry, or bytes that are not an AMQP 1.0 message."""


class UnknownContentType(ActorStreamError):
    """Nobody registered a codec for the content type of a message; None: the message names none."""

    def __init__(self, content_type: str | None, known: tuple[str, ...]) -> None:
        what = "a message without a content type" if content_type is None else f"content type {content_type!r}"
        super().__init__(f"no codec for {what}: registered are {', '.join(known)}")
        self.content_type = content_type
        self.known = known


class ObjectCodecError(ActorStreamError):
    """A codec cannot encode an object, or a body is not what its content type says; the codec's error is chained."""


class ResponseError(ActorStreamError):
    """The broker answered a request with a code other than OK."""

    code: ClassVar[int] = 0
    text: ClassVar[str] = "unknown response code"

    def __init__(self, context: str = "", code: int | None = None) -> None:
        self.context = context
        self.response_code = self.code if code is None else code
        super().__init__(f"{self.text} (code {self.response_code})" + (f": {context}" if context else ""))


class StreamDoesNotExist(ResponseError):
    code = 2
    text = "stream does not exist"


class SubscriptionIdAlreadyExists(ResponseError):
    code = 3
    text = "subscription id already exists"


class SubscriptionIdDoesNotExist(ResponseError):
    code = 4
    text = "subscription id does not exist"


class StreamAlreadyExists(ResponseError):
    code = 5
    text = "stream already exists"


class StreamNotAvailable(ResponseError):
    """The stream exists, but no leader or no usable member can be reached at this moment."""

    code = 6
    text = "stream not available"
    retryable = True
    refresh_topology = True


class SaslMechanismNotSupported(ResponseError):
    code = 7
    text = "SASL mechanism not supported"


class AuthenticationFailure(ResponseError):
    code = 8
    text = "authentication failure"


class SaslError(ResponseError):
    code = 9
    text = "SASL error"


class SaslChallenge(ResponseError):
    code = 10
    text = "SASL challenge"


class AuthenticationFailureLoopback(ResponseError):
    code = 11
    text = "authentication failure: this user may connect from the broker's own host only"


class VirtualHostAccessFailure(ResponseError):
    code = 12
    text = "virtual host access failure: it does not exist, or this user may not enter it"


class UnknownFrameResponse(ResponseError):
    code = 13
    text = "unknown frame"


class FrameTooLargeResponse(ResponseError):
    code = 14
    text = "frame too large"


class InternalError(ResponseError):
    code = 15
    text = "internal error of the broker"
    retryable = True
    refresh_topology = True


class AccessRefused(ResponseError):
    code = 16
    text = "access refused: this user lacks the permission"


class PreconditionFailed(ResponseError):
    code = 17
    text = "precondition failed"


class PublisherDoesNotExist(ResponseError):
    code = 18
    text = "publisher does not exist"
    retryable = True
    refresh_topology = True


class NoOffset(ResponseError):
    code = 19
    text = "no offset stored"


class SaslCannotChangeMechanism(ResponseError):
    code = 20
    text = "the SASL mechanism of an open connection cannot be changed"


class SaslCannotChangeUsername(ResponseError):
    code = 21
    text = "the user of an open connection cannot be changed"


_BY_CODE: dict[int, type[ResponseError]] = {
    cls.code: cls
    for cls in (
        StreamDoesNotExist,
        SubscriptionIdAlreadyExists,
        SubscriptionIdDoesNotExist,
        StreamAlreadyExists,
        StreamNotAvailable,
        SaslMechanismNotSupported,
        AuthenticationFailure,
        SaslError,
        SaslChallenge,
        AuthenticationFailureLoopback,
        VirtualHostAccessFailure,
        UnknownFrameResponse,
        FrameTooLargeResponse,
        InternalError,
        AccessRefused,
        PreconditionFailed,
        PublisherDoesNotExist,
        NoOffset,
        SaslCannotChangeMechanism,
        SaslCannotChangeUsername,
    )
}


def response_error(code: int, context: str = "") -> ResponseError:
    """The error for a response code; a code we do not know gives a plain `ResponseError` that carries it."""
    return _BY_CODE.get(code, ResponseError)(context, code)


class PublishError(ActorStreamError):
    """The outcome of a message that is not confirmed."""


class PublishRejected(PublishError):
    """The broker refused this message. `code` is the response code; the message is not stored."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the broker refused the message: {response_error(code)}")
        self.code = code


class Unconfirmed(PublishError):
    """No confirm arrived by the deadline, or before the producer ended: the message may be stored or not."""


class OutboxFull(PublishError):
    """The outbox had no room within the time allowed; the message was not sent and can be sent again."""


class NoRoute(PublishError):
    """The routing found no partition for the message; it was not sent. `key` is None for a routing of the user's."""

    def __init__(self, super_stream: str, key: str | None) -> None:
        super().__init__(
            f"the routing chose no partition of super stream {super_stream!r}"
            if key is None
            else f"no partition in use of super stream {super_stream!r} is bound with the routing key {key!r}: "
            "bind one, or give the routing a fallback"
        )
        self.super_stream = super_stream
        self.key = key


class PartitionsChanged(ActorStreamError):
    """A super stream has other partitions than its producer or consumer began with, and that was to be raised.

    What a producer accepted before goes on. One that is made anew uses the new partitions.
    """

    def __init__(self, super_stream: str, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        changes = [f"{what}: {', '.join(names)}" for what, names in (("added", added), ("removed", removed)) if names]
        super().__init__(
            f"the partitions of super stream {super_stream!r} have changed ({'; '.join(changes) or 'their order'}): "
            "keys may belong elsewhere now; a new producer or consumer uses them"
        )
        self.super_stream = super_stream
        self.added = added
        self.removed = removed


class BrokerAway(PublishError):
    """There is no connection to the stream's leader, and `WhenAway.FAIL` says not to wait for one.

    The message was not accepted, and can be sent again.
    """


class PublisherFenced(ActorStreamError):
    """The broker holds a higher publishing id under this producer's name than it has sent: somebody else has sent it.

    To go on would be silent loss: the broker takes every lower id for a duplicate, drops and confirms it (F28).
    """

    def __init__(self, sequence: int, sent: int) -> None:
        super().__init__(
            f"the broker holds publishing id {sequence} under this producer's name, which has sent none above {sent}: "
            "another producer uses the same name"
        )
        self.sequence = sequence
        self.sent = sent


class ConsumeError(ActorStreamError):
    """Something between the stream and the consumer that the consumer has to know of."""


class OffsetGap(ConsumeError):
    """Offsets from `wanted` up to, but not including, `first` are not in the stream any more (retention)."""

    def __init__(self, stream: str, wanted: int, first: int) -> None:
        super().__init__(
            f"stream {stream!r} begins at offset {first}: offsets {wanted} to {first - 1} are gone by retention"
        )
        self.stream = stream
        self.wanted = wanted
        self.first = first


class StreamTruncated(ConsumeError):
    """The offset wanted lies beyond the end: the stream was deleted and made anew, or lost its tail."""

    def __init__(self, stream: str, wanted: int, last_chunk_id: int) -> None:
        super().__init__(
            f"offset {wanted} is beyond the end of stream {stream!r}, whose last chunk begins at {last_chunk_id}: "
            "it was deleted and made anew, or lost its tail"
        )
        self.stream = stream
        self.wanted = wanted
        self.last_chunk_id = last_chunk_id


class SourceReplaced(ConsumeError):
    """The source of a pipe is not the stream that it read before, or lost what the pipe has not read.

    To go on would be silent loss: the target holds ids that were counted in the old one, and would take the messages of
    the new one for duplicates of them.
    """

    def __init__(self, stream: str, name: str) -> None:
        super().__init__(
            f"stream {stream!r} does not know pipe {name!r}, whose outputs are in the target: it was deleted and made "
            "anew, or retention took it further than the pipe; to begin anew, give the pipe another name"
        )
        self.stream = stream
        self.name = name


class HandlerFailed(ConsumeError):
    """The consumer's handler raised and its error policy says stop; the cause is chained."""

    def __init__(self, stream: str, offset: int) -> None:
        super().__init__(f"the handler failed on offset {offset} of stream {stream!r}")
        self.stream = stream
        self.offset = offset


class FilterFailed(ConsumeError):
    """The predicate of the consumer's filter raised; the cause is chained. The same chunk comes again."""

    def __init__(self, stream: str, offset: int) -> None:
        super().__init__(f"the predicate of the filter failed on offset {offset} of stream {stream!r}")
        self.stream = stream
        self.offset = offset


class OffsetStoreFailed(ConsumeError):
    """The offset of a named consumer could not be loaded, or not be stored in time; the cause is chained.

    `what` is "loaded" or "stored". After "stored", the messages since the last one that was stored come again to
    whoever goes on under the name.
    """

    def __init__(self, name: str, stream: str, what: str, cause: BaseException) -> None:
        super().__init__(f"the offset of consumer {name!r} in stream {stream!r} could not be {what}: {cause}")
        self.name = name
        self.stream = stream
        self.what = what
        self.__cause__ = cause


class ActivationFailed(ConsumeError):
    """The user's `on_activation` raised or took too long, or chose no offset: the consumer left its group.

    Another member takes over. To begin somewhere else than the callback would have said might skip messages.
    """

    def __init__(self, stream: str, cause: str) -> None:
        super().__init__(f"the activation of a consumer of stream {stream!r} failed: {cause}")
        self.stream = stream


class RestartIntensityExceeded(ActorStreamError):
    """An actor failed unexpectedly too often in too short a time; the last failure is chained as the cause."""

    def __init__(self, name: str, restarts: int, seconds: float) -> None:
        super().__init__(f"{name} failed {restarts} times within {seconds:g} s")
        self.name = name
        self.restarts = restarts
        self.seconds = seconds
