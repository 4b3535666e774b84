"""Which function carries out which command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actorstream.wire import commands as c
from tests.peer import consuming, handshake, publishing, topology

if TYPE_CHECKING:
    from tests.peer.script import Exchange

HANDLERS: Final[dict[type[c.Command], Callable[[Exchange, Any], None]]] = {
    c.PeerProperties: handshake.peer_properties,
    c.SaslHandshake: handshake.sasl_handshake,
    c.SaslAuthenticate: handshake.sasl_authenticate,
    c.Tune: handshake.tune,
    c.Open: handshake.open_vhost,
    c.ExchangeCommandVersions: handshake.exchange_versions,
    c.Close: handshake.close,
    c.Heartbeat: handshake.heartbeat,
    c.DeclarePublisher: publishing.declare_publisher,
    c.DeletePublisher: publishing.delete_publisher,
    c.QueryPublisherSequence: publishing.query_publisher_sequence,
    c.Publish: publishing.publish,
    c.PublishFiltered: publishing.publish_filtered,
    c.Subscribe: consuming.subscribe,
    c.Credit: consuming.credit,
    c.Unsubscribe: consuming.unsubscribe,
    c.ConsumerUpdateResponse: consuming.consumer_updated,
    c.StoreOffset: consuming.store_offset,
    c.QueryOffset: consuming.query_offset,
    c.ResolveOffsetSpec: consuming.resolve_offset,
    c.Create: topology.create,
    c.Delete: topology.delete,
    c.Metadata: topology.metadata,
    c.StreamStats: topology.stream_stats,
    c.Partitions: topology.partitions,
    c.Route: topology.route,
    c.CreateSuperStream: topology.create_super_stream,
    c.DeleteSuperStream: topology.delete_super_stream,
}
