"""Calling a function of the user's that answers a question: plain ones in a thread, so that they may block."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from actorstream.actors.future import LoopFuture
from actorstream.actors.reasons import as_exception

T = TypeVar("T")


async def provided(function: Callable[..., T | Awaitable[T]], *arguments: object, timeout_s: float) -> T:
    """What the function returns, awaited if that is asked for.

    A coroutine function runs on this loop. Everything else runs in a thread of its own, and not in the loop's executor:
    one that never comes back would keep the program from ending.

    Raises:
        TimeoutError: no answer within `timeout_s` seconds; a thread is left to itself then.
        and whatever the function raises.
    """
    async with asyncio.timeout(timeout_s):
        if inspect.iscoroutinefunction(function):
            result: object = function(*arguments)
        else:
            result = await _in_thread(lambda: function(*arguments))
        if inspect.isawaitable(result):
            result = await result
        return cast("T", result)


async def _in_thread(work: Callable[[], Any]) -> Any:
    answer: LoopFuture[Any] = LoopFuture()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it belongs to who asked
            answer.try_set_exception(as_exception(error, "a provider"))
        else:
            answer.try_set(result)

    threading.Thread(target=run, name="actorstream-provider", daemon=True).start()
    return await answer
