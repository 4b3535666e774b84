"""actorstream: a client for RabbitMQ Streams in which every long-lived thing is an actor under a supervisor.

Brokers die, leaders move, networks split; the tree heals, and `async for` goes on.
"""

from actorstream import blocking, errors, events, offset
from actorstream.actors import mailbox
from actorstream.actors.batch import BatchReceipt
from actorstream.actors.coordinator import Activation
from actorstream.actors.encoding import Body
from actorstream.actors.mailbox import Deliver, Publish, Published
from actorstream.actors.receipt import Receipt
from actorstream.actors.supervisor import Node
from actorstream.administration import StreamMetadata, StreamStatistics
from actorstream.backoff import BackoffPolicy
from actorstream.base_producer import BaseProducer
from actorstream.client import Client
from actorstream.codecs import Codecs
from actorstream.compression import Compression
from actorstream.connecting import connect
from actorstream.consumer import Consumer
from actorstream.errors import ActorStreamError, PublishError
from actorstream.handling import ErrorPolicy, Handler, Park, Skip, Stop
from actorstream.offset import OffsetLike, OffsetSpecification
from actorstream.options import (
    AutoTracking,
    ConnectionOptions,
    Credentials,
    Endpoint,
    Filter,
    LeaderLocator,
    OffsetStore,
    OnGap,
    OnPartitionsChanged,
    OnTruncated,
    Replay,
    StreamArguments,
    Token,
    WhenAway,
)
from actorstream.pipe import Pipe
from actorstream.producer import Producer
from actorstream.routing import HashRouting, KeyRouting, Routing
from actorstream.super_stream_consumer import SuperStreamConsumer
from actorstream.super_stream_producer import SuperStreamProducer
from actorstream.wire.amqp import Header, Properties
from actorstream.wire.message import Message

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "ActorStreamError",
    "AutoTracking",
    "BackoffPolicy",
    "BaseProducer",
    "BatchReceipt",
    "Body",
    "Client",
    "Codecs",
    "Compression",
    "ConnectionOptions",
    "Consumer",
    "Credentials",
    "Deliver",
    "Endpoint",
    "ErrorPolicy",
    "Filter",
    "Handler",
    "HashRouting",
    "Header",
    "KeyRouting",
    "LeaderLocator",
    "Message",
    "Node",
    "OffsetLike",
    "OffsetSpecification",
    "OffsetStore",
    "OnGap",
    "OnPartitionsChanged",
    "OnTruncated",
    "Park",
    "Pipe",
    "Producer",
    "Properties",
    "Publish",
    "PublishError",
    "Published",
    "Receipt",
    "Replay",
    "Routing",
    "Skip",
    "Stop",
    "StreamArguments",
    "StreamMetadata",
    "StreamStatistics",
    "SuperStreamConsumer",
    "SuperStreamProducer",
    "Token",
    "WhenAway",
    "blocking",
    "connect",
    "errors",
    "events",
    "mailbox",
    "offset",
]
