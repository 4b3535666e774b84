"""How every command is run: with a way to the broker, on a loop, until it is done or interrupted.

A command is an async function that takes a `Broker` and its own arguments and returns an `Exit`. `command` adds the
options that all of them have, so that these may stand before or behind the others, as people write them.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, cast

import typer

from actorstream.cli.exits import Exit, exit_of, one_line
from actorstream.client import Client
from actorstream.connecting import connect
from actorstream.errors import ActorStreamError, Closed

Work = Callable[..., Coroutine[Any, Any, Exit]]

LEVELS = (logging.CRITICAL, logging.INFO, logging.DEBUG)
"""By how often `-v` is given. Without, what the events say would be said twice: what ends a command is an error."""

TOLD = {"actorstream.actors": logging.ERROR, "actorstream.tracking": logging.WARNING}
"""What is told nowhere else, without `-v` as well: bugs, and an offset that could not be stored."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The way to the broker, as the common options say."""

    uris: list[str]
    tls_ca: str | None
    load_balancer: bool

    @contextlib.asynccontextmanager
    async def client(self, *, own_thread: bool = True) -> AsyncIterator[Client]:
        """A client; its actors have a thread of their own, since files and terminals may block this one.

        Without it, they are faster.
        """
        connecting = connect(
            self.uris,
            tls_ca=self.tls_ca,
            load_balancer_mode=self.load_balancer,
            name="actorstream-cli",
            own_thread=own_thread,
        )
        async with connecting as client:
            yield client


def _common(
    uri: Annotated[
        list[str],
        typer.Option("--uri", "-u", envvar="ACTORSTREAM_URI", help="A broker; may be given several times."),
    ] = ["rabbitmq-stream://localhost:5552"],  # noqa: B006 - a signature, never called
    tls_ca: Annotated[
        str | None, typer.Option(help="Authorities (PEM) to verify against, not the system's.", metavar="FILE")
    ] = None,
    load_balancer: Annotated[
        bool, typer.Option("--load-balancer", help="Reach all brokers through the URIs' addresses.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Log on stderr what happens; twice for more.")
    ] = 0,
) -> None:
    """The options of all commands; a signature only."""


def command(app: typer.Typer, name: str, *, when_interrupted: Exit = Exit.INTERRUPTED) -> Callable[[Work], Work]:
    """Make a command of an async function; its first argument is the `Broker`, its docstring the help."""

    def register(work: Work) -> Work:
        def run(uri: list[str], tls_ca: str | None, load_balancer: bool, verbose: int, **given: Any) -> None:
            _log(verbose)
            broker = Broker(uri, tls_ca, load_balancer)
            code = execute(lambda: work(broker, **given), when_interrupted)
            raise typer.Exit(code)

        _, *own = inspect.signature(work, eval_str=True).parameters.values()
        common = inspect.signature(_common, eval_str=True).parameters.values()
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *common)]
        cast("Any", run).__signature__ = inspect.Signature(parameters)
        run.__annotations__ = {}
        app.command(name, help=inspect.getdoc(work))(run)
        return work

    return register


def execute(work: Callable[[], Coroutine[Any, Any, Exit]], when_interrupted: Exit) -> int:
    """Run it to its end; the exit code. What is ours, or the system's about files, is told in one line."""
    try:
        return asyncio.run(_until_told(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return when_interrupted
    except BrokenPipeError:  # whoever read our output has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except (ActorStreamError, OSError) as error:
        ended_by = error.__cause__ if isinstance(error, Closed) else None
        why = ended_by if isinstance(ended_by, ActorStreamError) else error
        say(one_line(why))
        return exit_of(why)


async def _until_told(work: Callable[[], Coroutine[Any, Any, Exit]]) -> Exit:
    """Take SIGTERM, which a service manager sends, for Ctrl-C: by itself, since a shell's `&` has that one ignored."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work()


def say(line: str) -> None:
    """Tell the user something that is not the output."""
    sys.stderr.write(f"actorstream: {line}\n")
    sys.stderr.flush()


def _log(verbose: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("actorstream: %(message)s"))
    logger = logging.getLogger("actorstream")
    logger.addHandler(handler)
    logger.setLevel(LEVELS[min(verbose, len(LEVELS) - 1)])
    for name, level in TOLD.items() if not verbose else ():
        logging.getLogger(name).setLevel(level)
