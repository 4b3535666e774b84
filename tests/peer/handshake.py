"""How a connection comes up and is closed, and who may have one (protocol section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actorstream.wire import commands as c
from actorstream.wire.constants import Key, ResponseCode
from tests.peer.entities import State
from tests.peer.versions import versions

if TYPE_CHECKING:
    from tests.peer.cluster import FakeCluster
    from tests.peer.connection import Peer
    from tests.peer.script import Exchange

OK = ResponseCode.OK


def peer_properties(x: Exchange, command: c.PeerProperties) -> None:
    x.peer.client_properties = dict(command.properties)
    x.peer.state = State.SASL_HANDSHAKE
    cluster = x.peer.cluster
    x.answer(c.PeerPropertiesResponse(OK, {"product": "RabbitMQ", "version": cluster.version, "cluster_name": "fake"}))


def sasl_handshake(x: Exchange, _: c.SaslHandshake) -> None:
    x.peer.state = State.SASL_AUTHENTICATE
    x.answer(c.SaslHandshakeResponse(OK, x.peer.cluster.mechanisms))


def sasl_authenticate(x: Exchange, command: c.SaslAuthenticate) -> None:
    if x.peer.state is State.OPEN:
        x.answer(_renew(x.peer, command))
        return
    code, user = _authenticate(x.peer.cluster, command)
    if code != OK:
        x.answer(code)
        x.peer.drop()
        return
    x.peer.mechanism, x.peer.username = command.mechanism, user
    x.peer.state = State.TUNE
    x.answer(OK)
    x.peer.send(x.peer.cluster.tune)


def _renew(peer: Peer, command: c.SaslAuthenticate) -> int:
    """Renewing a secret (section 2.7): no Tune follows, and a failure leaves the connection usable."""
    if command.mechanism != peer.mechanism:
        return ResponseCode.SASL_CANNOT_CHANGE_MECHANISM
    code, user = _authenticate(peer.cluster, command)
    return ResponseCode.SASL_CANNOT_CHANGE_USERNAME if code == OK and user != peer.username else code


def _authenticate(cluster: FakeCluster, command: c.SaslAuthenticate) -> tuple[int, str]:
    if command.mechanism not in cluster.mechanisms:
        return ResponseCode.SASL_MECHANISM_NOT_SUPPORTED, ""
    if command.mechanism != "PLAIN":
        return (ResponseCode.SASL_ERROR if command.data else OK), command.mechanism.lower()
    parts = command.data.split(b"\0")
    if len(parts) != 3:
        return ResponseCode.SASL_ERROR, ""
    user, password = parts[1].decode(), parts[2].decode()
    return (OK if cluster.users.get(user) == password else ResponseCode.AUTHENTICATION_FAILURE), user


def tune(x: Exchange, command: c.Tune) -> None:
    x.peer.tune = command
    x.peer.state = State.OPENING


def open_vhost(x: Exchange, command: c.Open) -> None:
    if command.vhost not in x.peer.cluster.vhosts:
        x.answer(ResponseCode.VIRTUAL_HOST_ACCESS_FAILURE)
        x.peer.drop()
        return
    x.peer.state = State.OPEN
    host, port = x.peer.node.advertised
    x.answer(c.OpenResponse(OK, {"advertised_host": host, "advertised_port": str(port)}))


def exchange_versions(x: Exchange, command: c.ExchangeCommandVersions) -> None:
    version = x.peer.cluster.version_numbers
    newest = Key.RESOLVE_OFFSET_SPEC if version >= (4, 3) else Key.DELETE_SUPER_STREAM
    if any(not 1 <= one.key <= newest for one in command.commands):
        x.peer.drop()
        return
    if any(one.key == Key.DELIVER and one.maximum == 2 for one in command.commands):
        x.peer.deliver_version = 2
    offer = [c.CommandVersions(key, 1, maximum) for key, maximum in versions(x.peer.cluster.version_numbers).items()]
    x.answer(c.ExchangeCommandVersionsResponse(OK, tuple(offer)))


def close(x: Exchange, _: c.Close) -> None:
    x.answer(OK)
    x.peer.drop()


def heartbeat(_x: Exchange, _: c.Heartbeat) -> None:
    """Needs no answer."""
