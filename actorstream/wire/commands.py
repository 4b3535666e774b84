"""Every command of the protocol, in both directions and all versions, and the way between a command and its frame.

A command is one frozen dataclass. The decorator above it is its row in the table: the key, and the wire type of each
field in order. Encoder and decoder come from that row, once, at import; `layouts()` shows the table to whoever wants to
walk it.

Only the two frames that arrive by the thousand, PublishConfirm and Deliver, are decoded by hand; a test holds them
equal to their rows. (Publish leaves by way of `publish.py`, which builds its frames without making commands at all.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

from actorstream.errors import InvalidArgument, MalformedFrame, UnknownFrame
from actorstream.offset import OffsetSpecification
from actorstream.wire.constants import NO_LEADER, RESPONSE_BIT, Key, ResponseCode
from actorstream.wire.fields import (
    BINARY,
    BOOL,
    CHALLENGE,
    I16,
    I32,
    I64,
    NULLABLE_STRING,
    OFFSET,
    OFFSET_OR_NONE,
    REST,
    STRING,
    STRING_MAP,
    STRINGS,
    TRAILING_MAP,
    U8,
    U16,
    U32,
    U64,
    Answer,
    Array,
    Field,
    Implied,
    Map,
    Reader,
    Structure,
    interpreted,
)

_C = TypeVar("_C", bound="Command")


@interpreted
class Command:
    """What every command is. One that is neither a `Request` nor a `Response` goes one way, without correlation id."""

    __slots__ = ()

    KEY: ClassVar[Key]
    VERSION: ClassVar[int]

    @property
    def wire_version(self) -> int:
        """The version that this very command is encoded in: `VERSION`, unless its fields ask for an older one."""
        return self.VERSION


@interpreted
class Request(Command):
    """A command that is answered."""

    __slots__ = ()


@interpreted
@dataclass(frozen=True, slots=True)
class Response(Command):
    """An answer. `code` is a `ResponseCode`, or a number that only newer brokers know."""

    code: int

    @property
    def ok(self) -> bool:
        """Whether the broker did what it was asked to do."""
        return self.code == ResponseCode.OK


_HEADER_SIZE: Final = 4
_CODEC_MASK: Final = 0b111
_CONFIRM: Final = Key.PUBLISH_CONFIRM << 16 | 1
_CONFIRM_IDS: Final = 9
_DELIVER_V1: Final = Key.DELIVER << 16 | 1
_DELIVER_V2: Final = Key.DELIVER << 16 | 2


class Layout:
    """One row of the table: how one version of one command lies in a frame.

    `header` is what the frame begins with: its size, still 0, the key (an answer's with `RESPONSE_BIT`), the version.
    """

    __slots__ = ("body", "cls", "correlated", "header", "key", "version")

    def __init__(self, cls: type[Command], key: int, version: int, body: Structure, *, correlated: bool) -> None:
        self.cls = cls
        self.key = key
        self.version = version
        self.body = body
        self.correlated = correlated
        self.header = struct.pack(">IHH", 0, key, version)


_BY_CLASS: Final[dict[tuple[type[Command], int], Layout]] = {}
_BY_HEADER: Final[dict[int, Layout]] = {}


def _wire(
    key: Key, *fields: Field, version: int = 1, code: Field = U16, correlated: bool = True
) -> Callable[[type[_C]], type[_C]]:
    """A row of the table: the wire types of the fields, an answer's `code` excepted since it is always the same."""

    def register(cls: type[_C]) -> type[_C]:
        cls.KEY = key
        cls.VERSION = version
        answer = issubclass(cls, Response)
        layout = Layout(
            cls,
            key | RESPONSE_BIT if answer else key,
            version,
            Answer(cls, code, *fields) if answer else Structure(cls, *fields),
            correlated=correlated and issubclass(cls, (Request, Response)),
        )
        _BY_CLASS[cls, version] = layout
        _BY_HEADER[layout.key << 16 | version] = layout
        return cls

    return register


def layouts() -> tuple[Layout, ...]:
    """The whole table, one row for each version of each command."""
    return tuple(_BY_HEADER.values())


# --- publishers ---


@_wire(Key.DECLARE_PUBLISHER, U8, STRING, STRING)
@dataclass(frozen=True, slots=True)
class DeclarePublisher(Request):
    """Makes a publisher of this connection. With a `reference` ("" for none) the broker drops duplicates."""

    publisher_id: int
    reference: str
    stream: str


@_wire(Key.DECLARE_PUBLISHER)
@dataclass(frozen=True, slots=True)
class DeclarePublisherResponse(Response):
    """The answer to `DeclarePublisher`."""


@interpreted
@dataclass(frozen=True, slots=True)
class SubBatch:
    """Many records in one entry. `data` is compressed as `compression` (a `Compression`) says; sizes are bytes."""

    compression: int
    record_count: int
    uncompressed_size: int
    data: bytes


class _Entry(Field):
    """What one publishing id stands for: a record (bytes) or a `SubBatch`; the first bit tells which."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(4, b"")

    def write(self, out: bytearray, value: Any) -> None:
        if isinstance(value, SubBatch):
            if not 0 <= value.compression <= _CODEC_MASK:
                raise InvalidArgument(f"a codec is a number from 0 to {_CODEC_MASK}, not {value.compression!r}")
            U8.write(out, 0x80 | value.compression << 4)
            U16.write(out, value.record_count)
            U32.write(out, value.uncompressed_size)
            U32.write(out, len(value.data))
            out += value.data
        else:
            I32.write(out, len(value))  # signed: it leaves the first bit to mean a sub-batch
            out += value

    def read(self, reader: Reader) -> Any:
        if not reader.remaining() or not reader.data[reader.position] & 0x80:
            return reader.take(I32.read(reader))
        codec = U8.read(reader) >> 4 & _CODEC_MASK
        record_count = U16.read(reader)
        uncompressed_size = U32.read(reader)
        return SubBatch(codec, record_count, uncompressed_size, reader.take(U32.read(reader)))


@interpreted
@dataclass(frozen=True, slots=True)
class PublishItem:
    """One entry of `Publish`: a record, or many in a sub-batch that is confirmed as one."""

    publishing_id: int
    entry: bytes | SubBatch


@interpreted
@dataclass(frozen=True, slots=True)
class FilteredItem:
    """One entry of `PublishFiltered`. None is no filter value, which is not the same as ""."""

    publishing_id: int
    filter_value: str | None
    record: bytes


@interpreted
@dataclass(frozen=True, slots=True)
class PublishingError:
    """One message that was refused, and why (a `ResponseCode`)."""

    publishing_id: int
    code: int


@_wire(Key.PUBLISH, U8, Array(Structure(PublishItem, U64, _Entry())))
@dataclass(frozen=True, slots=True)
class Publish(Command):
    """Publishes without filter values: version 1, the only one that carries sub-batches."""

    publisher_id: int
    items: tuple[PublishItem, ...]


@_wire(Key.PUBLISH, U8, Array(Structure(FilteredItem, U64, NULLABLE_STRING, BINARY)), version=2)
@dataclass(frozen=True, slots=True)
class PublishFiltered(Command):
    """Publishes with filter values: version 2, from RabbitMQ 3.13 on."""

    publisher_id: int
    items: tuple[FilteredItem, ...]


@_wire(Key.PUBLISH_CONFIRM, U8, Array(U64))
@dataclass(frozen=True, slots=True)
class PublishConfirm(Command):
    """These messages are stored by a quorum. A set: ids come in any grouping and order."""

    publisher_id: int
    publishing_ids: tuple[int, ...]


@_wire(Key.PUBLISH_ERROR, U8, Array(Structure(PublishingError, U64, U16)))
@dataclass(frozen=True, slots=True)
class PublishError(Command):
    """These messages were refused."""

    publisher_id: int
    errors: tuple[PublishingError, ...]


@_wire(Key.QUERY_PUBLISHER_SEQUENCE, STRING, STRING)
@dataclass(frozen=True, slots=True)
class QueryPublisherSequence(Request):
    """Asks for the highest publishing id stored for a reference."""

    reference: str
    stream: str


@_wire(Key.QUERY_PUBLISHER_SEQUENCE, U64)
@dataclass(frozen=True, slots=True)
class QueryPublisherSequenceResponse(Response):
    """The answer to `QueryPublisherSequence`: 0 also for a reference that is not known."""

    sequence: int


@_wire(Key.DELETE_PUBLISHER, U8)
@dataclass(frozen=True, slots=True)
class DeletePublisher(Request):
    """Ends a publisher of this connection."""

    publisher_id: int


@_wire(Key.DELETE_PUBLISHER)
@dataclass(frozen=True, slots=True)
class DeletePublisherResponse(Response):
    """The answer to `DeletePublisher`."""


# --- consumers ---


@_wire(Key.SUBSCRIBE, U8, STRING, OFFSET, U16, TRAILING_MAP)
@dataclass(frozen=True, slots=True)
class Subscribe(Request):
    """Makes a subscription of this connection. `credit` is in chunks."""

    subscription_id: int
    stream: str
    offset: OffsetSpecification
    credit: int
    properties: Mapping[str, str] = field(default_factory=dict)


@_wire(Key.SUBSCRIBE)
@dataclass(frozen=True, slots=True)
class SubscribeResponse(Response):
    """The answer to `Subscribe`."""


@_wire(Key.DELIVER, U8, U64, REST, version=2)
@_wire(Key.DELIVER, U8, Implied(None), REST, version=1)
@dataclass(frozen=True, slots=True)
class Deliver(Command):
    """One chunk, for `Chunk.parse`. Only version 2 tells the id of the stream's last committed chunk."""

    subscription_id: int
    committed_chunk_id: int | None
    chunk: bytes | memoryview = field(repr=False)

    @property
    def wire_version(self) -> int:
        """1 without a committed chunk id, else 2."""
        return 1 if self.committed_chunk_id is None else 2


@_wire(Key.CREDIT, U8, I16)
@dataclass(frozen=True, slots=True)
class Credit(Command):
    """Lets the broker send so many chunks more (a negative number: fewer)."""

    subscription_id: int
    credit: int


@_wire(Key.CREDIT, U8, correlated=False)
@dataclass(frozen=True, slots=True)
class CreditResponse(Response):
    """Says that a `Credit` went wrong; nothing tells which one. A `Credit` that went well has no answer."""

    subscription_id: int


@_wire(Key.STORE_OFFSET, STRING, STRING, U64)
@dataclass(frozen=True, slots=True)
class StoreOffset(Command):
    """Stores a consumer's offset under its reference. There is no answer, not even to say that it failed."""

    reference: str
    stream: str
    offset: int


@_wire(Key.QUERY_OFFSET, STRING, STRING)
@dataclass(frozen=True, slots=True)
class QueryOffset(Request):
    """Asks for the offset that was stored under a reference."""

    reference: str
    stream: str


@_wire(Key.QUERY_OFFSET, U64)
@dataclass(frozen=True, slots=True)
class QueryOffsetResponse(Response):
    """The answer to `QueryOffset`."""

    offset: int


@_wire(Key.UNSUBSCRIBE, U8)
@dataclass(frozen=True, slots=True)
class Unsubscribe(Request):
    """Ends a subscription of this connection."""

    subscription_id: int


@_wire(Key.UNSUBSCRIBE)
@dataclass(frozen=True, slots=True)
class UnsubscribeResponse(Response):
    """The answer to `Unsubscribe`."""


@_wire(Key.CONSUMER_UPDATE, U8, BOOL)
@dataclass(frozen=True, slots=True)
class ConsumerUpdate(Request):
    """The broker makes a single active consumer active or not, and waits for the answer."""

    subscription_id: int
    active: bool


@_wire(Key.CONSUMER_UPDATE, OFFSET_OR_NONE)
@dataclass(frozen=True, slots=True)
class ConsumerUpdateResponse(Response):
    """The client's answer to `ConsumerUpdate`: where to start; none for the offset that was subscribed with."""

    offset: OffsetSpecification


@_wire(Key.RESOLVE_OFFSET_SPEC, STRING, OFFSET, TRAILING_MAP)
@dataclass(frozen=True, slots=True)
class ResolveOffsetSpec(Request):
    """Asks which offset a specification stands for at this moment (RabbitMQ 4.3)."""

    stream: str
    offset: OffsetSpecification
    properties: Mapping[str, str] = field(default_factory=dict)


@_wire(Key.RESOLVE_OFFSET_SPEC, OFFSET_OR_NONE)
@dataclass(frozen=True, slots=True)
class ResolveOffsetSpecResponse(Response):
    """The answer to `ResolveOffsetSpec`."""

    offset: OffsetSpecification


# --- streams and topology ---


@_wire(Key.CREATE, STRING, STRING_MAP)
@dataclass(frozen=True, slots=True)
class Create(Request):
    """Makes a stream."""

    stream: str
    arguments: Mapping[str, str] = field(default_factory=dict)


@_wire(Key.CREATE)
@dataclass(frozen=True, slots=True)
class CreateResponse(Response):
    """The answer to `Create`."""


@_wire(Key.DELETE, STRING)
@dataclass(frozen=True, slots=True)
class Delete(Request):
    """Deletes a stream."""

    stream: str


@_wire(Key.DELETE)
@dataclass(frozen=True, slots=True)
class DeleteResponse(Response):
    """The answer to `Delete`."""


@interpreted
@dataclass(frozen=True, slots=True)
class MetadataBroker:
    """A broker and the number by which the rest of the same answer refers to it."""

    reference: int
    host: str
    port: int


@interpreted
@dataclass(frozen=True, slots=True)
class MetadataStream:
    """Where a stream lives. `leader` is a broker's reference or `NO_LEADER`; `replicas` are without the leader."""

    stream: str
    code: int
    leader: int
    replicas: tuple[int, ...]

    @property
    def has_leader(self) -> bool:
        """Whether a leader is known."""
        return self.leader != NO_LEADER


@_wire(Key.METADATA, STRINGS)
@dataclass(frozen=True, slots=True)
class Metadata(Request):
    """Asks where streams live."""

    streams: tuple[str, ...]


@_wire(
    Key.METADATA,
    Array(Structure(MetadataBroker, U16, STRING, U32)),
    Array(Structure(MetadataStream, STRING, U16, U16, Array(U16))),
    code=Implied(ResponseCode.OK),
)
@dataclass(frozen=True, slots=True)
class MetadataResponse(Response):
    """The answer to `Metadata`, in any order. The codes are those of the streams; `code` itself is always OK."""

    brokers: tuple[MetadataBroker, ...]
    streams: tuple[MetadataStream, ...]


@_wire(Key.METADATA_UPDATE, U16, STRING)
@dataclass(frozen=True, slots=True)
class MetadataUpdate(Command):
    """Everything this connection had of a stream is gone: ask anew where it lives."""

    code: int
    stream: str


@_wire(Key.STREAM_STATS, STRING)
@dataclass(frozen=True, slots=True)
class StreamStats(Request):
    """Asks for a stream's statistics (RabbitMQ 3.11)."""

    stream: str


@_wire(Key.STREAM_STATS, Map(I64))
@dataclass(frozen=True, slots=True)
class StreamStatsResponse(Response):
    """The answer to `StreamStats`: chunk ids by name, -1 in an empty stream."""

    stats: Mapping[str, int]


@_wire(Key.CREATE_SUPER_STREAM, STRING, STRINGS, STRINGS, STRING_MAP)
@dataclass(frozen=True, slots=True)
class CreateSuperStream(Request):
    """Makes a super stream: `binding_keys` are as many as `partitions` (RabbitMQ 3.13)."""

    name: str
    partitions: tuple[str, ...]
    binding_keys: tuple[str, ...]
    arguments: Mapping[str, str] = field(default_factory=dict)


@_wire(Key.CREATE_SUPER_STREAM)
@dataclass(frozen=True, slots=True)
class CreateSuperStreamResponse(Response):
    """The answer to `CreateSuperStream`."""


@_wire(Key.DELETE_SUPER_STREAM, STRING)
@dataclass(frozen=True, slots=True)
class DeleteSuperStream(Request):
    """Deletes a super stream and all its partitions (RabbitMQ 3.13)."""

    name: str


@_wire(Key.DELETE_SUPER_STREAM)
@dataclass(frozen=True, slots=True)
class DeleteSuperStreamResponse(Response):
    """The answer to `DeleteSuperStream`."""


@_wire(Key.ROUTE, STRING, STRING)
@dataclass(frozen=True, slots=True)
class Route(Request):
    """Asks to which partitions a routing key is bound."""

    routing_key: str
    super_stream: str


@_wire(Key.ROUTE, STRINGS)
@dataclass(frozen=True, slots=True)
class RouteResponse(Response):
    """The answer to `Route`: none, one or more partitions."""

    streams: tuple[str, ...]


@_wire(Key.PARTITIONS, STRING)
@dataclass(frozen=True, slots=True)
class Partitions(Request):
    """Asks for the partitions of a super stream."""

    super_stream: str


@_wire(Key.PARTITIONS, STRINGS)
@dataclass(frozen=True, slots=True)
class PartitionsResponse(Response):
    """The answer to `Partitions`, in binding order: hash routing counts on it."""

    streams: tuple[str, ...]


# --- the connection itself ---


@_wire(Key.PEER_PROPERTIES, STRING_MAP)
@dataclass(frozen=True, slots=True)
class PeerProperties(Request):
    """Tells the broker who the client is."""

    properties: Mapping[str, str]


@_wire(Key.PEER_PROPERTIES, STRING_MAP)
@dataclass(frozen=True, slots=True)
class PeerPropertiesResponse(Response):
    """The answer to `PeerProperties`: who the broker is."""

    properties: Mapping[str, str]


@_wire(Key.SASL_HANDSHAKE)
@dataclass(frozen=True, slots=True)
class SaslHandshake(Request):
    """Asks for the SASL mechanisms that the broker offers."""


@_wire(Key.SASL_HANDSHAKE, STRINGS)
@dataclass(frozen=True, slots=True)
class SaslHandshakeResponse(Response):
    """The answer to `SaslHandshake`."""

    mechanisms: tuple[str, ...]


@_wire(Key.SASL_AUTHENTICATE, STRING, BINARY)
@dataclass(frozen=True, slots=True)
class SaslAuthenticate(Request):
    """Authenticates, first while connecting, later to renew a secret."""

    mechanism: str
    data: bytes = field(repr=False)


@_wire(Key.SASL_AUTHENTICATE, CHALLENGE)
@dataclass(frozen=True, slots=True)
class SaslAuthenticateResponse(Response):
    """The answer to `SaslAuthenticate`."""

    challenge: bytes | None = None


@_wire(Key.TUNE, U32, U32)
@dataclass(frozen=True, slots=True)
class Tune(Command):
    """Proposes (broker) and decides (client) the largest frame in bytes and the heartbeat in seconds; 0 is without."""

    frame_max: int
    heartbeat: int


@_wire(Key.OPEN, STRING)
@dataclass(frozen=True, slots=True)
class Open(Request):
    """Enters a virtual host."""

    vhost: str


@_wire(Key.OPEN, TRAILING_MAP)
@dataclass(frozen=True, slots=True)
class OpenResponse(Response):
    """The answer to `Open`: where the broker says it can be reached."""

    properties: Mapping[str, str] = field(default_factory=dict)


@_wire(Key.CLOSE, U16, STRING)
@dataclass(frozen=True, slots=True)
class Close(Request):
    """Ends the connection; either side may."""

    code: int
    reason: str


@_wire(Key.CLOSE)
@dataclass(frozen=True, slots=True)
class CloseResponse(Response):
    """The answer to `Close`."""


@_wire(Key.HEARTBEAT)
@dataclass(frozen=True, slots=True)
class Heartbeat(Command):
    """Shows that the sender is alive."""


@interpreted
@dataclass(frozen=True, slots=True)
class CommandVersions:
    """The versions of one command that one side understands."""

    key: int
    minimum: int
    maximum: int


_VERSIONS: Final = Array(Structure(CommandVersions, U16, U16, U16))


@_wire(Key.EXCHANGE_COMMAND_VERSIONS, _VERSIONS)
@dataclass(frozen=True, slots=True)
class ExchangeCommandVersions(Request):
    """Tells which commands of the broker the client understands (RabbitMQ 3.11)."""

    commands: tuple[CommandVersions, ...]


@_wire(Key.EXCHANGE_COMMAND_VERSIONS, _VERSIONS)
@dataclass(frozen=True, slots=True)
class ExchangeCommandVersionsResponse(Response):
    """The answer to `ExchangeCommandVersions`: which commands of the client the broker understands."""

    commands: tuple[CommandVersions, ...]


# --- commands and frames ---


def encode(command: Command, correlation_id: int | None = None) -> bytes:
    """The whole frame, its size in front.

    Raises:
        InvalidArgument: a field's value does not fit its wire type, or there is a correlation id where none belongs, or
            none where one belongs.
    """
    layout = _BY_CLASS[type(command), command.wire_version]
    out = bytearray(layout.header)
    if layout.correlated != (correlation_id is not None):
        needs = "needs a" if layout.correlated else "has no"
        raise InvalidArgument(f"{type(command).__name__} {needs} correlation id")
    if correlation_id is not None:
        U32.write(out, correlation_id)
    layout.body.write(out, command)
    out[:4] = struct.pack(">I", len(out) - 4)
    return bytes(out)


def decode(frame: bytes | memoryview) -> tuple[Command, int | None]:
    """The command in a frame's body (what follows its size), and its correlation id, None if it has none.

    Raises:
        UnknownFrame: a command or version that is not in the table; the frame can be skipped.
        MalformedFrame: the bytes contradict the command's layout: too few, too many, or not what they should be.
    """
    data = bytes(frame)
    header = int.from_bytes(data[:4], "big")
    if header == _CONFIRM:
        return _decode_confirm(data), None
    if header in (_DELIVER_V2, _DELIVER_V1):
        return _decode_deliver(data, header == _DELIVER_V2), None
    return decode_by_table(data)


def decode_by_table(data: bytes) -> tuple[Command, int | None]:
    """What `decode` does, without its short cuts."""
    if len(data) < _HEADER_SIZE:
        raise MalformedFrame(f"a frame of {len(data)} bytes has no room for a command")
    layout = _BY_HEADER.get(int.from_bytes(data[:4], "big"))
    if layout is None:
        raise UnknownFrame(int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big"))
    reader = Reader(data, _HEADER_SIZE)
    try:
        correlation_id = U32.read(reader) if layout.correlated else None
        command: Command = layout.body.read(reader)
        reader.finish()
    except MalformedFrame as error:
        raise MalformedFrame(f"{layout.cls.__name__} version {layout.version}: {error}") from None
    return command, correlation_id


def _decode_confirm(data: bytes) -> PublishConfirm:
    count = int.from_bytes(data[5:9], "big")
    if len(data) != _CONFIRM_IDS + 8 * count or len(data) < _CONFIRM_IDS:
        raise MalformedFrame(f"PublishConfirm: {count} publishing ids cannot be in a frame of {len(data)} bytes")
    return PublishConfirm(data[4], struct.unpack_from(f">{count}Q", data, _CONFIRM_IDS))


def _decode_deliver(data: bytes, has_committed_id: bool) -> Deliver:
    start = 13 if has_committed_id else 5
    if len(data) < start:
        raise MalformedFrame(f"Deliver: a frame of {len(data)} bytes")
    # A view, not a copy: a second megabyte for each chunk costs more than to read all of it, since the allocator takes
    # the pages from the kernel and gives them back each time.
    return Deliver(data[4], int.from_bytes(data[5:13], "big") if has_committed_id else None, memoryview(data)[start:])
