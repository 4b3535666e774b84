"""The pipe over brokers that do what no real one can be made to do in time."""

import asyncio

import pytest

import actorstream
from actorstream import ConnectionOptions, Pipe, errors
from actorstream.backoff import BackoffPolicy
from tests.peer import FakeCluster, until

QUICK = BackoffPolicy(base_s=0.001, cap_s=0.01)


async def test_f42_a_source_made_anew_with_more_than_before_is_told_though_nobody_saw_it_shorter() -> None:
    cluster = FakeCluster()
    for name in ("source", "target"):
        cluster.create(name)
    cluster.publish("source", [b"%d" % number for number in range(20)])
    settings = ConnectionOptions(backoff=QUICK)
    async with actorstream.connect(cluster.uris, options=settings, opener=cluster.open) as client:
        pipe = Pipe(client, "source", "target", lambda message: message.body, name="pipe")
        running = asyncio.create_task(pipe.run())
        await until(lambda: pipe.completed == 20)
        cluster.recreate("source")
        cluster.publish("source", [b"new %d" % number for number in range(60)])
        with pytest.raises(errors.SourceReplaced):
            async with asyncio.timeout(10):
                await running
        with pytest.raises(errors.SourceReplaced):  # and so is whoever begins again
            await pipe.run()
