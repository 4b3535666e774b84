"""The protocol's numbers: command keys, response codes, compression codecs, and the limits that follow from them."""

from __future__ import annotations

import enum
from typing import Final


class Key(enum.IntEnum):
    """What a command is (protocol section 1.1). An answer carries the key of its request with `RESPONSE_BIT` set."""

    DECLARE_PUBLISHER = 0x01
    PUBLISH = 0x02
    PUBLISH_CONFIRM = 0x03
    PUBLISH_ERROR = 0x04
    QUERY_PUBLISHER_SEQUENCE = 0x05
    DELETE_PUBLISHER = 0x06
    SUBSCRIBE = 0x07
    DELIVER = 0x08
    CREDIT = 0x09
    STORE_OFFSET = 0x0A
    QUERY_OFFSET = 0x0B
    UNSUBSCRIBE = 0x0C
    CREATE = 0x0D
    DELETE = 0x0E
    METADATA = 0x0F
    METADATA_UPDATE = 0x10
    PEER_PROPERTIES = 0x11
    SASL_HANDSHAKE = 0x12
    SASL_AUTHENTICATE = 0x13
    TUNE = 0x14
    OPEN = 0x15
    CLOSE = 0x16
    HEARTBEAT = 0x17
    ROUTE = 0x18
    PARTITIONS = 0x19
    CONSUMER_UPDATE = 0x1A
    EXCHANGE_COMMAND_VERSIONS = 0x1B
    STREAM_STATS = 0x1C
    CREATE_SUPER_STREAM = 0x1D
    DELETE_SUPER_STREAM = 0x1E
    RESOLVE_OFFSET_SPEC = 0x1F


class ResponseCode(enum.IntEnum):
    """How a request went (protocol section 1.2). Fields stay plain `int`: a newer broker may know more codes."""

    OK = 1
    STREAM_DOES_NOT_EXIST = 2
    SUBSCRIPTION_ID_ALREADY_EXISTS = 3
    SUBSCRIPTION_ID_DOES_NOT_EXIST = 4
    STREAM_ALREADY_EXISTS = 5
    STREAM_NOT_AVAILABLE = 6
    SASL_MECHANISM_NOT_SUPPORTED = 7
    AUTHENTICATION_FAILURE = 8
    SASL_ERROR = 9
    SASL_CHALLENGE = 10
    AUTHENTICATION_FAILURE_LOOPBACK = 11
    VIRTUAL_HOST_ACCESS_FAILURE = 12
    UNKNOWN_FRAME = 13
    FRAME_TOO_LARGE = 14
    INTERNAL_ERROR = 15
    ACCESS_REFUSED = 16
    PRECONDITION_FAILED = 17
    PUBLISHER_DOES_NOT_EXIST = 18
    NO_OFFSET = 19
    SASL_CANNOT_CHANGE_MECHANISM = 20
    SASL_CANNOT_CHANGE_USERNAME = 21


RESPONSE_BIT: Final = 0x8000
"""Set in the key of an answer."""

NO_LEADER: Final = 0xFFFF
"""The leader reference in a metadata answer when no leader is known."""

MAX_STRING_BYTES: Final = 0x7FFF
"""The longest string in UTF-8: its length is signed, and negative means null."""

DEFAULT_FRAME_MAX: Final = 1_048_576
"""Bytes of a frame that broker and client ask for unless configured otherwise."""

HANDSHAKE_FRAME_LIMIT: Final = 1_048_576
"""The largest frame accepted from a peer that has not yet shown itself to be a broker by answering Open."""

OPEN_FRAME_LIMIT: Final = 256 * 1024 * 1024
"""The largest frame accepted afterwards. Deliver is not bound by frame_max: this only catches a lost frame boundary."""
