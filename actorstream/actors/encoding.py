"""What a user publishes, as it stands in a Publish frame after its publishing id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from actorstream.actors.outbox import Outbox
from actorstream.actors.receipt import Receipt
from actorstream.compression import Compression
from actorstream.errors import InvalidArgument
from actorstream.options import ProducerOptions
from actorstream.wire.message import Message
from actorstream.wire.publish import data_entry, filtered_entry, raw_entry, sub_batch_entry

Body = bytes | bytearray | memoryview | str | Message
"""What can be published: bytes, text (stored as UTF-8), or a whole AMQP 1.0 message."""

PLAIN = 1
"""The version of Publish for entries without filter values, and for sub-entries."""
FILTERED = 2
"""The version in which each entry has a filter value, or says that it has none. It cannot carry sub-entries."""


class Encoder:
    """Encodes for one producer, as its options say. It has no state: any thread may use it.

    What users give is `Any` here, though their types are said where they give it: compiled, this would otherwise refuse
    what is wrong by itself, and without saying what to do.

    Attributes:
        version: of Publish, for what `encode` makes.
    """

    def __init__(self, options: ProducerOptions) -> None:
        self._raw = options.raw
        self._filter_of: Callable[[Any], Any] | None = options.filter_value
        self.version = PLAIN if options.filter_value is None else FILTERED

    def encode(self, body: Any) -> bytes:
        """One message; with its filter value where the producer's options say how to find it.

        Raises:
            InvalidArgument, MessageCodecError, MessageTooLarge: it cannot be encoded.
            and whatever the user's function for filter values raises.
        """
        entry = encode_entry(body, raw=self._raw)
        return entry if self._filter_of is None else filtered_entry(_checked(self._filter_of(body)), entry)

    def receipt(self, outbox: Outbox, body: Any, publishing_id: Any = None, filter_value: Any = None) -> Receipt:
        """One message, encoded and ready to be offered to the outbox.

        Args:
            outbox: whose connection decides what can be sent.
            body: the message.
            publishing_id: given by the sender; None to have it counted.
            filter_value: instead of the one that the producer's options would find.

        Raises:
            InvalidArgument, MessageCodecError, MessageTooLarge: it cannot be encoded or sent.
            UnsupportedByBroker: it has a filter value, which the broker does not know.
            and whatever the user's function for filter values raises.
        """
        if filter_value is None:
            wire, version = self.encode(body), self.version
        else:
            outbox.check_filters()
            wire, version = filtered_entry(_checked(filter_value), encode_entry(body, raw=self._raw)), FILTERED
        outbox.check_size(len(wire))
        return Receipt(wire, publishing_id, version=version)

    def encode_sub_entry(self, bodies: Iterable[Any], compression: Compression) -> tuple[bytes, int]:
        """Many messages as one entry, for `PLAIN`; and how many there are.

        Raises:
            InvalidArgument, MessageCodecError, MessageTooLarge: one cannot be encoded, or there are none or too many.
            CompressionError: the codec is not installed.
        """
        if self._filter_of is not None:
            raise InvalidArgument(
                "a sub-entry cannot carry filter values: send these messages one by one, or make a producer without "
                "filter_value for them"
            )
        entries = [encode_entry(body, raw=self._raw) for body in several(bodies)]
        return sub_batch_entry(entries, compression), len(entries)


def several(messages: Any) -> Iterator[Any]:
    """The messages in what was given for several ones.

    Raises:
        InvalidArgument: it is a message itself, of which each character would become one, or it holds none.
    """
    if isinstance(messages, (str, bytes, bytearray, memoryview, Mapping, Message)):
        raise InvalidArgument(f"several messages are a list of them, not {type(messages).__name__}: send one by `send`")
    try:
        return iter(messages)
    except TypeError:
        raise InvalidArgument(f"several messages are a list of them, not {type(messages).__name__}") from None


def encode_entry(body: Any, *, raw: bool) -> bytes:
    """A message as an entry without a filter value.

    `raw` stores bytes and text as they are, not as the data section of an AMQP 1.0 message.

    Raises:
        InvalidArgument, MessageCodecError, MessageTooLarge: it cannot be encoded.
    """
    if isinstance(body, bytes):  # most are, and pay for no other question
        return raw_entry(body) if raw else data_entry(body)
    if isinstance(body, Message):
        if raw:
            raise InvalidArgument("a raw producer takes bytes: encode the message, or make the producer without raw")
        return raw_entry(body.encode())
    if isinstance(body, str):
        try:
            body = body.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the text cannot be encoded in UTF-8: {error}") from None
    elif isinstance(body, (bytearray, memoryview)):
        body = bytes(body)
    else:
        raise InvalidArgument(f"a message is bytes, text or a Message, not {type(body).__name__}")
    return encode_entry(body, raw=raw)


def _checked(filter_value: object) -> str | None:
    if filter_value is None or isinstance(filter_value, str):
        return filter_value
    raise InvalidArgument(f"a filter value is a string, or None for none, not {filter_value!r}")
