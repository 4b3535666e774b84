"""Brokers for tests, and the rule that a test leaves nothing behind.

Six fixtures give brokers, and mark the tests that ask for them (`-m "not broker"` runs without any):

    broker    the shared one; no test breaks it
    chaos     one that tests break, with TLS; healed before and after each test; these run after all the others
    secure    with TLS and every way to log in; no test breaks it, and these run after them
    oldest    RabbitMQ 3.10, which no test breaks; these run after them
    newest    the newest RabbitMQ, likewise
    cluster   three nodes to break, likewise; these run last

and each has a factory of stream names: `stream`, `chaos_stream`, `oldest_stream`, … A broker that cannot be had skips
the test, except in CI (the variable CI is set), where it fails it.
"""

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pykka
import pytest
import pytest_asyncio

from actorstream import wire
from lab import start as lab
from lab.broker import Broker
from lab.cluster import Cluster
from lab.management import Management
from lab.shell import LabError

T = TypeVar("T")

CI = bool(os.environ.get("CI"))
KINDS = ("broker", "chaos", "secure", "oldest", "newest", "cluster")
LATE = KINDS[1:]
GRACE_S = 2.0

# Deadlines are pytest-timeout's business: a busy machine must not fail a property that holds.
# So must it not for being slow to make up data; both are about this machine's load, not about the code.
_patient = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("default", _patient)
hypothesis.settings.register_profile("ci", _patient, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if CI else "default")


def pytest_report_header() -> str:
    return f"actorstream: {'compiled' if wire.compiled else 'interpreted'}, {Path(wire.__file__).parent}"


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: where a shell ignores it, as for what it runs in the background,
    they would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def kind_of(item: pytest.Item) -> str:
        # What a module defines itself under such a name is no broker.
        names = set(getattr(item, "fixturenames", ())) - set(dir(getattr(item, "module", None)))
        return next((kind for kind in reversed(KINDS) if kind in names), "")

    for item in items:
        if kind := kind_of(item):
            item.add_marker(kind)
        if pytest_asyncio.is_async_test(item):
            # Before the test's own fixtures, so that it looks after they have cleaned up.
            item.fixturenames.insert(0, "no_leaked_tasks")
    items.sort(key=lambda item: LATE.index(kind_of(item)) + 1 if kind_of(item) in LATE else 0)


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of the collections that look for leaks: they took two thirds of the unit tests."""
    gc.collect()
    gc.freeze()


# Brokers


def have(start: Callable[[], T]) -> T:
    """What `start` gives; where the lab cannot: a skip, in CI a failure."""
    try:
        return start()
    except LabError as error:
        if CI:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def broker() -> Broker:
    return have(lab.ensure)


@pytest.fixture(scope="session")
def chaos_of_session() -> Broker:
    return have(lab.chaos)


@pytest.fixture
def chaos(chaos_of_session: Broker) -> Iterator[Broker]:
    chaos_of_session.heal()
    yield chaos_of_session
    chaos_of_session.heal()


@pytest.fixture(scope="session")
def secure() -> Broker:
    return have(lab.secure)


@pytest.fixture(scope="session")
def oldest() -> Broker:
    return have(lab.oldest)


@pytest.fixture(scope="session")
def newest() -> Broker:
    return have(lab.newest)


@pytest.fixture(scope="session")
def cluster_of_session() -> Cluster:
    return have(lab.cluster)


@pytest.fixture
def cluster(cluster_of_session: Cluster) -> Iterator[Cluster]:
    cluster_of_session.heal()
    yield cluster_of_session
    cluster_of_session.heal()


@dataclass(frozen=True)
class Streams:
    """Names for streams that nothing else uses: `stream()` makes one, `stream({"max-age": "1h"})` creates it too.

    A test creates what it likes under such a name, or under one that begins with it (the partitions of a super stream);
    all of that is deleted afterwards.
    """

    management: Management
    prefix: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:12]}")
    names: list[str] = field(default_factory=list)

    def __call__(self, create: Mapping[str, str | int] | None = None) -> str:
        name = f"{self.prefix}-{len(self.names)}"
        self.names.append(name)
        if create is not None:
            self.management.create_stream(name, create)
        return name

    def delete(self) -> None:
        if self.names:
            self.management.delete_prefix(self.prefix)


@pytest.fixture
def stream(broker: Broker) -> Iterator[Streams]:
    streams = Streams(broker.management)
    yield streams
    streams.delete()


@pytest.fixture
def oldest_stream(oldest: Broker) -> Iterator[Streams]:
    streams = Streams(oldest.management)
    yield streams
    streams.delete()


@pytest.fixture
def newest_stream(newest: Broker) -> Iterator[Streams]:
    streams = Streams(newest.management)
    yield streams
    streams.delete()


@pytest.fixture
def chaos_stream(chaos: Broker) -> Iterator[Streams]:
    streams = Streams(chaos.management)
    yield streams
    chaos.heal()
    streams.delete()


@pytest.fixture
def secure_stream(secure: Broker) -> Iterator[Streams]:
    streams = Streams(secure.management)
    yield streams
    streams.delete()


@pytest.fixture
def cluster_stream(cluster: Cluster) -> Iterator[Streams]:
    streams = Streams(cluster.nodes[0].management)
    yield streams
    cluster.heal()
    streams.delete()


# Leaks


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """No thread, socket or actor outlives its test."""
    before = possessions()
    yield
    deadline = time.monotonic() + GRACE_S
    while left := possessions() - before:
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(sorted(left))}")
        time.sleep(0.01)


@pytest_asyncio.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """No task outlives its test, and no error ends in the loop's exception handler."""
    loop = asyncio.get_running_loop()
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
    before = asyncio.all_tasks()
    yield
    deadline = loop.time() + GRACE_S
    while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
        if loop.time() > deadline:
            pytest.fail(f"left behind: {left}")
        await asyncio.sleep(0.001)
    gc.collect()  # an exception that was never retrieved is reported when its task or future is collected
    assert not unhandled, f"unhandled on the loop: {unhandled}"


def possessions() -> set[str]:
    """This process's threads, actors and (where there is a /proc) sockets."""
    # The loop joins the threads of its default executor when it is closed, which is after this look.
    found = {
        f"thread {thread.ident} {thread.name}" for thread in threading.enumerate() if "asyncio_" not in thread.name
    }
    found |= {f"actor {ref}" for ref in pykka.ActorRegistry.get_all()}
    for descriptor in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed the folder
            target = str(descriptor.readlink())
            found |= {target} if target.startswith("socket:") else set()
    return found
