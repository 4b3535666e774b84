"""Who logs in: a user and a password, or a token that expires."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from actorstream.options.checks import is_number, require

MECHANISMS = ("PLAIN", "EXTERNAL", "ANONYMOUS")
"""The SASL mechanisms that a client can log in by."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password."""

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        require(isinstance(self.username, str), f"a user's name is a string, not {self.username!r}")
        require(isinstance(self.password, str), "a password is a string")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An OAuth 2 access token, and until when it is good.

    Attributes:
        value: the token itself, usually a JWT.
        expires_in: seconds from now, as authorization servers answer.
        expires_at: the same as an aware datetime, or as seconds since 1970 (the claim `exp`): the clocks of this
            machine and of the authorization server have to agree. Give one of the two; without either, the token is
            never renewed.

    Raises:
        InvalidArgument: no value, both times, or a time that is none.
    """

    value: str = field(repr=False)
    expires_in: float | None = None
    expires_at: dt.datetime | float | None = None

    def __post_init__(self) -> None:
        require(isinstance(self.value, str) and self.value != "", "a token's value is a non-empty string")
        require(self.expires_in is None or self.expires_at is None, "give expires_in or expires_at, not both")
        require(
            self.expires_in is None or is_number(self.expires_in),
            f"expires_in is a number of seconds, not {self.expires_in!r}",
        )
        if isinstance(self.expires_at, dt.datetime):
            require(self.expires_at.tzinfo is not None, "expires_at is a datetime with a time zone")
        else:
            require(
                self.expires_at is None or is_number(self.expires_at),
                f"expires_at is an aware datetime or seconds since 1970, not {self.expires_at!r}",
            )

    def lifetime_s(self, now: float) -> float:
        """Seconds that are left at `now` (seconds since 1970), when it was just obtained; infinite without an end."""
        if self.expires_in is not None:
            return self.expires_in
        if self.expires_at is None:
            return math.inf
        end = self.expires_at.timestamp() if isinstance(self.expires_at, dt.datetime) else self.expires_at
        return end - now


CredentialsProvider = Callable[[], Credentials | Awaitable[Credentials]]
"""Asked before each attempt to log in. A plain function runs in a thread of its own, so that it may block; a coroutine
function runs on the loop of the actors, which is the caller's own unless `own_thread` is set."""

TokenProvider = Callable[[], Token | Awaitable[Token]]
"""Asked for a token when there is none, and again before the one at hand expires; run like a `CredentialsProvider`."""
