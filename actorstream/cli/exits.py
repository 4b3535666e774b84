"""Exit codes: what a script may rely on. Each error of ours has one, and becomes one line on stderr."""

from __future__ import annotations

import enum

from actorstream import errors


class Exit(enum.IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    """A message was not confirmed, the broker refused a request, or a stream could not be read on."""
    USAGE = 2
    """An argument is none, or contradicts another one; nothing was done."""
    UNREACHABLE = 3
    """No broker could be reached, or none answered in time."""
    NOT_FOUND = 4
    """There is no such stream, super stream, or stored offset."""
    REFUSED = 5
    """The log-in was refused, or the user lacks a permission."""
    INTERRUPTED = 130
    """By Ctrl-C, before it was done."""


_BY_TYPE: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Exit], ...] = (
    ((errors.StreamDoesNotExist, errors.NoOffset), Exit.NOT_FOUND),
    (
        (
            errors.AuthenticationFailure,
            errors.AuthenticationFailureLoopback,
            errors.AccessRefused,
            errors.VirtualHostAccessFailure,
            errors.SaslMechanismNotSupported,
            errors.SaslError,
        ),
        Exit.REFUSED,
    ),
    ((errors.ConnectionLost, errors.RequestTimeout), Exit.UNREACHABLE),
    (errors.InvalidArgument, Exit.USAGE),
    (OSError, Exit.USAGE),  # of a file that was named
)


def exit_of(error: BaseException) -> Exit:
    """The code for an error."""
    return next((code for types, code in _BY_TYPE if isinstance(error, types)), Exit.FAILED)


def one_line(error: BaseException) -> str:
    """What is wrong, without line breaks, whatever the error quotes."""
    return " ".join(str(error).split()) or type(error).__name__
