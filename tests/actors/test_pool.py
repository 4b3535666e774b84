"""The pool: ids that are one byte, connections that are shared and left, and brokers that are spared."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from actorstream import BackoffPolicy, Client, ConnectionOptions, Endpoint
from actorstream.actors import messages as m, pool as pool_module
from actorstream.actors.calls import call
from actorstream.actors.pool import CONSUMING, CONTROL, IDS, PUBLISHING, EntityIds, Pool, _Gate, lease
from actorstream.backoff import Backoff
from actorstream.errors import ConnectionLost
from actorstream.wire import commands as c
from tests.actors.publishing import client_of, eventually as slots_are, find
from tests.peer import FakeCluster, until

pytestmark = pytest.mark.timeout(20)

NODE = Endpoint("node-0", 5552)


def pool_of(client: Client) -> m.Ref:
    return client._grown._pool


async def get(client: Client, role: str = PUBLISHING, endpoint: Endpoint = NODE) -> m.Slot:
    return await lease(pool_of(client), endpoint, role)


async def lines(client: Client) -> int:
    (pool,) = await find(client, "Pool")
    count = pool.details["connections"]
    assert isinstance(count, int)
    return count


async def eventually(client: Client, count: int) -> None:
    deadline = time.monotonic() + 5
    while await lines(client) != count:
        assert time.monotonic() < deadline, f"{await lines(client)} connections, not {count}"
        await asyncio.sleep(0.001)


# Ids


def test_f32_an_id_that_was_given_back_rests_as_long_as_it_can() -> None:
    ids = EntityIds()
    first = [ids.take() for _ in range(10)]
    ids.give_back(0)

    assert first == list(range(10))
    assert [ids.take() for _ in range(246)] == list(range(10, 256))
    assert ids.take() == 0
    assert ids.full


def test_f33_all_256_ids_are_used_and_no_more() -> None:
    ids = EntityIds()

    assert {ids.take() for _ in range(IDS)} == set(range(256))
    assert ids.full
    ids.give_back(77)
    assert not ids.full
    assert ids.take() == 77


def test_an_id_is_given_back_once_however_often_it_is_said() -> None:
    ids = EntityIds()
    ids.take()
    ids.give_back(0)
    ids.give_back(0)
    ids.give_back(99)

    assert len(ids) == 0


# The gate


def gate() -> _Gate:
    return _Gate(Backoff(BackoffPolicy(base_s=1.0, cap_s=8.0, stable_s=30.0), random.Random(1)))


def test_f18_attempts_are_spaced_more_and_more_and_the_first_one_is_free() -> None:
    one, now = gate(), 100.0
    bounds = []
    for _ in range(8):
        one.failed(now, now, 0.0)
        bounds.append(one.until - now)
        now = one.until + 0.1

    assert bounds[0] == 0.0
    assert all(0 < pause <= bound for pause, bound in zip(bounds[1:], [1, 2, 4, 8, 8, 8, 8], strict=True))


def test_f18_connections_that_end_together_count_once() -> None:
    one = gate()
    for _ in range(20):
        one.failed(90.0, 100.0, 0.0)

    assert one.backoff.attempts == 1
    assert one.until == 100.0


def test_i15_a_connection_that_came_up_and_was_lost_at_once_counts_too() -> None:
    one, now = gate(), 100.0
    for _ in range(10):
        begun = max(now, one.until)
        one.backoff.succeeded(begun)
        now = begun + 0.01
        one.failed(begun, now, 0.0)

    assert now > 105.0, "ten attempts took more than some milliseconds"


def test_a_connection_that_was_stable_begins_a_new_count() -> None:
    one, now = gate(), 100.0
    for _ in range(5):
        one.failed(now, now, 0.0)
        now = one.until + 0.1
    one.backoff.succeeded(now)
    one.failed(now, now + 31.0, 0.0)

    assert one.until == now + 31.0


def test_a_broker_that_is_lost_again_some_seconds_after_an_outage_is_tried_at_once() -> None:
    one, now = _Gate(Backoff(ConnectionOptions().backoff, random.Random(1))), 100.0
    for _ in range(10):
        for _ in range(5):
            one.failed(now, now, 0.0)
            now = one.until + 0.1
        one.backoff.succeeded(now)
        one.backoff.succeeded(now + 1.9)  # another connection to the same broker
        now += 2.0
        one.failed(now - 2.0, now, 0.0)
        assert one.until == now
        now += 0.1


def test_f87_a_refused_log_in_is_not_repeated_soon() -> None:
    one = gate()
    one.failed(100.0, 100.0, 5.0)

    assert one.until == 105.0


# The actor


async def test_entities_of_a_role_share_a_connection_and_roles_do_not() -> None:
    """W14: a broker that does not read publishers' connections would starve the consumers on them."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        one, two, other = await get(client), await get(client), await get(client, CONSUMING)

        assert (one.name, one.entity_id) == (two.name, 0)
        assert two.entity_id == 1
        assert other.name != one.name
        assert other.entity_id == 0
        assert (await get(client, CONTROL)).entity_id == -1


async def test_f33_the_257th_entity_opens_a_second_connection() -> None:
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        slots = [await get(client) for _ in range(257)]

        assert len({slot.name for slot in slots[:256]}) == 1
        assert slots[256].name != slots[0].name
        assert slots[256].entity_id == 0
        assert await lines(client) == 3
        await call(slots[0].connection, m.Open())
        await call(slots[256].connection, m.Open())
        assert len(cluster.connections()) == 3


async def test_an_idle_connection_lingers_and_is_closed_politely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "LINGER_S", 0.05)
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        slot = await get(client)
        await call(slot.connection, m.Open())
        pool_of(client).tell(m.Release(slot))
        again = await get(client)
        assert again.name == slot.name, "it was kept for the next one"
        await asyncio.sleep(0.1)
        assert await lines(client) == 2, "and it is not closed under its hands"
        pool_of(client).tell(m.Release(again))
        await eventually(client, 1)
        await until(lambda: cluster.heard(c.Close))


async def test_a_retired_connection_takes_nobody_and_goes_when_the_last_one_has_left() -> None:
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        slot = await get(client)
        pool_of(client).tell(m.Retire(slot.name))
        fresh = await get(client)
        assert fresh.name != slot.name
        assert await lines(client) == 3
        pool_of(client).tell(m.Release(slot))
        await eventually(client, 2)


async def test_a_connection_that_lost_much_credit_is_retired() -> None:
    """W5: the broker would stop reading it."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        slot = await get(client)
        pool_of(client).tell(m.LostCredit(slot.name, pool_module.LOST_CREDIT_LIMIT - 1))
        assert (await get(client)).name == slot.name
        pool_of(client).tell(m.LostCredit(slot.name, 1))
        assert (await get(client)).name != slot.name


async def test_a_connection_that_ended_is_not_given_out() -> None:
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        slot = await get(client)
        await call(slot.connection, m.Open())
        cluster.connections()[-1].drop()
        await eventually(client, 1)

        fresh = await get(client)
        assert fresh.name != slot.name
        with pytest.raises(ConnectionLost):
            await call(slot.connection, m.Open())
        await call(fresh.connection, m.Open())


async def test_a_lease_that_is_cancelled_gives_its_slot_back() -> None:
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await get(client)
        for _ in range(10):
            leasing = asyncio.create_task(get(client))
            await asyncio.sleep(0)
            leasing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leasing
        await slots_are(client, 1)


async def twelve_attempts(cluster: FakeCluster) -> float:
    """Seconds until so many more connections were tried."""
    before, begin = len(cluster.network.attempts), time.monotonic()
    await until(lambda: len(cluster.network.attempts) >= before + 12)
    return time.monotonic() - begin


async def test_i15_a_broker_that_is_away_is_tried_in_a_rhythm_however_many_ask() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    slow = BackoffPolicy(base_s=0.05, cap_s=0.1)
    async with client_of(cluster, backoff=slow) as client:
        producers = await asyncio.gather(*(client.producer("s") for _ in range(50)))
        cluster.node(0).stop()
        took = await twelve_attempts(cluster)
        cluster.node(0).start()
        await asyncio.gather(*(producer.send_wait(b"x") for producer in producers))

    assert took > 0.2, "one connection is tried at a time, about every 0.05 s"


async def test_i15_a_broker_that_drops_everybody_is_not_stormed() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    slow = BackoffPolicy(base_s=0.05, cap_s=0.1)
    async with client_of(cluster, backoff=slow) as client:
        producers = await asyncio.gather(*(client.producer("s") for _ in range(50)))
        dropping = cluster.script.disconnect(c.DeclarePublisher)
        next(peer for peer in cluster.connections() if peer.publishers).drop()
        took = await twelve_attempts(cluster)
        dropping.cancel()
        await asyncio.gather(*(producer.send_wait(b"x") for producer in producers))

    assert took > 0.2


async def test_a_pool_that_crashed_knows_its_connections_and_closes_idle_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "LINGER_S", 0.05)
    cluster = FakeCluster()
    release = Pool._release

    def crash(self: Pool, slot: m.Slot) -> None:
        release(self, slot)
        raise ValueError("a bug")

    async with client_of(cluster) as client:
        slot, idle = await get(client), await get(client, CONSUMING)
        monkeypatch.setattr(Pool, "_release", crash)
        pool_of(client).tell(m.Release(idle))
        assert (await get(client)).name == slot.name
        await eventually(client, 2)
        assert (await find(client, "Pool"))[0].restarts == 1
