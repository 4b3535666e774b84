"""Objects as messages and back, by the content type that a message names.

A codec stands beside the handles, which deal in `Message`s: who uses none pays nothing, and one producer may send
several types.

    codecs = Codecs()
    codecs.register("application/msgpack", msgpack.packb, msgpack.unpackb)

    await producer.send(codecs.encode({"id": 1}))
    async for message in consumer:
        order = codecs.decode(message)
    await consumer.run(codecs.decoding(handle_order), on_error=ErrorPolicy(then=Park("unreadable")))
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from actorstream.errors import ObjectCodecError, UnknownContentType
from actorstream.options.checks import require
from actorstream.wire.amqp import Properties, Symbol
from actorstream.wire.message import Message

JSON = "application/json"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """Both ways of one content type: an object to the bytes of a body, and these to an object."""

    dumps: Callable[[T], bytes]
    loads: Callable[[bytes], T]


def _dump_json(value: Any) -> bytes:
    # NaN and the infinities are none of JSON, and whoever reads strictly would refuse the message.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class Codecs:
    """Codecs by content type; `application/json` is built in.

    A content type is looked up without its parameters (`; charset=…`) and in any case; of one with a structured suffix,
    such as `application/vnd.shop.order+json`, the suffix is enough.

    Args:
        assumed: the content type of messages that name none; by default, they are refused.
    """

    def __init__(self, *, assumed: str | None = None) -> None:
        self._codecs: dict[str, Codec[Any]] = {JSON: Codec(_dump_json, json.loads)}
        self._assumed = None if assumed is None else _checked(assumed)

    @property
    def content_types(self) -> tuple[str, ...]:
        """Those that have a codec."""
        return tuple(self._codecs)

    def register(self, content_type: str, dumps: Callable[[T], bytes], loads: Callable[[bytes], T]) -> None:
        """Give a content type a codec, in place of the one that it has.

        Args:
            content_type: such as `application/msgpack`, without parameters.
            dumps: makes the bytes of an object.
            loads: makes an object of the bytes.

        Raises:
            InvalidArgument: no content type, or something that cannot be called.
        """
        base = _checked(content_type)
        require(callable(dumps), f"dumps is called with an object; {dumps!r} cannot be")
        require(callable(loads), f"loads is called with bytes; {loads!r} cannot be")
        self._codecs[base] = Codec(dumps, loads)

    def encode(
        self, value: Any, content_type: str = JSON, *, properties: Properties | None = None, **sections: Any
    ) -> Message:
        """A message to publish that holds this object, and names its content type.

        Args:
            value: the object.
            content_type: by which it is encoded; it stands in the message as it is given, with its parameters.
            properties, sections: of the message, as for `Message`.

        Raises:
            UnknownContentType: nobody registered a codec for it.
            ObjectCodecError: the codec cannot encode this object; its error is chained.
            InvalidArgument, MessageCodecError: as `Message`.
        """
        codec = self._find(content_type)
        try:
            body = codec.dumps(value)
        except Exception as error:
            raise ObjectCodecError(f"a {type(value).__name__} cannot be encoded as {content_type}: {error}") from error
        require(
            isinstance(body, (bytes, bytearray, memoryview)),
            f"the codec of {content_type} has to make bytes, not {type(body).__name__}",
        )
        described = dataclasses.replace(properties or Properties(), content_type=Symbol(content_type))
        return Message(body, properties=described, **sections)

    def decode(self, message: Message) -> Any:
        """The object that a message holds.

        Raises:
            UnknownContentType: nobody registered a codec for what it names, or it names nothing.
            ObjectCodecError: the body is not what its content type says; the codec's error is chained.
            MessageCodecError: the message is not AMQP 1.0, or its body is neither bytes nor text.
        """
        properties = None if message.is_raw else message.properties
        named = (properties.content_type if properties is not None else None) or self._assumed
        if named is None:
            raise UnknownContentType(None, self.content_types)
        if properties is not None and (properties.content_encoding or "identity").lower() != "identity":
            raise ObjectCodecError(
                f"the body is encoded once more, with {properties.content_encoding!r}: undo that, and decode a copy"
            )
        codec = self._find(named)
        body = message.body
        try:
            return codec.loads(body)
        except Exception as error:
            raise ObjectCodecError(f"this is not {named}: {error}") from error

    def decoding(self, handler: Callable[[Any], Awaitable[object] | object]) -> Callable[[Message], Any]:
        """A handler of messages, for `Consumer.run`, out of one of objects; what cannot be decoded fails there."""

        def handle(message: Message) -> Awaitable[object] | object:
            return handler(self.decode(message))

        return handle

    def _find(self, content_type: str) -> Codec[Any]:
        base = _base(content_type)
        codec = self._codecs.get(base)
        if codec is None and "+" in base:
            codec = self._codecs.get(f"application/{base.rpartition('+')[2]}")
        if codec is None:
            raise UnknownContentType(content_type, self.content_types)
        return codec


def _base(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _checked(content_type: str) -> str:
    kind, _, name = _base(content_type).partition("/") if isinstance(content_type, str) else ("", "", "")
    ok = kind and name and ";" not in content_type and content_type.isascii()
    require(bool(ok), f'a content type looks like "application/json", without parameters; {content_type!r} does not')
    return f"{kind}/{name}"
