"""How a fake cluster misbehaves, command by command.

A rule watches one of two moments: a command has arrived and is about to be carried out, or has been carried out and is
about to be answered. (What answers a Publish is its confirm.) Of several rules the oldest that fits is asked first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode

if TYPE_CHECKING:
    from tests.peer.connection import Peer

Kinds = type[c.Command] | tuple[type[c.Command], ...]
_EMPTY: Final[dict[str, Any]] = {
    "sequence": 0,
    "offset": 0,
    "streams": (),
    "stats": {},
    "properties": {},
    "mechanisms": (),
    "commands": (),
    "challenge": None,
}


class Exchange:
    """One command on its way through a broker; as seen by a rule on answers, with the bytes of one answer to it."""

    def __init__(self, peer: Peer, command: c.Command, correlation_id: int | None, data: bytes = b"") -> None:
        self.peer = peer
        self.command = command
        self.correlation_id = correlation_id
        self.data = data

    def carry_out(self) -> None:
        """Do what the command says."""
        self.peer.carry_out(self)

    def answer(self, answer: c.Command | int) -> None:
        """Answer with a command, or with a response code; rules permitting."""
        response = failure(self.command, answer) if isinstance(answer, int) else answer
        data = c.encode(response, self.correlation_id if has_correlation(response) else None)
        self.peer.cluster.script.answering(Exchange(self.peer, self.command, self.correlation_id, data))

    def send(self) -> None:
        """Let the answer go."""
        self.peer.send_bytes(self.data)


class Rule:
    """What to do with the next commands that fit. `times` None is without end."""

    def __init__(
        self,
        kinds: Kinds,
        act: Callable[[Exchange], bool],
        *,
        times: int | None = None,
        node: int | None = None,
        when: Callable[[Any], bool] | None = None,
    ) -> None:
        self._kinds = kinds
        self._act = act
        self._left = times
        self._node = node
        self._when = when
        self.hits = 0

    def cancel(self) -> None:
        """Watch no longer."""
        self._left = 0

    def apply(self, exchange: Exchange) -> bool:
        """Whether the rule dealt with it: it goes no further then."""
        if self._left == 0 or not isinstance(exchange.command, self._kinds):
            return False
        if self._node is not None and exchange.peer.node.number != self._node:
            return False
        if self._when is not None and not self._when(exchange.command):
            return False
        if self._left is not None:
            self._left -= 1
        self.hits += 1
        return self._act(exchange)


class Hold:
    """Commands or answers that wait for the test's hand.

    Attributes:
        waiting: what waits, oldest first.
    """

    def __init__(self, go_on: Callable[[Exchange], None]) -> None:
        self.waiting: list[Exchange] = []
        self.rule: Rule
        self._go_on = go_on

    def take(self, exchange: Exchange) -> bool:
        """Called by the rule."""
        self.waiting.append(exchange)
        return True

    def release_one(self, index: int = 0) -> None:
        """Let one go on, by default the oldest; the others, and those to come, wait."""
        exchange = self.waiting.pop(index)
        if not exchange.peer.is_closed:
            self._go_on(exchange)

    def release(self) -> None:
        """Let all go on, in the order of `waiting` (which a test may change before), and hold no more."""
        self.rule.cancel()
        while self.waiting:
            self.release_one()


class Script:
    """The rules of a cluster. Each method adds one, for the next `times` commands of a kind (or of several in a tuple).

    All take `node`, a number, and `when`, a predicate of the command, to narrow down what is meant.
    """

    def __init__(self) -> None:
        self._arriving: list[Rule] = []
        self._answering: list[Rule] = []

    # --- before a command is carried out ---

    def hold(self, kinds: Kinds, **narrow: Any) -> Hold:
        """Let commands wait, not carried out, until they are released."""
        return self._hold(self._arriving, kinds, Exchange.carry_out, narrow)

    def drop(self, kinds: Kinds, **narrow: Any) -> Rule:
        """Swallow commands: not carried out, never answered."""
        return self._add(self._arriving, Rule(kinds, lambda _: True, **narrow))

    def respond(self, kinds: Kinds, answer: c.Command | None = None, *, code: int | None = None, **narrow: Any) -> Rule:
        """Answer with this instead of carrying out; `code` stands for an empty answer with that code.

        For a Publish, a code is that of the PublishError for all of its messages.
        """
        wanted = answer if answer is not None else code
        assert wanted is not None, "an answer or a code"

        def respond(exchange: Exchange) -> bool:
            exchange.answer(wanted)
            if not exchange.peer.is_open and isinstance(code, int) and code != ResponseCode.OK:
                exchange.peer.drop()  # no broker goes on with a handshake that failed
            return True

        return self._add(self._arriving, Rule(kinds, respond, **narrow))

    def before(self, kinds: Kinds, action: Callable[[Exchange], object], **narrow: Any) -> Rule:
        """Do something when a command arrives, then go on with it."""

        def act(exchange: Exchange) -> bool:
            action(exchange)
            return exchange.peer.is_closed

        return self._add(self._arriving, Rule(kinds, act, **narrow))

    def disconnect(self, kinds: Kinds, **narrow: Any) -> Rule:
        """Drop the connection when a command arrives, which is not carried out."""
        return self.before(kinds, lambda exchange: exchange.peer.drop(), **narrow)

    # --- before it is answered ---

    def hold_answer(self, kinds: Kinds, **narrow: Any) -> Hold:
        """Let answers wait until they are released; what else a command causes is not delayed."""
        return self._hold(self._answering, kinds, Exchange.send, narrow)

    def drop_answer(self, kinds: Kinds, **narrow: Any) -> Rule:
        """Carry commands out and never say so."""
        return self._add(self._answering, Rule(kinds, lambda _: True, **narrow))

    def cut_answer(self, kinds: Kinds, size: int, **narrow: Any) -> Rule:
        """Carry commands out, send the first `size` bytes of the answer, and drop the connection."""

        def cut(exchange: Exchange) -> bool:
            exchange.peer.send_bytes(exchange.data[:size])
            exchange.peer.drop()
            return True

        return self._add(self._answering, Rule(kinds, cut, **narrow))

    def before_answer(self, kinds: Kinds, action: Callable[[Exchange], object], **narrow: Any) -> Rule:
        """Do something right before a command's answer is sent."""

        def act(exchange: Exchange) -> bool:
            action(exchange)
            return exchange.peer.is_closed

        return self._add(self._answering, Rule(kinds, act, **narrow))

    # --- called by the peer ---

    def arriving(self, exchange: Exchange) -> bool:
        """Whether a rule took a command."""
        return any(rule.apply(exchange) for rule in list(self._arriving))

    def answering(self, exchange: Exchange) -> None:
        """Send an answer, unless a rule takes it."""
        if not any(rule.apply(exchange) for rule in list(self._answering)):
            exchange.send()

    def _hold(self, rules: list[Rule], kinds: Kinds, go_on: Callable[[Exchange], None], narrow: Any) -> Hold:
        hold = Hold(go_on)
        hold.rule = self._add(rules, Rule(kinds, hold.take, **narrow))
        return hold

    def _add(self, rules: list[Rule], rule: Rule) -> Rule:
        rules.append(rule)
        return rule


def has_correlation(response: c.Command) -> bool:
    """Whether an answer carries the correlation id of what it answers."""
    return isinstance(response, c.Response) and not isinstance(response, c.CreditResponse)


def failure(command: c.Command, code: int) -> c.Command:
    """The answer to a command that carries this code and nothing else."""
    if isinstance(command, (c.Publish, c.PublishFiltered)):
        errors = tuple(c.PublishingError(item.publishing_id, code) for item in command.items)
        return c.PublishError(command.publisher_id, errors)
    if isinstance(command, c.Credit):
        return c.CreditResponse(code, command.subscription_id)
    if isinstance(command, c.ResolveOffsetSpec):
        return c.ResolveOffsetSpecResponse(code, OffsetSpecification(OffsetType.NONE))
    kind = getattr(c, f"{type(command).__name__}Response")
    names = [field.name for field in dataclasses.fields(kind)]
    response: c.Command = kind(*[code if name == "code" else _EMPTY[name] for name in names])
    return response
