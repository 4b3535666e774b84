"""TCP and TLS on loopback, and the contract that they and the in-memory twin have in common."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol

import pytest
import trustme

from actorstream.errors import ConnectFailed, ConnectionLost
from actorstream.transport import MemoryNetwork, MemoryTransport, Transport, open_tcp, tcp
from tests.conftest import possessions

DEADLINE_S: Final = 10.0
HOST: Final = "127.0.0.1"


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the loop will bring about."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - conditions of sockets have nothing that could be awaited
            await asyncio.sleep(0.001)


class Ear:
    """A listener that notes what it hears."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[Exception | None] = []
        self.order: list[str] = []

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.order.append("data")

    def connection_lost(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.order.append("end")


class Far(Ear, asyncio.Protocol):
    """The other end of a connection."""

    transport: Any
    greeting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self.greeting:
            self.transport.write(self.greeting)

    def send(self, data: bytes) -> None:
        self.transport.write([data] if isinstance(self.transport, MemoryTransport) else data)

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        handle: socket.socket = self.transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Tls:
    """A certificate authority of our own, and what it signs."""

    def __init__(self) -> None:
        self.authority = trustme.CA()

    def server(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        not_after = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names, not_after=not_after).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def tls() -> Tls:
    return Tls()


@contextlib.asynccontextmanager
async def server(
    host: str = HOST, port: int = 0, context: ssl.SSLContext | None = None, greeting: bytes = b""
) -> AsyncIterator[tuple[int, list[Far]]]:
    """A TCP server: its port, and the connections that it has accepted."""
    loop = asyncio.get_running_loop()
    before = possessions()
    accepted: list[Far] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(connection: socket.socket) -> None:
        far = Far()
        far.greeting = greeting
        accepted.append(far)
        with contextlib.suppress(OSError):  # a client that turns the certificate down, or goes away
            await loop.connect_accepted_socket(lambda: far, connection, ssl=context)

    def accept() -> None:
        connection, _ = listening.accept()
        connection.setblocking(False)
        tasks.add(asyncio.create_task(serve(connection)))

    # Not asyncio's server: one that is closed in the middle of accepting leaves a socket behind.
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setblocking(False)
        loop.add_reader(listening, accept)
        try:
            yield listening.getsockname()[1], accepted
        finally:
            loop.remove_reader(listening)
            await asyncio.gather(*tasks)
            for far in accepted:
                if hasattr(far, "transport"):
                    far.transport.abort()
    await until(lambda: not possessions() - before)


@contextlib.contextmanager
def silent(host: str = HOST, port: int = 0) -> Any:
    """A paused process: its kernel accepts connections, and nothing answers."""
    with socket.socket() as listening:
        listening.bind((host, port))
        listening.listen()
        yield listening


def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> list[str]:
    """Let every name resolve to these addresses, and note which names are asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def plain(port: int, ear: Ear, *, host: str = HOST, timeout_s: float = DEADLINE_S) -> Transport:
    return await open_tcp(host, port, ear, ssl=None, server_hostname=None, timeout_s=timeout_s)


# --- the contract ---


class Connect(Protocol):
    async def __call__(self) -> tuple[Transport, Ear, Far]: ...


@pytest.fixture(params=["tcp", "tls", "memory"])
async def connect(request: pytest.FixtureRequest, tls: Tls) -> AsyncIterator[Connect]:
    """Opens connections: our end, what we hear, the other end."""
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "memory":
            network = MemoryNetwork()
            accepted: list[Far] = []

            def accept(end: MemoryTransport) -> Far:
                far = Far()
                far.transport = end
                accepted.append(far)
                return far

            network.listen(HOST, 5552, accept)
            port, opener, context = 5552, network.open, None
        else:
            certificate = tls.server(HOST) if request.param == "tls" else None
            port, accepted = await stack.enter_async_context(server(context=certificate))
            opener, context = open_tcp, tls.client() if request.param == "tls" else None

        async def connect() -> tuple[Transport, Ear, Far]:
            ear = Ear()
            transport = await opener(HOST, port, ear, ssl=context, server_hostname=None, timeout_s=DEADLINE_S)
            stack.callback(transport.abort)
            await until(lambda: accepted and hasattr(accepted[-1], "transport"))
            return transport, ear, accepted[-1]

        yield connect


async def test_bytes_arrive_in_both_directions(connect: Connect) -> None:
    transport, ear, far = await connect()
    transport.write([b"he", b"ll", b"o"])
    far.send(b"welcome")
    await until(lambda: far.data == b"hello" and ear.data == b"welcome")
    assert transport.peer.startswith(HOST)
    assert not transport.is_closing
    assert not ear.ends


async def test_what_arrives_can_be_kept(connect: Connect) -> None:
    _, ear, far = await connect()
    far.send(b"first")
    await until(lambda: ear.data == b"first")
    far.send(b"other")
    await until(lambda: len(ear.data) == 10)
    assert ear.pieces[0] == b"first"
    assert all(type(piece) is bytes and piece for piece in ear.pieces)


async def test_much_arrives_whole(connect: Connect) -> None:
    transport, ear, far = await connect()
    much = bytes(range(256)) * 32768
    transport.write([much])
    far.send(much)
    await until(lambda: len(far.data) == len(ear.data) == len(much))
    assert far.data == ear.data == much


async def test_f13_eof_with_final_bytes_delivers_them_first(connect: Connect) -> None:
    _, ear, far = await connect()
    far.send(b"final")
    far.transport.close()
    await until(lambda: ear.ends)
    assert ear.data == b"final"
    assert ear.ends == [None]
    assert ear.order[-1] == "end"


async def test_f25_a_write_after_the_end_raises(connect: Connect) -> None:
    transport, ear, far = await connect()
    far.transport.close()
    await until(lambda: ear.ends)
    assert transport.is_closing
    with pytest.raises(ConnectionLost):
        transport.write([b"lost"])


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_f25_a_write_after_close_or_abort_raises(connect: Connect, end: str) -> None:
    transport, _, _ = await connect()
    getattr(transport, end)()
    assert transport.is_closing
    with pytest.raises(ConnectionLost):
        transport.write([b"lost"])
    with pytest.raises(ConnectionLost):
        transport.write([])


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_f11_nothing_is_heard_after_close_or_abort(connect: Connect, end: str) -> None:
    transport, ear, far = await connect()
    far.send(b"too late")
    getattr(transport, end)()
    await until(lambda: far.ends)
    assert not ear.order


async def test_f11_nothing_is_heard_after_abort_from_within_a_callback(connect: Connect) -> None:
    transport, ear, far = await connect()

    def abort(data: bytes) -> None:
        ear.order.append("data")
        transport.abort()

    ear.data_received = abort  # type: ignore[method-assign]
    far.send(b"one")
    await until(lambda: far.ends)
    assert ear.order == ["data"]


async def test_close_hands_over_what_is_buffered(connect: Connect) -> None:
    transport, _, far = await connect()
    much = b"x" * 4_000_000
    transport.write([much])
    transport.close()
    transport.close()
    await until(lambda: far.ends)
    assert len(far.data) == len(much)


async def test_ending_twice_is_no_error(connect: Connect) -> None:
    transport, ear, far = await connect()
    transport.close()
    transport.abort()
    transport.close()
    transport.abort()
    await until(lambda: far.ends)
    assert not ear.order


async def test_nothing_waits_when_nothing_is_written(connect: Connect) -> None:
    transport, _, far = await connect()
    assert transport.buffered() == 0
    transport.write([b"something"])
    await until(lambda: far.data)
    assert transport.buffered() == 0
    transport.abort()
    assert transport.buffered() == 0


# --- sockets ---


async def test_small_writes_are_not_delayed_by_nagle() -> None:
    async with server() as (port, _):
        transport = await plain(port, Ear())
        handle: socket.socket = transport._raw.get_extra_info("socket")  # type: ignore[attr-defined]
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.abort()


async def test_a_reset_ends_with_its_error() -> None:
    async with server() as (port, accepted):
        ear = Ear()
        await plain(port, ear)
        await until(lambda: accepted)
        accepted[0].reset()
        await until(lambda: ear.ends)
        assert isinstance(ear.ends[0], ConnectionResetError)


async def test_f25_a_write_raises_also_before_the_loop_has_told_of_the_end() -> None:
    async with server() as (port, _):
        ear = Ear()
        transport = await plain(port, ear)
        transport._raw.abort()  # type: ignore[attr-defined]
        assert not ear.ends
        assert transport.is_closing
        with pytest.raises(ConnectionLost):
            transport.write([b"lost"])
        await until(lambda: ear.ends)


@pytest.mark.parametrize("secure", [False, True])
async def test_what_the_peer_does_not_read_is_counted(secure: bool, tls: Tls) -> None:
    async with server(context=tls.server(HOST) if secure else None) as (port, accepted):
        context = tls.client() if secure else None
        transport = await open_tcp(HOST, port, Ear(), ssl=context, server_hostname=None, timeout_s=DEADLINE_S)
        await until(lambda: accepted and hasattr(accepted[0], "transport"))
        far = accepted[0].transport
        far.pause_reading()
        transport.write([b"x" * 32_000_000])
        assert transport.buffered() > 10_000_000
        far.resume_reading()
        await until(lambda: transport.buffered() == 0)
        transport.abort()


@pytest.mark.parametrize("secure", [False, True])
async def test_f77_close_does_not_wait_for_a_peer_that_does_not_read(
    secure: bool, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "FLUSH_S", 0.02)
    async with server(context=tls.server(HOST) if secure else None) as (port, accepted):
        context = tls.client() if secure else None
        transport = await open_tcp(HOST, port, Ear(), ssl=context, server_hostname=None, timeout_s=DEADLINE_S)
        await until(lambda: accepted and hasattr(accepted[0], "transport"))
        far = accepted[0].transport
        far.pause_reading()
        handle: socket.socket = transport._raw.get_extra_info("socket")  # type: ignore[attr-defined]
        transport.write([b"x" * 32_000_000])
        transport.close()
        await until(lambda: handle.fileno() == -1)


async def test_a_peer_that_speaks_first_is_heard(tls: Tls) -> None:
    for context in (None, tls.client()):
        async with server(context=tls.server(HOST) if context else None, greeting=b"hello") as (port, _):
            ear = Ear()
            transport = await open_tcp(HOST, port, ear, ssl=context, server_hostname=None, timeout_s=DEADLINE_S)
            assert not ear.order, "not before the opener has returned"
            await until(lambda ear=ear: ear.data == b"hello")  # type: ignore[misc]
            transport.abort()


async def test_a_failing_listener_ends_the_connection() -> None:
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    async with server() as (port, accepted):
        ear = Ear()

        def fail(data: bytes) -> None:
            raise LookupError("a bug")

        ear.data_received = fail  # type: ignore[method-assign]
        await plain(port, ear)
        await until(lambda: accepted)
        accepted[0].send(b"anything")
        await until(lambda: ear.ends)
        assert isinstance(ear.ends[0], LookupError)
        assert len(reported) == 1
    loop.set_exception_handler(before)


# --- opening ---


async def test_an_ip_address_needs_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving_to(monkeypatch)
    async with server() as (port, _):
        (await plain(port, Ear())).abort()
    assert not asked


async def test_f14_a_name_is_resolved_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server() as (port, _):
        asked = resolving_to(monkeypatch, (HOST, port))
        (await plain(port, Ear(), host="broker")).abort()
        (await plain(port, Ear(), host="broker")).abort()
    assert asked == ["broker", "broker"]


async def test_f14_an_unknown_name_fails_at_the_step_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectFailed, match="broker:5552: resolve: Name or service not known") as failed:
        await plain(5552, Ear(), host="broker")
    assert failed.value.step == "resolve"
    assert failed.value.retryable


async def test_f06_a_resolver_that_does_not_answer_fails_at_the_step_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectFailed, match="resolve: no answer within") as failed:
        await plain(5552, Ear(), host="broker", timeout_s=0.02)
    assert failed.value.step == "resolve"


async def test_a_name_that_cannot_exist_fails_at_the_step_resolve() -> None:
    with pytest.raises(ConnectFailed) as failed:
        await plain(5552, Ear(), host="x" * 100)
    assert failed.value.step == "resolve"


async def test_a_refused_connection_fails_at_the_step_connect() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        port = unused.getsockname()[1]
        with pytest.raises(ConnectFailed, match="connect: Connection refused") as failed:
            await plain(port, Ear())
    assert failed.value.step == "connect"
    assert failed.value.address == f"{HOST}:{port}"


async def test_a_port_that_cannot_exist_is_an_ordinary_failure() -> None:
    with pytest.raises(ConnectFailed):
        await plain(70_000, Ear())


async def test_f14_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server() as (port, _):
        resolving_to(monkeypatch, ("127.0.0.2", port), ("127.0.0.3", port), (HOST, port))
        transport = await plain(port, Ear(), host="broker")
        assert transport.peer == f"{HOST}:{port}"
        transport.abort()


async def test_f14_ipv6_is_tried_as_well() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        async with server("::1") as (port, _):
            transport = await plain(port, Ear(), host="::1")
            assert transport.peer == f"[::1]:{port}"
            transport.abort()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


async def test_an_error_tells_of_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        port = unused.getsockname()[1]
        resolving_to(monkeypatch, ("127.0.0.2", port), (HOST, port))
        with pytest.raises(ConnectFailed) as failed:
            await plain(port, Ear(), host="broker")
    assert f"127.0.0.2:{port}: Connection refused; {HOST}:{port}: Connection refused" in str(failed.value)


async def test_f14_a_dead_address_leaves_time_for_the_others(monkeypatch: pytest.MonkeyPatch, tls: Tls) -> None:
    async with server(context=tls.server("broker")) as (port, _):
        with silent("127.0.0.2", port):
            resolving_to(monkeypatch, ("127.0.0.2", port), (HOST, port))
            transport = await open_tcp("broker", port, Ear(), ssl=tls.client(), server_hostname=None, timeout_s=1.0)
            assert transport.peer == f"{HOST}:{port}"
            transport.abort()


async def test_f06_the_deadline_holds_while_connecting() -> None:
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            # Once its queue is full, the kernel drops further attempts as a firewall would.
            for _ in range(2):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            began = time.monotonic()
            with pytest.raises(ConnectFailed, match=r"connect: no answer within 0\.05 s"):
                await plain(full.getsockname()[1], Ear(), timeout_s=0.05)
            assert time.monotonic() - began < DEADLINE_S / 2


async def test_f06_the_deadline_holds_while_shaking_hands(tls: Tls) -> None:
    with silent() as listening, pytest.raises(ConnectFailed, match="tls: no answer within") as failed:
        await open_tcp(HOST, listening.getsockname()[1], Ear(), ssl=tls.client(), server_hostname=None, timeout_s=0.05)
    assert failed.value.step == "tls"


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("secure", [False, True])
async def test_cancelled_at_any_moment_it_leaves_no_socket_behind(turns: int, secure: bool, tls: Tls) -> None:
    async with server(context=tls.server(HOST) if secure else None) as (port, _):
        context = tls.client() if secure else None
        ear = Ear()
        opening = asyncio.create_task(
            open_tcp(HOST, port, ear, ssl=context, server_hostname=None, timeout_s=DEADLINE_S)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await opening).abort()
        assert opening.done()
    gc.collect()  # an unclosed transport warns when it is collected, and warnings are errors
    assert not ear.order


async def test_cancelled_in_a_handshake_that_hangs_it_leaves_no_socket_behind(tls: Tls) -> None:
    with silent() as listening:
        opening = asyncio.create_task(
            open_tcp(
                HOST, listening.getsockname()[1], Ear(), ssl=tls.client(), server_hostname=None, timeout_s=DEADLINE_S
            )
        )
        listening.setblocking(False)
        accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
        with accepted:
            assert await asyncio.get_running_loop().sock_recv(accepted, 1), "a ClientHello"
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
    gc.collect()


# --- TLS ---


async def secure_failure(tls: Tls, context: ssl.SSLContext | None, **options: Any) -> ConnectFailed:
    async with server(context=context) as (port, _):
        with pytest.raises(ConnectFailed) as failed:
            await open_tcp(
                HOST, port, Ear(), **{"ssl": tls.client(), "server_hostname": None, "timeout_s": DEADLINE_S} | options
            )
    assert failed.value.step == "tls"
    return failed.value


async def test_the_name_expected_can_differ_from_the_host(tls: Tls) -> None:
    async with server(context=tls.server("broker.example")) as (port, _):
        transport = await open_tcp(
            HOST, port, Ear(), ssl=tls.client(), server_hostname="broker.example", timeout_s=DEADLINE_S
        )
        transport.abort()


async def test_f19_a_certificate_for_another_name_is_not_accepted(tls: Tls) -> None:
    error = await secure_failure(tls, tls.server("elsewhere.example"), server_hostname="broker.example")
    assert "the certificate is not accepted: Hostname mismatch" in str(error)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


async def test_f19_without_a_name_expected_it_is_the_hosts(tls: Tls) -> None:
    error = await secure_failure(tls, tls.server("elsewhere.example"))
    assert "the certificate is not accepted: IP address mismatch" in str(error)


async def test_f19_an_expired_certificate_is_not_accepted(tls: Tls) -> None:
    error = await secure_failure(tls, tls.server(HOST, expired=True))
    assert "the certificate is not accepted: certificate has expired" in str(error)


async def test_f19_an_unknown_authority_is_not_accepted(tls: Tls) -> None:
    error = await secure_failure(tls, Tls().server(HOST))
    assert "the certificate is not accepted: unable to get local issuer certificate" in str(error)


async def test_f19_a_peer_without_tls_is_never_talked_to_in_the_clear(tls: Tls) -> None:
    async with server(greeting=b"welcome, in the clear") as (port, accepted):
        with pytest.raises(ConnectFailed) as failed:
            await open_tcp(HOST, port, Ear(), ssl=tls.client(), server_hostname=None, timeout_s=DEADLINE_S)
        assert failed.value.step == "tls"
        assert accepted[0].data[:1] in (b"", b"\x16"), "nothing but a ClientHello"


async def test_a_peer_that_hangs_up_in_the_handshake_fails_at_the_step_tls(tls: Tls) -> None:
    with silent() as listening:
        listening.setblocking(False)
        opening = asyncio.create_task(
            open_tcp(
                HOST, listening.getsockname()[1], Ear(), ssl=tls.client(), server_hostname=None, timeout_s=DEADLINE_S
            )
        )
        loop = asyncio.get_running_loop()
        accepted, _ = await loop.sock_accept(listening)
        with accepted:
            await loop.sock_recv(accepted, 65536)
        with pytest.raises(ConnectFailed) as failed:
            await opening
    assert failed.value.step == "tls"


# --- another loop ---


def test_the_same_on_uvloop(tls: Tls) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def tour(context: ssl.SSLContext | None) -> None:
        certificate = tls.server(HOST) if context else None
        async with server(context=certificate, greeting=b"hello") as (port, accepted):
            ear = Ear()
            transport = await open_tcp(HOST, port, ear, ssl=context, server_hostname=None, timeout_s=DEADLINE_S)
            much = b"x" * 4_000_000
            transport.write([much[:5], much[5:]])
            await until(lambda: ear.data == b"hello" and len(accepted[0].data) == len(much))
            accepted[0].send(b"final")
            accepted[0].transport.close()
            await until(lambda: ear.ends)
            assert ear.data == b"hellofinal"
            assert ear.ends == [None]
            with pytest.raises(ConnectionLost):
                transport.write([b"lost"])

            again = await open_tcp(HOST, port, Ear(), ssl=context, server_hostname=None, timeout_s=DEADLINE_S)
            again.write([much])
            again.close()
            await until(lambda: len(accepted) == 2 and accepted[1].ends)
            assert len(accepted[1].data) == len(much)

    def run(main: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())  # type: ignore[arg-type]

    run(lambda: tour(None))
    run(lambda: tour(tls.client()))
    gc.collect()
