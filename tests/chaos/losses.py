"""Streams that are deleted, permissions that are taken away, tokens that expire: on streams of the fault's own."""

from __future__ import annotations

import asyncio
import time

from actorstream import Token, errors, events
from lab import tokens
from lab.management import NotFound
from lab.shell import LabError
from tests.broker.reading import until
from tests.chaos import checker
from tests.chaos.checker import Violation
from tests.chaos.stage import TOLD_WHY, TOLD_WITHIN_S, Stage, Troupe
from tests.chaos.workload import Reader, Writer

FILLED = 3_000
"""Messages of the old stream: more than the new one has when its consumer comes, which so can tell them apart."""
LIFETIME_S = 4.0


async def stream_deleted(stage: Stage) -> str:
    """Delete a stream that is being written and read: both are told so, and what was given of it was right."""
    async with stage.troupe("deleted") as troupe:
        await _delete(stage, troupe.stream)
        await stage.is_told(troupe.writer, errors.StreamDoesNotExist)
        await stage.is_told(troupe.reader, errors.StreamDoesNotExist)
        stage.found += checker.check_settled(troupe.writer.history)
        stage.found += checker.check_until_deleted(troupe.writer.history, troupe.reader.history)
    return f"{troupe.stream} is gone, {len(troupe.writer.history.outcomes)} messages with it"


async def _delete(stage: Stage, stream: str) -> None:
    if not await asyncio.to_thread(stage.management.delete_stream, stream):
        raise LabError(f"there was no {stream} to delete")
    try:
        await asyncio.to_thread(stage.management.stream, stream)
    except NotFound:
        return
    raise LabError(f"{stream} is still there")


async def made_anew_unseen(stage: Stage) -> str:
    """Delete a stream and make it anew while its client is cut off: both go on in the new one, and it is told."""
    async with stage.troupe("renewed", filled=FILLED) as troupe:
        troupe.cut_off()
        await _delete(stage, troupe.stream)
        await asyncio.to_thread(stage.cluster.create_stream, troupe.stream)
        troupe.connect_again()
        await stage.goes_on(troupe.writer, troupe.reader)
        told = troupe.seen(events.StreamTruncated)
        if not told:
            stage.found.append(Violation(TOLD_WHY, f"the reader of {troupe.stream} was not told that it is another"))
        await _check_renewed(stage, troupe, troupe.writer, troupe.reader)
    return f"{troupe.stream} is another one: {told[-1] if told else 'nobody saw it'}"


async def made_anew(stage: Stage) -> str:
    """Delete a stream and make it anew at once, in sight of its client.

    Who looks between the two is told that it does not exist, and begins anew as a user would; who looks later goes on.
    """
    async with stage.troupe("replaced", filled=FILLED) as troupe:
        await _delete(stage, troupe.stream)
        await asyncio.to_thread(stage.cluster.create_stream, troupe.stream)
        since = time.monotonic()
        old, reader = troupe.writer, troupe.reader
        await until(lambda: old.task.done() or old.got_on(since), "the writer is told, or goes on", TOLD_WITHIN_S)
        writer = await stage.writer(troupe.client, troupe.stream, number=1) if old.task.done() else old
        await until(lambda: reader.task.done() or reader.got_on(since), "the reader too", TOLD_WITHIN_S)
        if reader.task.done():
            reader = Reader(await troupe.client.consumer(troupe.stream, "first"))
        for before, now in ((old, writer), (troupe.reader, reader)):
            if before is not now:
                await stage.is_told(before, errors.StreamDoesNotExist)
        await stage.goes_on(writer, reader)
        await _check_renewed(stage, troupe, writer, reader)
        await asyncio.gather(troupe.client.close(), reader.task, return_exceptions=True)
    told = sum(before is not now for before, now in ((old, writer), (troupe.reader, reader)))
    return f"{troupe.stream} is another one; of its producer and its consumer {told} were told, {2 - told} went on"


async def _check_renewed(stage: Stage, troupe: Troupe, writer: Writer, reader: Reader) -> None:
    await writer.stop()
    stored = await stage.read_back(troupe.stream)
    stage.found += checker.check_made_anew(writer.history, stored)
    await stage.reads_all(reader, stored)


async def permission_revoked(stage: Stage) -> str:
    """Take a user's permissions away and end its connections; later give them back.

    Its producer and its consumer are told; new ones of the same client, under the same name, go on where they were.
    """
    user, management = f"{stage.prefix}-user", stage.management
    await asyncio.to_thread(management.put_user, user, "secret")
    try:
        await asyncio.to_thread(management.put_permissions, user)
        async with stage.troupe("permitted", username=user, password="secret") as troupe:
            await asyncio.to_thread(management.put_permissions, user, configure="", write="", read="")
            troupe.cut_off()
            cut = troupe.connect_again()
            await stage.is_told(troupe.writer, errors.AccessRefused)
            await stage.is_told(troupe.reader, errors.AccessRefused)
            await asyncio.to_thread(management.put_permissions, user)
            begin = time.monotonic()
            writer = await stage.writer(troupe.client, troupe.stream, number=1)
            reader = Reader(await troupe.client.consumer(troupe.stream, "first"))
            await until(lambda: writer.got_on(begin) and reader.got_on(begin), "both go on", TOLD_WITHIN_S)
            stage.confirm_s.append(writer.confirmed_at[0] - begin)
            stage.delivery_s.append(reader.history.received_at[0] - begin)
            await writer.stop()
            stored = await stage.read_back(troupe.stream)
            for one in (troupe.writer, writer):
                stage.found += checker.check_producer(one.history, [stored])[0]
            await stage.reads_all(reader, stored)
            await asyncio.gather(troupe.client.close(), reader.task)
    finally:
        await asyncio.to_thread(management.delete_user, user)
    return f"{user} was refused after {cut} connections had been cut"


async def token_expired(stage: Stage) -> str:
    """Let a token expire while no other is to be had: brokers drop the client, and the next one brings it back."""
    lifetime_s, failing = LIFETIME_S, False

    def provider() -> Token:
        if failing:
            raise OSError("the authorization server is away")
        return Token(value=tokens.issue(lifetime_s), expires_in=lifetime_s)

    async with stage.troupe("token", token_provider=provider) as troupe:
        failing = True
        await until(lambda: troupe.seen(events.CredentialsFailed), "no token is to be had", TOLD_WITHIN_S)
        await until(lambda: troupe.seen(events.Disconnected), "the token has expired", TOLD_WITHIN_S)
        failures = len(troupe.seen(events.CredentialsFailed))
        failing, lifetime_s = False, 600.0
        await stage.goes_on(troupe.writer, troupe.reader)
        await troupe.writer.stop()
        stored = await stage.read_back(troupe.stream)
        stage.found += checker.check_producer(troupe.writer.history, [stored])[0]
        await stage.reads_all(troupe.reader, stored)
    return f"dropped by the broker, after {failures} tries to get another token"
