"""OAuth 2 tokens on a real broker: shared, renewed on open connections, expired, refused, and with less in them."""

import asyncio
import time
from collections.abc import Callable, Iterable

import pytest

import actorstream
from actorstream import Client, Consumer, Producer, Token, errors, events
from lab import tokens
from lab.broker import Broker
from tests.broker.reading import numbered, numbers, publish, take, until, watching
from tests.conftest import Streams


class Server:
    """An authorization server: its answers, and how often it was asked."""

    def __init__(self, lifetime_s: float, *, scopes: Iterable[str] = tokens.EVERYTHING, user: str = "orders") -> None:
        self.lifetime_s = lifetime_s
        self.scopes = tuple(scopes)
        self.user = user
        self.failing = False
        self.ends: list[float] = []

    def __call__(self) -> Token:
        if self.failing:
            raise OSError("the authorization server is away")
        value = tokens.issue(self.lifetime_s, scopes=self.scopes, user=self.user)
        self.ends.append(time.time() + self.lifetime_s)
        return Token(value=value, expires_in=self.lifetime_s)


async def exchange(producer: Producer, consumer: Consumer, start: int, count: int = 10) -> None:
    """Traffic: publish, confirm, consume."""
    await (await producer.send_batch(numbered(count, start)))
    assert numbers(await take(consumer, count)) == list(range(start, start + count))


def of(kind: type[events.Event], seen: list[events.Event]) -> list[events.Event]:
    return [event for event in seen if isinstance(event, kind)]


async def rows(broker: Broker, name: str) -> set[str]:
    """The connections whose names begin like that, each by its addresses, which no other ever has."""
    found = await asyncio.to_thread(broker.management.connections)
    return {row["name"] for row in found if row["client_properties"]["connection_name"].startswith(name)}


async def all_there(client: Client, stream: str) -> tuple[Producer, Consumer]:
    return await client.producer(stream, name="n"), await client.consumer(stream, "first")


async def test_a_token_logs_in_as_whom_it_says(secure: Broker, secure_stream: Streams) -> None:
    target, server = secure_stream({}), Server(600)
    async with actorstream.connect(secure.uri, token_provider=server, name="token") as client:
        await exchange(*await all_there(client, target), 0)
        (row,) = await asyncio.to_thread(secure.management.wait_connections, "token-publisher")
        assert row["user"] == "orders"
    assert len(server.ends) == 1, "three connections share one token"


async def test_f88_a_token_is_renewed_on_open_connections_and_traffic_goes_on(
    secure: Broker, secure_stream: Streams
) -> None:
    name, target, server = f"renewed-{time.time_ns()}", secure_stream({}), Server(4)
    async with (
        actorstream.connect(secure.uri, token_provider=server, name=name) as client,
        watching(client) as seen,
    ):
        producer, consumer = await all_there(client, target)
        await exchange(producer, consumer, 0)

        async def three() -> bool:
            return len(await rows(secure, name)) == 3

        await until(three, "three connections")
        before = await rows(secure, name)
        done = 10
        while time.time() < server.ends[0] + 2:  # brokers look at the end of a token after it, too
            await exchange(producer, consumer, done)
            done += 10
        assert len(server.ends) >= 2
        assert await rows(secure, name) == before, "no connection was replaced"
        assert len(of(events.SecretRenewed, seen)) == 3 * (len(server.ends) - 1)
        assert not of(events.Disconnected, seen)
        assert not of(events.ActorRestarting, seen)


async def test_f88_while_no_token_is_to_be_had_the_broker_drops_us_and_the_next_one_brings_us_back(
    secure: Broker, secure_stream: Streams
) -> None:
    target, server = secure_stream({}), Server(3)
    async with actorstream.connect(secure.uri, token_provider=server) as client, watching(client) as seen:
        producer, consumer = await all_there(client, target)
        await exchange(producer, consumer, 0)
        server.failing = True
        await until(lambda: of(events.CredentialsFailed, seen), "the failure is seen")
        assert not of(events.Disconnected, seen), "the old token is good as long as it lasts"
        await until(lambda: of(events.Disconnected, seen), "the broker has dropped us")
        receipt = await producer.send_batch(numbered(5, 10))
        server.failing, server.lifetime_s = False, 600
        await receipt
        assert numbers(await take(consumer, 5, within_s=30)) == [10, 11, 12, 13, 14]


async def test_f88_a_token_that_expires_sooner_than_it_says_is_replaced_after_the_refusal(
    secure: Broker, secure_stream: Streams
) -> None:
    """As a provider does whose clock is wrong, or who does not know when its tokens expire."""
    target, lifetime_s, issued = secure_stream({}), 3.0, 0

    def provider() -> Token:
        nonlocal lifetime_s, issued
        issued += 1
        value = tokens.issue(lifetime_s)
        lifetime_s = 600.0
        return Token(value=value)

    async with actorstream.connect(secure.uri, token_provider=provider) as client:
        producer, consumer = await all_there(client, target)
        await exchange(producer, consumer, 0)
        async with asyncio.timeout(30):
            done = 10
            while issued < 2:
                await exchange(producer, consumer, done)
                done += 10
            await exchange(producer, consumer, done)
    assert issued == 2


@pytest.mark.parametrize("token", ["garbage", "audience", "expired"])
async def test_a_wrong_token_is_told_at_the_first_connect(secure: Broker, token: str) -> None:
    values: dict[str, Callable[[], str]] = {
        "garbage": lambda: "not a token at all",
        "audience": lambda: tokens.issue(600, audience="another server"),
        "expired": lambda: tokens.issue(-60),
    }
    with pytest.raises(errors.AuthenticationFailure, match="check the token's signature, audience and expiry"):
        await actorstream.connect(secure.uri, token_provider=lambda: Token(value=values[token]()))


async def test_f89_a_new_token_without_a_permission_ends_the_handle_that_needs_it_and_no_other(
    secure: Broker, secure_stream: Streams
) -> None:
    kept, lost, server = secure_stream({}), secure_stream({}), Server(3)
    async with actorstream.connect(secure.uri, token_provider=server) as client, watching(client) as seen:
        producer, consumer = await all_there(client, kept)
        refused = await client.producer(lost)
        await refused.send_wait(b"allowed")
        server.scopes = ("read:*/*", f"write:*/{kept}")
        await until(lambda: of(events.ActorGaveUp, seen), "the new token is in place")
        with pytest.raises(errors.Closed) as raised:
            await refused.send(b"not any more")
        assert isinstance(raised.value.__cause__, errors.AccessRefused)
        await exchange(producer, consumer, 0)


async def test_f88_the_token_of_another_user_takes_new_connections(secure: Broker, secure_stream: Streams) -> None:
    name, target, server = f"other-{time.time_ns()}", secure_stream({}), Server(3, user="ann")
    async with (
        actorstream.connect(secure.uri, token_provider=server, name=name) as client,
        watching(client) as seen,
    ):
        producer, consumer = await all_there(client, target)
        await exchange(producer, consumer, 0)
        server.user, server.lifetime_s = "bob", 600
        # Perhaps not on all three connections: one may be over before it hears of it, on a busy machine.
        await until(lambda: of(events.RenewalFailed, seen), "the broker refuses")
        reasons = {type(event.reason) for event in seen if isinstance(event, events.RenewalFailed)}
        assert reasons == {errors.SaslCannotChangeUsername}
        await exchange(producer, consumer, 10)
        rows = await asyncio.to_thread(secure.management.wait_connections, f"{name}-publisher")
        assert [row["user"] for row in rows] == ["bob"]


async def test_what_a_token_does_not_allow_is_refused_to_the_handle(secure: Broker, secure_stream: Streams) -> None:
    target, server = secure_stream({}), Server(600, scopes=("read:*/*",))
    async with actorstream.connect(secure.uri, token_provider=server) as client:
        with pytest.raises(errors.AccessRefused):
            await client.producer(target)
        async with actorstream.connect(secure.uri) as other:
            await publish(other, target, numbered(3))
        assert numbers(await take(await client.consumer(target, "first"), 3)) == [0, 1, 2]
