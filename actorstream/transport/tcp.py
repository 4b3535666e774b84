"""TCP sockets, with or without TLS, on the asyncio loop that runs (uvloop as well)."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl as ssl_module
from collections.abc import Sequence
from typing import Any

from actorstream.errors import ConnectFailed, ConnectionLost
from actorstream.transport.base import Listener, Transport, format_address

FLUSH_S = 1.0
"""How long `close` may take to hand over what is buffered, and to say good-bye in TLS (F77)."""

FIRST_READ = 16 * 1024
LARGEST_READ = 256 * 1024
"""Bytes that are read at a time, at first, and once so many are there again and again."""

_STEPS = ("connect", "tls")

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING")
_UNKNOWN_AUTHORITY_CODES = (18, 19, 20, 21)  # of OpenSSL: self-signed, or signed by somebody who is not known
_UNKNOWN_AUTHORITY = " (give its authority: tls_ca, or load_verify_locations() of the TLS context)"

_AddressInfo = tuple[int, int, int, str, Any]


async def open_tcp(
    host: str,
    port: int,
    listener: Listener,
    *,
    ssl: ssl_module.SSLContext | None,
    server_hostname: str | None,
    timeout_s: float,
) -> Transport:
    """Open a connection; with an SSL context it is TLS or nothing.

    The name is resolved each time, and its addresses, IPv4 and IPv6, are tried one after the other. Each may use its
    even share of the time that is left, so that a dead one leaves time for the others (F14).

    Cancellation-safe: no socket stays behind.

    Args:
        host: a name or an IP address.
        port: TCP port.
        listener: whom to tell what arrives.
        ssl: how to verify the broker and to authenticate; None for a plain connection.
        server_hostname: the name that the broker's certificate has to bear; None for `host`.
        timeout_s: seconds for all of it: resolving, connecting, and the handshake of TLS.

    Raises:
        ConnectFailed: not one of the addresses worked. Its `step` is the furthest that any of them came to.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    address = format_address(host, port)
    attempts = [_Attempt(info) for info in await _resolve(host, port, timeout_s)]
    for position, attempt in enumerate(attempts):
        share_s = max(0.0, deadline - loop.time()) / (len(attempts) - position)
        transport = await attempt.run(listener, ssl, server_hostname or host, share_s)
        if transport is not None:
            return transport
    furthest = max(attempts, key=lambda attempt: _STEPS.index(attempt.step))
    causes = [f"{one.peer}: {one.cause}" for one in attempts] if len(attempts) > 1 else [furthest.cause]
    raise ConnectFailed(address, furthest.step, "; ".join(causes)) from furthest.error


async def _resolve(host: str, port: int, timeout_s: float) -> list[_AddressInfo]:
    """Every address of a name, in the resolver's order."""
    infos: Sequence[_AddressInfo]
    try:
        try:
            # An IP address needs neither DNS nor the thread in which the loop would ask it.
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            async with asyncio.timeout(timeout_s):
                infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise ConnectFailed(format_address(host, port), "resolve", _no_answer(timeout_s)) from error
    except (OSError, ValueError, OverflowError) as error:  # ValueError: a name that IDNA cannot encode
        raise ConnectFailed(format_address(host, port), "resolve", explain(error)) from error
    return list(dict.fromkeys(infos))


class _Attempt:
    """One address. `step` says how far it came; `cause` and `error` say why it came no further."""

    __slots__ = ("_info", "cause", "error", "peer", "step")

    def __init__(self, info: _AddressInfo) -> None:
        self._info = info
        self.peer = format_address(*info[4][:2])
        self.step = "connect"
        self.cause = ""
        self.error: Exception | None = None

    async def run(
        self, listener: Listener, ssl: ssl_module.SSLContext | None, server_hostname: str, timeout_s: float
    ) -> _TcpTransport | None:
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await self._open(listener, ssl, server_hostname)
        # A port from a broker's metadata has 32 bits: the socket module refuses more than 16 with OverflowError.
        # ValueError: a server_hostname that cannot stand in a certificate.
        except (OSError, ValueError, OverflowError) as error:
            self.cause = _no_answer(timeout_s) if limit.expired() else explain(error)
            if self.step == "tls" and isinstance(error, ConnectionError):
                self.cause = "the peer closed the connection instead of answering in TLS: is this its port for TLS?"
            self.error = error
        return None

    async def _open(self, listener: Listener, ssl: ssl_module.SSLContext | None, server_hostname: str) -> _TcpTransport:
        loop = asyncio.get_running_loop()
        connected = await self._connect()
        # From here on the socket is asyncio's, which closes it if this is cancelled.
        raw, transport = await loop.create_connection(lambda: _TcpTransport(self.peer), sock=connected)
        top: asyncio.Transport | None = raw
        try:
            if ssl is not None:
                self.step = "tls"
                # Apart from the connection, so that the plain transport below stays known: only that one knows how
                # much the kernel has yet to take, and only that one closes without the good-bye of TLS.
                top = await loop.start_tls(raw, transport, ssl, server_hostname=server_hostname)
            transport.begin(raw, top, listener)
        except BaseException:
            raw.abort()
            raise
        return transport

    async def _connect(self) -> socket.socket:
        family, kind, protocol, _, where = self._info
        connecting = socket.socket(family, kind, protocol)
        try:
            connecting.setblocking(False)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(connecting, where)
        except BaseException:
            connecting.close()
            raise
        return connecting


class _TcpTransport(asyncio.BufferedProtocol):
    """A transport towards our side, and a protocol towards asyncio's.

    It has a buffer that is read into, as large as what arrives at a time, and passes on copies. A plain `Protocol` gets
    bytes objects of its own, each cut down from 256 KiB: for the few bytes of a confirm, these are three system calls
    and a page fault more.
    """

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._listener: Listener | None = None
        self._raw: asyncio.Transport | None = None
        self._top: asyncio.Transport | None = None  # the same, or TLS above it
        self._held: list[bytes] | None = []  # what arrives before the opener has returned
        self._lost = False
        self._flush_limit: asyncio.TimerHandle | None = None
        self._buffer = memoryview(bytearray(FIRST_READ))

    # --- towards asyncio ---

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio does not know more than we do
        """Where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass them on."""
        data = bytes(self._buffer[:nbytes])
        if nbytes == len(self._buffer) < LARGEST_READ:
            self._buffer = memoryview(bytearray(2 * nbytes))
        self._pass_on(data)

    def eof_received(self) -> None:
        """End at once: asyncio would first want to flush what it has buffered, to a peer that may not read it."""
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so, unless the owner knows."""
        self._raw = None  # closed already: to abort it from here would close it twice
        self._lose(exc)

    # --- towards the owner ---

    def begin(self, raw: asyncio.Transport, top: asyncio.Transport | None, listener: Listener) -> None:
        """Let the listener hear, from the loop's next turn on."""
        if self._lost or top is None:
            raise ConnectionResetError("the peer closed the connection")
        self._raw = raw
        self._top = top
        self._listener = listener
        asyncio.get_running_loop().call_soon(self._deliver_held)

    @property
    def peer(self) -> str:
        """The address at the other end."""
        return self._peer

    @property
    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._listener is None or self._top is None or self._top.is_closing()

    def write(self, chunks: Sequence[bytes]) -> None:
        """Send these bytes. asyncio would drop them silently after an error, hence the check (F25)."""
        if self._top is None or self.is_closing:
            raise ConnectionLost(f"the connection to {self._peer} is closed")
        self._top.writelines(chunks)

    def buffered(self) -> int:
        """Bytes that wait for the socket, and in TLS for encryption."""
        if self._raw is None or self._top is None:
            return 0
        size = self._raw.get_write_buffer_size()
        return size if self._top is self._raw else size + self._top.get_write_buffer_size()

    def close(self) -> None:
        """Flush for a bounded time, then close."""
        if self._listener is None or self._top is None:
            return
        self._listener = None
        self._flush_limit = asyncio.get_running_loop().call_later(FLUSH_S, self.abort)
        self._top.close()

    def abort(self) -> None:
        """Close now."""
        self._listener = None
        self._release()

    # --- inside ---

    def _pass_on(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif self._listener is not None:
            self._listener.data_received(data)

    def _deliver_held(self) -> None:
        held, self._held = self._held or [], None
        for data in held:
            self._pass_on(data)

    def _lose(self, error: Exception | None) -> None:
        self._lost = True
        if self._listener is not None:
            self._deliver_held()
        listener, self._listener = self._listener, None
        self._release()
        if listener is not None:
            listener.connection_lost(error)

    def _release(self) -> None:
        raw, self._raw, self._top = self._raw, None, None
        if self._flush_limit is not None:
            self._flush_limit.cancel()
            self._flush_limit = None
        if raw is not None:
            raw.abort()


def _no_answer(timeout_s: float) -> str:
    return f"no answer within {round(timeout_s, 2):g} s"


def explain(error: Exception) -> str:
    """The reason without numbers and source lines, which help nobody who reads a log."""
    if isinstance(error, ssl_module.SSLCertVerificationError):
        advice = _UNKNOWN_AUTHORITY if error.verify_code in _UNKNOWN_AUTHORITY_CODES else ""
        return f"the certificate is not accepted: {error.verify_message}{advice}"
    if isinstance(error, ssl_module.SSLError) and error.reason:
        words = error.reason.replace("_", " ").lower()
        before, alert, what = words.partition("alert ")
        if alert and before:
            # Said by the peer. In TLS 1.3 it comes after the handshake: a server looks at certificates last.
            of_ours = "certificate" in what or what == "unknown ca"
            return f"the peer does not accept {'our certificate' if of_ours else 'our TLS'}: {what}"
        return f"{words}: is TLS spoken at this port?" if error.reason in _NO_TLS else words
    if isinstance(error, OSError) and not isinstance(error, (socket.gaierror, ssl_module.SSLError)) and error.errno:
        return os.strerror(error.errno)  # asyncio puts its own words in the place of "Connection refused"
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__
