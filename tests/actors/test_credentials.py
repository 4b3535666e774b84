"""Who logs in: asked at each attempt; a token is shared, renewed in time, and never given up in silence."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from actorstream import Client, Credentials, Token, connect, errors, events
from actorstream.actors import credentials as credentials_module
from actorstream.actors.credentials import TokenLife
from actorstream.backoff import BackoffPolicy
from actorstream.wire import commands as c
from tests.actors.publishing import client_of, find, options
from tests.peer import FakeCluster, until

pytestmark = pytest.mark.timeout(20)


def one_stream(**arguments: Any) -> FakeCluster:
    cluster = FakeCluster(**arguments)
    cluster.create("s")
    return cluster


class Issuer:
    """An authorization server: each token is another one, and good for the broker from then on."""

    def __init__(self, cluster: FakeCluster, lifetime_s: float | None = 3600.0) -> None:
        self.cluster = cluster
        self.lifetime_s = lifetime_s
        self.asked = 0
        self.failing: Exception | None = None
        self.known = True

    async def __call__(self) -> Token:
        self.asked += 1
        if self.failing is not None:
            raise self.failing
        value = f"token-{self.asked}"
        if self.known:
            self.cluster.users[""] = value
        return Token(value=value, expires_in=self.lifetime_s)


def secrets(cluster: FakeCluster) -> list[bytes]:
    """What each connection has said last to authenticate, oldest connection first."""
    said = [
        [one.data for one in peer.received if isinstance(one, c.SaslAuthenticate)] for peer in cluster.connections()
    ]
    return [one[-1] for one in said]


async def watch(client: Client, into: list[events.Event]) -> asyncio.Task[None]:
    stream = client.events()

    async def read() -> None:
        async for event in stream:
            into.append(event)  # noqa: PERF401 - it is looked at meanwhile

    return asyncio.create_task(read())


# The life of a token


def test_a_token_is_renewed_when_four_fifths_of_its_life_are_over() -> None:
    life = TokenLife()
    assert not life.usable(100.0)
    assert life.accept(Token(value="one", expires_in=50.0), 100.0, 0.0)
    assert life.usable(149.0)
    assert not life.usable(150.0)
    assert life.due_at() == 140.0


def test_an_end_on_the_wall_clock_is_translated_once() -> None:
    life = TokenLife()
    life.accept(Token(value="one", expires_at=1_700_000_050.0), 100.0, wall=1_700_000_000.0)
    assert life.expires_at == 150.0
    moment = dt.datetime.fromtimestamp(1_700_000_020.0, dt.UTC)
    life.accept(Token(value="two", expires_at=moment), 100.0, wall=1_700_000_000.0)
    assert life.expires_at == 120.0


def test_a_token_without_an_end_is_never_renewed() -> None:
    life = TokenLife()
    life.accept(Token(value="one"), 100.0, 0.0)
    assert life.usable(1e12)
    assert life.due_at() == float("inf")


def test_a_token_that_has_expired_is_none() -> None:
    with pytest.raises(errors.CredentialsUnavailable, match="expired 5 s ago: is the clock of this machine right"):
        TokenLife().accept(Token(value="one", expires_in=-5.0), 100.0, 0.0)


def test_the_same_token_again_is_not_told_to_anybody_and_not_asked_for_all_the_time() -> None:
    life, now, asked = TokenLife(), 100.0, 0
    life.accept(Token(value="one", expires_at=110.0), now, now)
    while now < 109.0:
        now = life.due_at()
        assert not life.accept(Token(value="one", expires_at=110.0), now, now)
        asked += 1
    assert asked < 6


def test_f87_failures_are_spaced_until_a_broker_has_accepted_a_token() -> None:
    life, failure = TokenLife(), errors.CredentialsUnavailable("no")
    assert life.failed(failure, 100.0) == 0.0
    assert life.failed(failure, 100.0) > 0.0
    life.accept(Token(value="one", expires_in=50.0), 100.0, 0.0)
    assert life.failed(failure, 100.0) > 0.0, "that it was given proves nothing"
    life.accept(Token(value="two", expires_in=50.0), 100.0, 0.0)
    life.proved(life.version)
    assert life.failed(failure, 100.0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": ""},
        {"value": "x", "expires_in": 1.0, "expires_at": 2.0},
        {"value": "x", "expires_in": "1"},
        {"value": "x", "expires_at": dt.datetime(2030, 1, 1)},  # noqa: DTZ001 - that is what is wrong
    ],
)
def test_a_token_that_is_none_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        Token(**wrong)


def test_neither_shows_its_secret() -> None:
    assert "geheim" not in repr(Token(value="geheim"))
    assert "geheim" not in repr(Credentials("ann", "geheim"))
    assert "geheim" not in repr(TokenLife(value="geheim"))


# Logging in


@pytest.mark.parametrize("kind", ["plain", "coroutine", "awaitable"])
async def test_f87_credentials_are_asked_for_before_each_attempt(kind: str) -> None:
    cluster = one_stream(users={"ann": "one"})
    asked: list[threading.Thread] = []

    def plain() -> Credentials:
        asked.append(threading.current_thread())
        return Credentials("ann", cluster.users["ann"])

    async def coroutine() -> Credentials:
        return plain()

    def awaitable() -> Awaitable[Credentials]:
        return coroutine()

    provider: Any = {"plain": plain, "coroutine": coroutine, "awaitable": awaitable}[kind]
    async with client_of(cluster, credentials=provider) as client:
        assert len(asked) == 1
        assert (asked[0] is threading.main_thread()) == (kind != "plain"), "what may block runs in a thread"
        cluster.users["ann"] = "two"
        async with await client.producer("s") as producer:
            await producer.send_wait(b"x")
    assert len(asked) == 2
    assert [peer.username for peer in cluster.peers] == ["ann", "ann"]


async def test_f87_a_provider_that_fails_is_told_at_the_start() -> None:
    cluster = one_stream()

    def provider() -> Credentials:
        raise KeyError("vault")

    with pytest.raises(errors.CredentialsUnavailable, match="the credentials provider failed: KeyError") as raised:
        await connect(cluster.uri, opener=cluster.open, options=options(credentials=provider))
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize("provider", ["credentials", "token_provider"])
async def test_f87_a_provider_that_gives_something_else_is_told_so(provider: str) -> None:
    cluster = one_stream()
    with pytest.raises(errors.CredentialsUnavailable, match="it gives str, not"):
        await connect(cluster.uri, opener=cluster.open, options=options(**{provider: lambda: "secret"}))


async def test_a_provider_that_never_answers_is_not_waited_for_for_ever() -> None:
    cluster = one_stream()

    async def provider() -> Token:
        await asyncio.sleep(3600)
        raise AssertionError

    with pytest.raises(errors.CredentialsUnavailable, match=r"did not answer within 0\.1 s"):
        await connect(cluster.uri, opener=cluster.open, options=options(token_provider=provider, rpc_timeout_s=0.1))


async def test_a_provider_that_fails_later_is_weather_and_seen() -> None:
    cluster = one_stream()
    broken = False
    happened: list[events.Event] = []

    def provider() -> Credentials:
        if broken:
            raise OSError("the vault is sealed")
        return Credentials("guest", "guest")

    async with client_of(cluster, credentials=provider) as client:
        watching = await watch(client, happened)
        consumer = await client.consumer("s", "first")
        broken = True
        for peer in cluster.connections():
            peer.drop()
        await until(lambda: sum(isinstance(event, events.CredentialsFailed) for event in happened) >= 3)
        broken = False
        cluster.publish("s", [b"after"])
        assert (await anext(consumer)).body == b"after"
    await watching


@pytest.mark.parametrize("mechanism", ["EXTERNAL", "ANONYMOUS"])
async def test_mechanisms_without_credentials_send_none(mechanism: str) -> None:
    cluster = one_stream(mechanisms=("PLAIN", mechanism))
    uri = cluster.uri.replace("stream:", "stream+tls:")
    async with connect(uri, opener=cluster.open, mechanism=mechanism, options=options()) as client:
        assert await client.stream_exists("s")
    assert cluster.heard(c.SaslAuthenticate) == [c.SaslAuthenticate(mechanism, b"")]


async def test_a_mechanism_that_is_not_offered_is_told_with_those_that_are() -> None:
    cluster = one_stream(mechanisms=("PLAIN", "AMQPLAIN"))
    with pytest.raises(errors.SaslMechanismNotSupported, match=r"ANONYMOUS; .* offers PLAIN, AMQPLAIN"):
        await connect(cluster.uri, opener=cluster.open, mechanism="ANONYMOUS", options=options())


# Tokens


@pytest.mark.parametrize("own_thread", [False, True])
async def test_f88_one_token_serves_all_connections(own_thread: bool) -> None:
    cluster = one_stream()
    issuer = Issuer(cluster)
    async with client_of(cluster, own_thread=own_thread, token_provider=issuer) as client:
        await asyncio.gather(client.producer("s"), client.consumer("s"))
        assert secrets(cluster) == [b"\0\0token-1"] * 3
    assert issuer.asked == 1


async def test_f88_every_open_connection_gets_the_new_token_before_the_old_one_expires() -> None:
    cluster = one_stream()
    issuer = Issuer(cluster, lifetime_s=1.0)
    happened: list[events.Event] = []
    async with client_of(cluster, token_provider=issuer) as client:
        watching = await watch(client, happened)
        producer, _ = await asyncio.gather(client.producer("s"), client.consumer("s"))
        await until(lambda: issuer.asked >= 3)
        issuer.lifetime_s = 3600.0
        await until(lambda: issuer.asked >= 4)
        await until(lambda: secrets(cluster) == [b"\0\0" + cluster.users[""].encode()] * 3)
        await producer.send_wait(b"x")
        assert len(cluster.peers) == 3, "nothing was connected anew"
        (keeper,) = await find(client, "CredentialsKeeper")
        assert keeper.details["connections"] == 3
    await watching
    assert sum(isinstance(event, events.SecretRenewed) for event in happened) >= 6
    assert not [event for event in happened if isinstance(event, (events.Disconnected, events.RenewalFailed))]


async def test_f88_a_new_connection_uses_the_newest_token() -> None:
    cluster = one_stream()
    issuer = Issuer(cluster, lifetime_s=1.0)
    async with client_of(cluster, token_provider=issuer) as client:
        await until(lambda: issuer.asked == 2)
        issuer.lifetime_s = 3600.0
        await until(lambda: issuer.asked == 3)
        await until(lambda: secrets(cluster) == [b"\0\0token-3"])
        async with await client.producer("s"):
            assert secrets(cluster) == [b"\0\0token-3"] * 2


async def test_f88_a_connection_that_comes_up_while_the_token_changes_gets_the_new_one_too() -> None:
    cluster = one_stream()
    issuer = Issuer(cluster, lifetime_s=1.0)
    async with client_of(cluster, token_provider=issuer) as client:
        held = cluster.hold(c.Open, when=lambda _: len(cluster.peers) == 2)
        starting = asyncio.create_task(client.producer("s"))
        await until(lambda: held.waiting)
        await until(lambda: issuer.asked == 2)
        issuer.lifetime_s = 3600.0
        await until(lambda: issuer.asked == 3)
        held.release()
        await starting
        await until(lambda: secrets(cluster) == [b"\0\0token-3"] * 2)


async def test_f88_a_provider_that_fails_is_asked_again_and_the_old_token_used_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credentials_module, "PROVIDER_PAUSES", BackoffPolicy(base_s=0.01, cap_s=0.02))
    cluster = one_stream()
    issuer = Issuer(cluster, lifetime_s=30.0)
    monkeypatch.setattr(credentials_module, "RENEW_AT", 0.01)
    happened: list[events.Event] = []
    async with client_of(cluster, token_provider=issuer) as client:
        watching = await watch(client, happened)
        issuer.failing = OSError("no route to the authorization server")
        await until(lambda: sum(isinstance(event, events.CredentialsFailed) for event in happened) >= 3)
        async with await client.producer("s") as producer:
            await producer.send_wait(b"with the old one")
        (keeper,) = await find(client, "CredentialsKeeper")
        assert "no route" in str(keeper.details["failure"])
        issuer.failing = None
        monkeypatch.setattr(credentials_module, "RENEW_AT", 0.8)
        await until(lambda: any(isinstance(event, events.SecretRenewed) for event in happened))
    await watching


async def test_f88_a_token_that_a_broker_refuses_leaves_the_connection_as_it_is_and_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credentials_module, "PROVIDER_PAUSES", BackoffPolicy(base_s=0.01, cap_s=0.02))
    cluster = one_stream()
    issuer = Issuer(cluster, lifetime_s=1.0)
    happened: list[events.Event] = []
    async with client_of(cluster, token_provider=issuer) as client:
        watching = await watch(client, happened)
        issuer.known = False
        await until(lambda: sum(isinstance(event, events.RenewalFailed) for event in happened) >= 2)
        refusal = next(event for event in happened if isinstance(event, events.RenewalFailed))
        assert isinstance(refusal.reason, errors.AuthenticationFailure)
        issuer.known, issuer.lifetime_s = True, 3600.0
        await until(lambda: any(isinstance(event, events.SecretRenewed) for event in happened))
        assert len(cluster.peers) == 1
    await watching


async def test_f88_a_token_of_another_user_needs_another_connection() -> None:
    cluster = one_stream()
    issuer = Issuer(cluster, lifetime_s=1.0)
    async with client_of(cluster, token_provider=issuer) as client:
        producer = await client.producer("s", name="n")
        cluster.script.respond(c.SaslAuthenticate, code=21, times=2)
        await until(lambda: len(cluster.peers) >= 3)
        issuer.lifetime_s = 3600.0
        await producer.send_wait(b"x")
        await until(lambda: len(cluster.connections()) == 2)


@pytest.mark.parametrize("kind", [c.DeclarePublisher, c.Subscribe, c.Metadata])
async def test_f88_a_refusal_that_is_owed_to_an_expired_token_is_no_reason_to_give_up(kind: type[c.Command]) -> None:
    """Until it drops a connection whose token has expired, a broker allows nothing on it."""
    cluster = one_stream()
    issuer = Issuer(cluster)
    async with client_of(cluster, token_provider=issuer) as client:
        state = c.MetadataStream("s", 16, 0xFFFF, ())
        answer = c.MetadataResponse(1, (), (state,)) if kind is c.Metadata else None
        cluster.script.before(kind, lambda _: cluster.users.update({"": "a token that has not expired"}), times=1)
        cluster.script.respond(kind, answer, code=None if answer else 16, times=1)
        producer, consumer = await client.producer("s"), await client.consumer("s", "first")
        await producer.send_wait(b"x")
        assert (await anext(consumer)).body == b"x"
    assert issuer.asked == 2, "the refused token was replaced"


async def test_f89_a_refusal_is_told_when_the_token_is_good() -> None:
    cluster = one_stream()
    issuer = Issuer(cluster)
    async with client_of(cluster, token_provider=issuer) as client:
        cluster.script.respond(c.DeclarePublisher, code=16)
        with pytest.raises(errors.AccessRefused):
            await client.producer("s")
        assert all(not peer.is_closed for peer in cluster.peers)
    assert issuer.asked == 1


async def test_f88_an_old_broker_gets_another_connection_and_never_the_command() -> None:
    cluster = one_stream(version="3.12.4")
    issuer = Issuer(cluster, lifetime_s=1.0)
    happened: list[events.Event] = []
    async with client_of(cluster, token_provider=issuer) as client:
        watching = await watch(client, happened)
        producer = await client.producer("s", name="n")
        await until(lambda: issuer.asked == 2)
        issuer.lifetime_s = 3600.0
        await until(lambda: any(isinstance(event, events.RenewalFailed) for event in happened))
        await producer.send_wait(b"x")
        assert all(sum(isinstance(one, c.SaslAuthenticate) for one in peer.received) == 1 for peer in cluster.peers)
    await watching
    (first, *_) = [event for event in happened if isinstance(event, events.RenewalFailed)]
    assert isinstance(first.reason, errors.UnsupportedByBroker)
    assert "needs RabbitMQ 3.13 or newer" in str(first.reason)


async def test_f88_a_keeper_that_failed_goes_on_with_the_same_token() -> None:
    cluster = one_stream()
    issuer = Issuer(cluster)
    async with client_of(cluster, token_provider=issuer) as client:
        root: Any = client._grown._root.actor_inbox
        keeper = root.children["credentials"]
        keeper.actor.exit(RuntimeError("a bug"))
        await until(lambda: keeper.generation == 2 and keeper.actor is not None)
        async with await client.producer("s"):
            pass
        (node,) = await find(client, "CredentialsKeeper")
        assert (node.generation, node.details["tokens"]) == (2, 1)
    assert issuer.asked == 1
