"""Streams, stored offsets and sequences: the requests of a client that any broker can answer."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from actorstream import offset as offset_module
from actorstream.actors import messages as m
from actorstream.actors.subscriber_state import EMPTY
from actorstream.errors import NoOffset, StreamAlreadyExists, StreamDoesNotExist, response_error
from actorstream.options import Endpoint, StreamArguments, check_name
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """What the broker says of a stream: ids of chunks, which are the offsets of their first messages; -1 when empty."""

    first_chunk_id: int
    committed_chunk_id: int


@dataclass(frozen=True, slots=True)
class StreamMetadata:
    """Where a stream lived when it was asked. `leader` is None while there is none."""

    stream: str
    leader: Endpoint | None
    replicas: tuple[Endpoint, ...]


class StreamAdministration(ABC):
    """What `Client` offers beside its handles. All of it may be cancelled: the request goes on, its answer is dropped.

    Raised by every method: `Closed` when the client is closed, `ConnectionLost` or `RequestTimeout` when no broker
    answered within `rpc_timeout_s`.
    """

    @abstractmethod
    async def _ask(self, message: object) -> Any:
        """The locator's answer."""

    async def create_stream(
        self,
        stream: str,
        arguments: StreamArguments | None = None,
        *,
        exist_ok: bool = False,
    ) -> None:
        """Create a stream (protocol section Create).

        Args:
            stream: its name, at most 255 bytes.
            arguments: limits and placement; see `StreamArguments`.
            exist_ok: a stream of that name with the same arguments is fine.

        Raises:
            StreamAlreadyExists: and `exist_ok` is False.
            PreconditionFailed: it exists with other arguments, or the name is reserved.
            AccessRefused: no permission.
            ConnectionLost, RequestTimeout: the answer never came; it may have been created.
        """
        check_name("a stream's name", stream)
        wire = (arguments or StreamArguments()).to_wire()
        with contextlib.suppress(*((StreamAlreadyExists,) if exist_ok else ())):
            await self._administer(c.Create(stream, wire), repeatable=exist_ok)

    async def delete_stream(self, stream: str, *, missing_ok: bool = False) -> None:
        """Delete a stream (protocol section Delete) with all its messages, its offsets and its sequences.

        Raises:
            StreamDoesNotExist: and `missing_ok` is False.
            AccessRefused: no permission.
            ConnectionLost, RequestTimeout: the answer never came; it may have been deleted.
        """
        check_name("a stream's name", stream)
        with contextlib.suppress(*((StreamDoesNotExist,) if missing_ok else ())):
            await self._administer(c.Delete(stream), repeatable=missing_ok)

    async def stream_exists(self, stream: str) -> bool:
        """Whether the stream exists, with or without a leader at this moment."""
        check_name("a stream's name", stream)
        states: dict[str, m.StreamState] = await self._ask(m.Metadata((stream,)))
        return states[stream].code != ResponseCode.STREAM_DOES_NOT_EXIST

    async def stream_metadata(self, stream: str) -> StreamMetadata:
        """Where the stream's leader and replicas are (protocol section Metadata).

        Raises:
            StreamDoesNotExist, AccessRefused: what the broker says of it.
        """
        check_name("a stream's name", stream)
        states = await self._ask(m.Metadata((stream,)))
        state: m.StreamState = states[stream]
        if state.code not in (ResponseCode.OK, ResponseCode.STREAM_NOT_AVAILABLE):
            raise response_error(state.code, f"stream {stream!r}")
        return StreamMetadata(stream, state.leader, state.replicas)

    async def stream_statistics(self, stream: str) -> StreamStatistics:
        """The chunk ids between which the stream lies (protocol section StreamStats).

        Raises:
            StreamDoesNotExist, StreamNotAvailable, AccessRefused: what the broker says of it.
            UnsupportedByBroker: before RabbitMQ 3.11.
        """
        check_name("a stream's name", stream)
        response = await self._administer(c.StreamStats(stream), repeatable=True)
        assert isinstance(response, c.StreamStatsResponse)
        return StreamStatistics(
            response.stats.get("first_chunk_id", EMPTY), response.stats.get("committed_chunk_id", EMPTY)
        )

    async def store_offset(self, reference: str, stream: str, value: int) -> None:
        """Hand an offset to the broker to keep under a name (protocol section StoreOffset).

        The broker does not answer: when this returns, the request was sent, and `query_offset` tells what is stored.
        """
        check_name("an offset's reference", reference)
        check_name("a stream's name", stream)
        offset_module.at(value)
        await self._ask(m.StoreOffset(reference, stream, value))

    async def query_offset(self, reference: str, stream: str) -> int | None:
        """The offset that is stored under a name (protocol section QueryOffset); None when there is none."""
        check_name("an offset's reference", reference)
        check_name("a stream's name", stream)
        try:
            response = await self._administer(c.QueryOffset(reference, stream), repeatable=True)
        except NoOffset:
            return None
        assert isinstance(response, c.QueryOffsetResponse)
        return response.offset

    async def publishing_sequence(self, reference: str, stream: str) -> int:
        """The highest publishing id stored under a producer's name (QueryPublisherSequence); 0 when there is none."""
        check_name("a producer's name", reference)
        check_name("a stream's name", stream)
        response = await self._administer(c.QueryPublisherSequence(reference, stream), repeatable=True)
        assert isinstance(response, c.QueryPublisherSequenceResponse)
        return response.sequence

    async def _administer(self, command: c.Request, *, repeatable: bool) -> c.Response:
        response = await self._ask(m.Administer(command, repeatable))
        assert isinstance(response, c.Response)
        return response
