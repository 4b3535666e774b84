"""Which addresses lead to a broker, and going there until the right one answers.

Metadata names brokers by what they advertise. Usually that is where to connect to; a resolver may say otherwise (F15);
and behind a load balancer every connection goes to the same address, and the answer to Open tells who it came to
(F16). Plain: one `Dialer` for all connections of a client.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actorstream.actors.driver import SessionDriver
from actorstream.actors.provided import provided
from actorstream.backoff import Backoff, BackoffPolicy
from actorstream.errors import ConnectFailed, InvalidArgument, WrongBroker
from actorstream.options import ConnectionOptions, Endpoint
from actorstream.transport import Opener
from actorstream.wire.session import Session

MISMATCH_PAUSES = BackoffPolicy(base_s=0.05, cap_s=0.5)
"""Between tries to get past a load balancer. Jittered: clients that take turns in step would always meet the same."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a connection should lead.

    Attributes:
        endpoint: the broker, by what it advertises, or by a URI.
        accepts: the brokers that will do, by what they advertise; None: whoever answers. It matters only behind a load
            balancer: elsewhere, whoever is at an address is the one that was meant.
        is_control: whether it is for questions only; to the addresses of the URIs these go without a resolver.
    """

    endpoint: Endpoint
    accepts: frozenset[Endpoint] | None
    is_control: bool


class Dialer:
    """See the module."""

    def __init__(self, *, seeds: Sequence[Endpoint], options: ConnectionOptions, opener: Opener) -> None:
        self._seeds = tuple(dict.fromkeys(seeds))
        self._options = options
        self._opener = opener
        self._turns = itertools.count()

    async def reach(self, goal: Goal, make: Callable[[str], SessionDriver]) -> tuple[SessionDriver, Endpoint]:
        """An open session with the broker, and which one it is.

        `make` is given an address in words, for errors, and makes what is tried there. Cancellation-safe: nothing that
        was opened stays behind.

        Raises:
            ConnectFailed: none of the addresses leads to a broker; of several, the error of the last.
            WrongBroker: a load balancer has led to others only, for as long as a request may take.
            ResponseError: the broker refuses the log-in.
            InvalidArgument: the resolver gave what is no address.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        pauses = Backoff(MISMATCH_PAUSES, random.Random())
        found: dict[Endpoint, None] = {}
        while True:
            failure: ConnectFailed | None = None
            addresses = await self._addresses(goal)
            for address in addresses:
                driver = make(self._in_words(goal.endpoint, address))
                try:
                    await self._open(driver, address, goal.endpoint)
                except ConnectFailed as error:
                    failure = error
                    continue
                if not self._options.load_balancer_mode:
                    return driver, goal.endpoint
                who = advertised(driver.session)
                if goal.accepts is None or who in goal.accepts:
                    return driver, who or goal.endpoint
                driver.leave()
                if who is None:
                    raise ConnectFailed(str(goal.endpoint), "load balancer", "the broker does not say who it is")
                found[who] = None
            if failure is not None and not found:
                raise failure
            elapsed = loop.time() - begin
            if elapsed > self._options.rpc_timeout_s:
                names = ", ".join(str(one) for one in found)
                raise WrongBroker(str(goal.endpoint), ", ".join(map(str, addresses)), names, elapsed)
            await asyncio.sleep(pauses.next_delay())

    async def _open(self, driver: SessionDriver, address: Endpoint, wanted: Endpoint) -> None:
        options = self._options
        try:
            await driver.open(self._opener, address, tls=options.tls, connect_timeout_s=options.connect_timeout_s)
        except ConnectFailed as error:
            if address == wanted and wanted not in self._seeds and error.step in ("resolve", "connect"):
                # The error that newcomers meet first: it names what the broker says of itself, which they never wrote.
                raise ConnectFailed(
                    error.address,
                    error.step,
                    f"{error.cause} (this is the address that the broker advertises: if it cannot be reached from "
                    "here, set advertised_host and advertised_port on the broker, or use an address_resolver or "
                    "load_balancer_mode)",
                ) from error
            if address != wanted:
                raise ConnectFailed(self._in_words(wanted, address), error.step, error.cause) from error
            raise

    async def _addresses(self, goal: Goal) -> tuple[Endpoint, ...]:
        if self._options.load_balancer_mode:
            turn = next(self._turns) % len(self._seeds)
            return self._seeds[turn:] + self._seeds[:turn]
        resolver = self._options.address_resolver
        if resolver is None or (goal.is_control and goal.endpoint in self._seeds):
            return (goal.endpoint,)
        try:
            answer = await provided(resolver, goal.endpoint, timeout_s=self._options.connect_timeout_s)
        except Exception as error:
            cause = f"the address resolver failed: {error!r}"
            raise ConnectFailed(str(goal.endpoint), "resolve", cause) from error
        addresses = [answer] if isinstance(answer, Endpoint) else answer
        if isinstance(addresses, Sequence) and addresses and all(isinstance(one, Endpoint) for one in addresses):
            return tuple(addresses)
        raise InvalidArgument(f"the address resolver gives an Endpoint, or several, and not {answer!r}")

    @staticmethod
    def _in_words(wanted: Endpoint, address: Endpoint) -> str:
        return str(wanted) if address == wanted else f"{wanted} by way of {address}"


def advertised(session: Session) -> Endpoint | None:
    """What an open session's broker says of itself in its answer to Open; None if it does not."""
    properties = session.connection_properties
    if "advertised_host" not in properties or not properties.get("advertised_port", "").isdigit():
        return None
    return Endpoint(properties["advertised_host"], int(properties["advertised_port"]))
