"""The brokers of this checkout, started where they are not running.

broker = ensure()       the broker that everybody shares: nobody breaks it
broker = chaos()        a broker to break, with TLS; `heal()` afterwards, whatever happened
nodes = cluster()       three nodes to break; likewise
broker = secure()       with TLS and every way to log in; nobody breaks it
broker = oldest()       the oldest RabbitMQ that the client is tried with; nobody breaks it
broker = newest()       the newest
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from lab import certificates, compose, engine, image
from lab.broker import Broker
from lab.cluster import Cluster
from lab.container import Container
from lab.management import Management
from lab.shell import LabError, say

_WARM_UP = "lab-warm-up"


def set_up() -> Broker:
    """Do everything that is missing on this machine, and return the shared broker; what `make up` does.

    Raises:
        LabError: it cannot be done here; the text says what to install.
    """
    if not os.environ.get("ACTORSTREAM_TEST_URI"):
        engine.ensure()
        return ensure(image=image.choose())
    return ensure()


def ensure(*, image: str | None = None) -> Broker:
    """The shared broker, started where it is not running. It is for everybody: do not break it.

    `ACTORSTREAM_TEST_URI` (rabbitmq-stream://user:password@host:port) names an existing one instead, and
    `ACTORSTREAM_TEST_MANAGEMENT` its management API (default: http, the same host, port 15672), and
    `ACTORSTREAM_TEST_AMQP_PORT` its port for AMQP (default: 5672). It needs the plugins rabbitmq_stream and
    rabbitmq_stream_management, and a user with the administrator tag.

    Raises:
        LabError: no engine answers, no image was chosen yet (`make up` does both), or it does not get ready.
    """
    uri = os.environ.get("ACTORSTREAM_TEST_URI")
    if uri:
        return _external(uri)
    return _start("rabbitmq", "STREAM_PORT", "MANAGEMENT_PORT", image)


def chaos(*, image: str | None = None) -> Broker:
    """The broker to break, started or healed where necessary; with TLS and logins by certificate.

    Raises:
        LabError: as `ensure`.
    """
    _need_engine()
    certificates.ensure()
    _unpause("chaos")
    broker = _start("chaos", "CHAOS_STREAM_PORT", "CHAOS_MANAGEMENT_PORT", image)
    broker.heal()
    return broker


def secure(*, image: str | None = None) -> Broker:
    """The broker with TLS and every way to log in: password, certificate, token (`lab.tokens`), anonymous.

    Raises:
        LabError: as `ensure`.
    """
    _need_engine()
    certificates.ensure()
    return _start("secure", "SECURE_STREAM_PORT", "SECURE_MANAGEMENT_PORT", image)


def oldest() -> Broker:
    """A broker of the oldest RabbitMQ that Debian has, 3.10; a minute the first time, when its image is built.

    Raises:
        LabError: no engine answers, no image can be had, or it does not get ready.
    """
    _need_engine()
    return _start("oldest", "OLDEST_STREAM_PORT", "OLDEST_MANAGEMENT_PORT", image.oldest(), "OLDEST_IMAGE")


def newest() -> Broker:
    """A broker of the newest RabbitMQ that Debian has; likewise."""
    _need_engine()
    return _start("newest", "NEWEST_STREAM_PORT", "NEWEST_MANAGEMENT_PORT", image.newest(), "NEWEST_IMAGE")


def cluster(*, image: str | None = None) -> Cluster:
    """The cluster, started or healed where necessary; about half a minute the first time.

    Raises:
        LabError: as `ensure`.
    """
    _need_engine()
    certificates.ensure()  # and with them the key that tokens are verified with
    names = ("node1", "node2", "node3")
    _unpause(*names)
    compose.up(*names, image=image)
    nodes = Cluster([_broker(name, f"{name.upper()}_STREAM_PORT", f"{name.upper()}_MANAGEMENT_PORT") for name in names])
    nodes.heal()
    if _WARM_UP not in nodes.nodes[0].management.streams():
        # The first stream makes the nodes' stream coordinators. Made here, it is not a test's first stream.
        nodes.create_stream(_WARM_UP)
        for node in nodes:
            node.flush()
    return nodes


def _start(
    service: str, stream_port: str, management_port: str, image: str | None, variable: str = "RABBITMQ_IMAGE"
) -> Broker:
    _need_engine()
    compose.up(service, image=image, variable=variable)
    broker = _broker(service, stream_port, management_port)
    try:
        broker.wait_ready()
    except LabError as error:
        raise LabError(f"{error}\n{broker.logs(20)}") from error
    return broker


def _broker(service: str, stream_port: str, management_port: str) -> Broker:
    settings = compose.settings()
    return Broker(
        uri=f"rabbitmq-stream://guest:guest@localhost:{settings[stream_port]}/%2F",
        management=Management(f"http://localhost:{settings[management_port]}"),
        container=Container(compose.container_of(service)),
        node=f"rabbit@{service}",
        tls_uri=f"rabbitmq-stream+tls://guest:guest@localhost:{settings[f'{service.upper()}_TLS_PORT']}/%2F"
        if service in ("chaos", "secure")
        else None,
        amqp_port=int(settings["AMQP_PORT"]) if service == "rabbitmq" else None,
    )


def _external(uri: str) -> Broker:
    parts = urlsplit(uri)
    management = os.environ.get("ACTORSTREAM_TEST_MANAGEMENT", f"http://{parts.hostname}:15672")
    broker = Broker(
        uri,
        Management(management, parts.username or "guest", parts.password or "guest"),
        amqp_port=int(os.environ.get("ACTORSTREAM_TEST_AMQP_PORT", "5672")),
    )
    broker.wait_ready(10.0)
    say(f"using the broker at {broker.host}:{broker.port} (ACTORSTREAM_TEST_URI)")
    return broker


def _need_engine() -> None:
    if not engine.running():
        raise LabError("no container engine answers: run `make up`, or set ACTORSTREAM_TEST_URI")


def _unpause(*services: str) -> None:
    """Wake what an interrupted test left frozen: compose would wait for its health in vain."""
    for service in services:
        identity = compose.compose("ps", "--all", "--quiet", service)
        if identity and Container(identity).paused():
            Container(identity).unpause()
