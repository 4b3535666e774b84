"""Super streams: the requests of a client that make, delete and describe them.

A super stream is an exchange that streams, its partitions, are bound to, each with a binding key and a place in their
order. The broker knows it under one name; what is published and consumed are the partitions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from actorstream.administration import StreamAdministration
from actorstream.errors import InvalidArgument, PreconditionFailed, StreamAlreadyExists, StreamDoesNotExist
from actorstream.options import StreamArguments, check_name
from actorstream.options.checks import count, require
from actorstream.wire import commands as c

DEFAULT_PARTITIONS = 3
MAX_PARTITIONS = 1000
"""As many as the newest brokers allow; older ones would take more, in a super stream that could not be made again."""


class SuperStreamAdministration(StreamAdministration):
    """What `Client` offers beside its handles, super streams included; see `StreamAdministration`."""

    async def create_super_stream(
        self,
        name: str,
        *,
        partitions: int | None = None,
        binding_keys: Sequence[str] | None = None,
        arguments: StreamArguments | None = None,
        exist_ok: bool = False,
    ) -> None:
        """Create a super stream with its partitions (protocol section CreateSuperStream).

        The broker makes all of it or nothing.

        Args:
            name: its name; those of the partitions, which begin with it, have at most 255 bytes.
            partitions: so many partitions, `<name>-0`, `<name>-1`, …, with the binding keys "0", "1", …; 3 by default.
            binding_keys: instead, a partition `<name>-<key>` for each of these, for routing by key.
            arguments: limits and placement of each partition; see `StreamArguments`.
            exist_ok: a super stream of that name with the same partitions is fine, whatever their arguments.

        Raises:
            InvalidArgument: a name, number or key that is none; or both `partitions` and `binding_keys`.
            StreamAlreadyExists: and `exist_ok` is False. An exchange, a stream or a queue of such a name will do.
            PreconditionFailed: it exists with other partitions, or the name is reserved.
            AccessRefused: no permission.
            UnsupportedByBroker: before RabbitMQ 3.13.
            ConnectionLost, RequestTimeout: the answer never came; it may have been created.
        """
        keys = _binding_keys(partitions, binding_keys)
        check_name("a super stream's name", name)
        streams = tuple(check_name("a partition's name", f"{name}-{key}") for key in keys)
        wire = (arguments or StreamArguments()).to_wire()
        try:
            await self._administer(c.CreateSuperStream(name, streams, keys, wire), repeatable=exist_ok)
        except StreamAlreadyExists:
            if not exist_ok:
                raise
            there = await self._partitions_or_none(name)
            if there != streams:
                raise PreconditionFailed(
                    f"super stream {name!r} was to have the partitions {', '.join(streams)}, and "
                    + (f"has {', '.join(there)}" if there else "one of these names is taken by something else")
                ) from None

    async def delete_super_stream(self, name: str, *, missing_ok: bool = False) -> None:
        """Delete a super stream and all its partitions with their messages (protocol section DeleteSuperStream).

        Raises:
            StreamDoesNotExist: and `missing_ok` is False.
            AccessRefused: no permission.
            UnsupportedByBroker: before RabbitMQ 3.13.
            ConnectionLost, RequestTimeout: the answer never came; it may have been deleted.
        """
        check_name("a super stream's name", name)
        with contextlib.suppress(*((StreamDoesNotExist,) if missing_ok else ())):
            await self._administer(c.DeleteSuperStream(name), repeatable=missing_ok)

    async def super_stream_exists(self, name: str) -> bool:
        """Whether there is a super stream of that name; an exchange without partitions is none."""
        return bool(await self._partitions_or_none(name))

    async def partitions(self, super_stream: str) -> tuple[str, ...]:
        """The streams that make up a super stream, in the broker's order (protocol section Partitions).

        Empty for an exchange that is no super stream.

        Raises:
            StreamDoesNotExist: there is nothing of that name.
            AccessRefused: no permission.
        """
        check_name("a super stream's name", super_stream)
        response = await self._administer(c.Partitions(super_stream), repeatable=True)
        assert isinstance(response, c.PartitionsResponse)
        return response.streams

    async def route(self, key: str, super_stream: str) -> tuple[str, ...]:
        """The partitions that are bound with exactly this key: none, one or more (protocol section Route).

        Raises:
            StreamDoesNotExist: there is no super stream of that name.
            AccessRefused: no permission.
        """
        require(isinstance(key, str), f"a routing key is a string, not {key!r}")
        check_name("a super stream's name", super_stream)
        response = await self._administer(c.Route(key, super_stream), repeatable=True)
        assert isinstance(response, c.RouteResponse)
        return response.streams

    async def _partitions_or_none(self, name: str) -> tuple[str, ...]:
        try:
            return await self.partitions(name)
        except StreamDoesNotExist:
            return ()


def _binding_keys(partitions: int | None, binding_keys: Sequence[str] | None) -> tuple[str, ...]:
    if binding_keys is None:
        number = DEFAULT_PARTITIONS if partitions is None else partitions
        count("partitions", number, 1, MAX_PARTITIONS)
        return tuple(str(index) for index in range(number))
    if partitions is not None:
        raise InvalidArgument("give `partitions`, a number, or `binding_keys`, one for each partition: not both")
    require(not isinstance(binding_keys, str), f"binding_keys is a sequence of strings, not {binding_keys!r}")
    keys = tuple(check_name("a binding key", key) for key in binding_keys)
    count("the number of binding_keys", len(keys), 1, MAX_PARTITIONS)
    require(len(set(keys)) == len(keys), f"binding_keys has one key twice: {', '.join(keys)}")
    return keys
