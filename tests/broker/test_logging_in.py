"""TLS and the mechanisms of logging in, on a real broker that has all of them."""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import actorstream
from actorstream import Client, Credentials, errors
from lab.broker import Broker
from lab.certificates import Certificates
from tests.broker.reading import numbered, numbers, publish, read, take
from tests.conftest import Streams

CA = Certificates.authority


def trusting(certificate: Path | None = None) -> ssl.SSLContext:
    """Our authority, and perhaps a certificate to show."""
    context = ssl.create_default_context(cafile=CA)
    if certificate is not None:
        context.load_cert_chain(certificate, Certificates.client_key)
    return context


def with_tls(uri: str) -> str:
    return uri.replace("rabbitmq-stream:", "rabbitmq-stream+tls:")


def without_tls(uri: str | None) -> str:
    return (uri or "").replace("+tls", "")


def tls_uri(broker: Broker) -> str:
    assert broker.tls_uri is not None
    return broker.tls_uri


async def both_ways(client: Client, stream: str) -> None:
    """Publish and consume."""
    await publish(client, stream, numbered(100))
    assert numbers(await read(client, stream)) == list(range(100))


def users(broker: Broker, name: str) -> set[tuple[str, str, bool]]:
    """User, mechanism, and whether in TLS, of the connections whose names begin like that."""
    rows = broker.management.connections()
    rows = [row for row in rows if row["client_properties"]["connection_name"].startswith(name)]
    return {(row["user"], row["auth_mechanism"], row["ssl"]) for row in rows}


async def wait_users(broker: Broker, name: str, expected: set[tuple[str, str, bool]]) -> None:
    await asyncio.to_thread(broker.management.wait_some_connection, f"{name}-control")
    assert await asyncio.to_thread(users, broker, name) == expected


# Who logs in


async def test_plain_in_tls_verified_against_an_authority_in_a_file(secure: Broker, secure_stream: Streams) -> None:
    target = secure_stream({})
    async with actorstream.connect(tls_uri(secure), tls_ca=CA, name="verified") as client:
        await both_ways(client, target)
        await wait_users(secure, "verified", {("guest", "PLAIN", True)})


async def test_external_logs_in_as_whom_the_client_certificate_names(secure: Broker, secure_stream: Streams) -> None:
    target, context = secure_stream({}), trusting(Certificates.client)
    async with actorstream.connect(tls_uri(secure), mechanism="EXTERNAL", tls=context, name="external") as client:
        await both_ways(client, target)
        await wait_users(secure, "external", {("guest", "EXTERNAL", True)})


async def test_anonymous_logs_in_as_the_brokers_user_for_that(secure: Broker, secure_stream: Streams) -> None:
    target = secure_stream({})
    async with actorstream.connect(secure.uri, mechanism="ANONYMOUS", name="anonymous") as client:
        await both_ways(client, target)
        await wait_users(secure, "anonymous", {("guest", "ANONYMOUS", False)})


async def test_f87_a_provider_is_asked_anew_when_a_password_has_changed(secure: Broker, secure_stream: Streams) -> None:
    name, target = f"rotating-{time.time_ns()}", secure_stream({})
    password = "first"
    asked: list[str] = []

    async def provider() -> Credentials:
        asked.append(password)
        return Credentials(name, password)

    management = secure.management
    await asyncio.to_thread(management.put_user, name, password)
    try:
        await asyncio.to_thread(management.put_permissions, name)
        async with actorstream.connect(secure.uri, credentials=provider, name=name) as client:
            consumer = await client.consumer(target, "first")
            password = "second"
            await asyncio.to_thread(management.put_user, name, password)
            await asyncio.to_thread(management.close_connections, f"{name}-consumer")
            await publish(client, target, numbered(5))
            assert numbers(await take(consumer, 5)) == [0, 1, 2, 3, 4]
    finally:
        await asyncio.to_thread(management.delete_user, name)
    assert set(asked) == {"first", "second"}


async def test_a_mechanism_that_a_broker_does_not_offer_is_told_with_those_that_it_does(chaos: Broker) -> None:
    with pytest.raises(errors.SaslMechanismNotSupported, match=r"ANONYMOUS; the broker at .* offers") as raised:
        await actorstream.connect(chaos.uri, mechanism="ANONYMOUS")
    assert "PLAIN" in str(raised.value)


# What goes wrong


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        pytest.param({}, errors.ConnectFailed, "give its authority: tls_ca", id="an authority that is not known"),
        pytest.param(
            {"mechanism": "EXTERNAL", "tls": "no certificate"},
            errors.AuthenticationFailure,
            "none was given (load_cert_chain)",
            id="EXTERNAL without a certificate",
        ),
        pytest.param(
            {"mechanism": "EXTERNAL", "tls": "expired"},
            errors.ConnectFailed,
            "does not accept our certificate: certificate expired",
            id="a certificate that has expired",
        ),
    ],
)
async def test_f19_what_is_wrong_with_tls_is_told_at_once_with_what_to_do(
    secure: Broker, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    contexts = {"no certificate": trusting, "expired": lambda: trusting(Certificates.expired)}
    if "tls" in options:
        options = options | {"tls": contexts[options["tls"]]()}
    begin = time.monotonic()
    with pytest.raises(error) as raised:
        await actorstream.connect(tls_uri(secure), **options)
    assert text in str(raised.value)
    assert time.monotonic() - begin < 5


async def test_f19_a_certificate_for_another_host_is_not_accepted(secure: Broker) -> None:
    elsewhere = tls_uri(secure).replace("localhost", "127.1")  # the same address, by a name that no certificate bears
    with pytest.raises(errors.ConnectFailed, match="not accepted: Hostname mismatch"):
        await actorstream.connect(elsewhere, tls_ca=CA)


async def test_f19_tls_at_the_plain_port_is_told_and_nothing_is_downgraded(secure: Broker) -> None:
    before = await asyncio.to_thread(secure.management.connections)
    with pytest.raises(errors.ConnectFailed, match="is this its port for TLS") as raised:
        await actorstream.connect(with_tls(secure.uri), tls_ca=CA)
    assert raised.value.step == "tls"
    assert len(await asyncio.to_thread(secure.management.connections)) <= len(before)


async def test_f19_a_plain_connection_to_the_port_for_tls_is_told_so(secure: Broker) -> None:
    begin = time.monotonic()
    with pytest.raises(errors.ConnectFailed, match=r"TLS is spoken at this port: use rabbitmq-stream\+tls://"):
        await actorstream.connect(without_tls(secure.tls_uri))
    assert time.monotonic() - begin < 5


async def test_a_secret_that_is_too_large_for_a_new_broker_is_told_so(newest: Broker) -> None:
    with pytest.raises(errors.ConnectFailed, match=r"has 9000 bytes: .* stream\.initial_frame_max"):
        await actorstream.connect(newest.uri, password="x" * 9000)


async def test_f19_metadata_over_tls_leads_to_the_port_for_tls(secure: Broker, secure_stream: Streams) -> None:
    target = secure_stream({})
    async with actorstream.connect(tls_uri(secure), tls_ca=CA) as client:
        metadata = await client.stream_metadata(target)
        assert metadata.leader is not None
        assert metadata.leader.port == urlsplit(tls_uri(secure)).port


# What an operator sees


async def test_connections_and_publishers_are_told_apart_by_name(secure: Broker, secure_stream: Streams) -> None:
    name, target = f"named-{time.time_ns()}", secure_stream({})
    options = actorstream.ConnectionOptions(properties={"version": "1.2.3", "team": "orders"})
    async with actorstream.connect(secure.uri, name=name, options=options) as client:
        await client.producer(target, name="importer")
        await client.consumer(target)
        management = secure.management
        for role in ("control", "publisher", "consumer"):
            (row,) = await asyncio.to_thread(management.wait_connections, f"{name}-{role}")
            assert row["client_properties"]["connection_name"].rpartition("-")[2].isdigit()
            assert row["client_properties"]["team"] == "orders"
        references = [row["reference"] for row in await asyncio.to_thread(management.publishers, target)]
        assert references == ["importer"]
