"""What a user may set: frozen keyword-only dataclasses, whose values are checked when they are made.

Durations are seconds and may be fractions; sizes are bytes. A wrong one raises `InvalidArgument` at once, never later.
"""

from actorstream.options.address import DEFAULT_PORT, DEFAULT_TLS_PORT, Address, AddressResolver, Endpoint, parse_uri
from actorstream.options.checks import check_name
from actorstream.options.connection import ConnectionOptions
from actorstream.options.consumer import ConsumerKeywords, ConsumerOptions, OnGap, OnTruncated
from actorstream.options.credentials import MECHANISMS, Credentials, CredentialsProvider, Token, TokenProvider
from actorstream.options.filtering import Filter
from actorstream.options.producer import ProducerKeywords, ProducerOptions, Replay, WhenAway
from actorstream.options.stream import LeaderLocator, StreamArguments, parse_age, parse_size
from actorstream.options.super_stream import (
    OnPartitionsChanged,
    SuperStreamConsumerKeywords,
    SuperStreamConsumerOptions,
    SuperStreamProducerKeywords,
    SuperStreamProducerOptions,
)
from actorstream.options.tracking import AutoTracking, OffsetStore

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_TLS_PORT",
    "MECHANISMS",
    "Address",
    "AddressResolver",
    "AutoTracking",
    "ConnectionOptions",
    "ConsumerKeywords",
    "ConsumerOptions",
    "Credentials",
    "CredentialsProvider",
    "Endpoint",
    "Filter",
    "LeaderLocator",
    "OffsetStore",
    "OnGap",
    "OnPartitionsChanged",
    "OnTruncated",
    "ProducerKeywords",
    "ProducerOptions",
    "Replay",
    "StreamArguments",
    "SuperStreamConsumerKeywords",
    "SuperStreamConsumerOptions",
    "SuperStreamProducerKeywords",
    "SuperStreamProducerOptions",
    "Token",
    "TokenProvider",
    "WhenAway",
    "check_name",
    "parse_age",
    "parse_size",
    "parse_uri",
]
