"""Connections in memory break as a test says, and the same way each time. What they share with TCP: test_transport."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from typing import Final

import pytest

from actorstream.errors import ConnectFailed, ConnectionLost
from actorstream.transport import MemoryLink, MemoryNetwork, MemoryTransport, Transport

HOST: Final = "node"
PORT: Final = 5552


class Ear:
    """A listener that notes what it hears."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.ends.append(error)


async def turns(count: int = 100) -> None:
    """Let the loop turn: memory needs no time, only turns."""
    for _ in range(count):
        await asyncio.sleep(0)


class Room:
    """A network with one place, and the ends of the connections to it."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.servers: list[MemoryTransport] = []
        self.server_ears: list[Ear] = []
        self.network.listen(HOST, PORT, self.accept)

    def accept(self, end: MemoryTransport) -> Ear:
        self.servers.append(end)
        self.server_ears.append(Ear())
        return self.server_ears[-1]

    async def open(self, *, timeout_s: float = 10.0) -> tuple[Transport, Ear]:
        ear = Ear()
        transport = await self.network.open(HOST, PORT, ear, ssl=None, server_hostname=None, timeout_s=timeout_s)
        return transport, ear

    @property
    def link(self) -> MemoryLink:
        return self.network.links(HOST, PORT)[-1]


@pytest.fixture
def room() -> Room:
    return Room()


async def test_what_is_written_together_arrives_together(room: Room) -> None:
    _, ear = await room.open()
    room.servers[0].write([b"a", b"b"])
    room.servers[0].write([b"c"])
    await turns()
    assert ear.pieces == [b"abc"]


async def test_nothing_is_heard_before_the_opener_has_returned(room: Room) -> None:
    def accept(end: MemoryTransport) -> Ear:
        room.accept(end)
        asyncio.get_running_loop().call_soon(end.write, [b"hello"])
        return room.server_ears[-1]

    room.network.listen(HOST, PORT, accept)
    _, ear = await room.open()
    assert not ear.pieces
    await turns()
    assert ear.pieces == [b"hello"]


async def test_where_nobody_listens_the_connection_is_refused(room: Room) -> None:
    room.network.refuse(HOST, PORT)
    with pytest.raises(ConnectFailed, match="connect: Connection refused"):
        await room.open()
    room.network.listen(HOST, PORT, room.accept)
    await room.open()


async def test_refusing_keeps_what_is_connected(room: Room) -> None:
    transport, _ = await room.open()
    room.network.refuse(HOST, PORT)
    transport.write([b"still here"])
    await turns()
    assert room.server_ears[0].pieces == [b"still here"]


@pytest.mark.parametrize("step", ["resolve", "connect", "tls"])
async def test_a_failure_can_be_asked_for_at_each_step(room: Room, step: str) -> None:
    room.network.fail(HOST, PORT, step=step, cause="as planned", times=2)
    for _ in range(2):
        with pytest.raises(ConnectFailed, match="as planned") as failed:
            await room.open()
        assert failed.value.step == step
        assert failed.value.address == f"{HOST}:{PORT}"
    await room.open()


async def test_attempts_show_whether_tls_was_asked_for(room: Room) -> None:
    context = ssl.create_default_context()
    await room.network.open(HOST, PORT, Ear(), ssl=context, server_hostname="broker", timeout_s=1.0)
    [attempt] = room.network.attempts
    assert (attempt.host, attempt.port, attempt.ssl, attempt.server_hostname) == (HOST, PORT, context, "broker")


async def test_f06_a_frozen_process_accepts_and_says_nothing_until_it_thaws(room: Room) -> None:
    old, _ = await room.open()
    room.network.freeze(HOST, PORT)
    new, ear = await room.open()
    old.write([b"old"])
    new.write([b"new"])
    room.servers[1].write([b"answer"])
    room.servers[1].close()
    await turns()
    assert [one.pieces for one in room.server_ears] == [[], []]
    assert not ear.pieces
    assert not ear.ends
    assert old.buffered() == 3
    room.network.thaw(HOST, PORT)
    await turns()
    assert [one.pieces for one in room.server_ears] == [[b"old"], []], "the second had closed its end"
    assert ear.pieces == [b"answer"]
    assert ear.ends == [None]


async def test_f05_a_place_that_is_cut_off_falls_silent_and_cannot_be_connected_to(room: Room) -> None:
    transport, ear = await room.open()
    room.network.cut_off(HOST, PORT)
    transport.write([b"into the void"])
    room.servers[0].abort()
    await turns()
    assert not ear.ends
    with pytest.raises(ConnectFailed, match=r"connect: no answer within 0\.01 s"):
        await room.open(timeout_s=0.01)
    opening = asyncio.create_task(room.open())
    await turns()
    assert not opening.done()
    room.network.restore(HOST, PORT)
    await opening
    await turns()
    assert ear.ends == [None]


async def test_thawing_does_not_end_a_partition(room: Room) -> None:
    transport, _ = await room.open()
    room.network.cut_off(HOST, PORT)
    room.network.freeze(HOST, PORT)
    room.network.thaw(HOST, PORT)
    transport.write([b"x"])
    await turns()
    assert not room.server_ears[0].pieces
    room.network.restore(HOST, PORT)
    await turns()
    assert room.server_ears[0].pieces == [b"x"]


async def test_a_link_can_be_dropped(room: Room) -> None:
    transport, ear = await room.open()
    room.servers[0].write([b"lost on the way"])
    room.link.drop()
    await turns()
    assert (ear.pieces, ear.ends) == ([], [None])
    assert room.server_ears[0].ends == [None]
    assert transport.is_closing
    assert not room.network.links(HOST, PORT)


async def test_a_link_can_be_reset(room: Room) -> None:
    _, ear = await room.open()
    room.link.reset()
    await turns()
    assert isinstance(ear.ends[0], ConnectionResetError)
    assert isinstance(room.server_ears[0].ends[0], ConnectionResetError)


@pytest.mark.parametrize("error", [None, OSError("cable")])
@pytest.mark.parametrize("size", [0, 1, 5])
async def test_a_link_can_end_after_so_many_bytes(room: Room, size: int, error: OSError | None) -> None:
    _, ear = await room.open()
    room.link.cut_after(size, error=error)
    room.servers[0].write([b"0123456789"])
    await turns()
    assert b"".join(ear.pieces) == b"0123456789"[:size]
    assert ear.ends == [error]


async def test_bytes_can_be_split_as_the_test_likes(room: Room) -> None:
    _, ear = await room.open()
    room.link.split(1, 3)
    room.servers[0].write([b"0123456789"])
    room.servers[0].close()
    await turns()
    assert ear.pieces == [b"0", b"123", b"4", b"567", b"8", b"9"]
    assert ear.ends == [None]


async def test_two_runs_are_the_same(room: Room) -> None:
    async def run() -> list[tuple[str, bytes]]:
        heard: list[tuple[str, bytes]] = []
        pairs = [await room.open() for _ in range(3)]
        for number, (transport, ear) in enumerate(pairs):

            def note(data: bytes, number: int = number) -> None:
                heard.append((f"client {number}", data))

            ear.data_received = note  # type: ignore[method-assign]
            room.network.links(HOST, PORT)[-3 + number].split(number + 1)
            room.servers[-3 + number].write([b"answer"])
            transport.write([b"question"])
        await turns()
        return heard

    assert await run() == await run()


async def test_a_write_after_an_abort_of_the_other_end_is_lost_until_the_end_is_heard(room: Room) -> None:
    transport, ear = await room.open()
    room.servers[0].abort()
    transport.write([b"too early to know"])
    await turns()
    assert ear.ends == [None]
    with pytest.raises(ConnectionLost):
        transport.write([b"x"])


async def test_a_server_may_write_from_another_thread(room: Room) -> None:
    _, ear = await room.open()
    heard = asyncio.Event()
    receive: Callable[[bytes], None] = ear.data_received

    def note(data: bytes) -> None:
        receive(data)
        heard.set()

    ear.data_received = note  # type: ignore[method-assign]
    thread = threading.Thread(target=room.servers[0].write, args=([b"from afar"],))
    thread.start()
    await asyncio.wait_for(heard.wait(), 10.0)
    thread.join()
    assert ear.pieces == [b"from afar"]
