"""Why actors end, and what each reason asks of a supervisor."""

from __future__ import annotations

import asyncio
import enum

import pykka

from actorstream.errors import ActorStreamError, RestartIntensityExceeded


class Shutdown(Exception):
    """A normal end, for code that can only raise. Whoever hears of the end gets None as its reason."""


class Retry(Exception):
    """Weather: the actor ended for a `cause` that will pass. Overrules what the cause says of itself."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.cause = cause


class Fatal(Exception):
    """Nothing that a restart would change: the owner is told the `cause`, and the actor is not started again."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.cause = cause


class Again(Exception):
    """No failure: the actor wants its next incarnation, at once, because what lives outside of it was changed."""


class Verdict(enum.Enum):
    """What a supervisor makes of a reason."""

    NORMAL = enum.auto()
    """It had done what it was for."""
    AGAIN = enum.auto()
    """Start it again at once. It asked for that, and so it counts as nothing."""
    WEATHER = enum.auto()
    """Try again, after a pause, as long as it takes."""
    FATAL = enum.auto()
    """Do not try again, and tell the owner."""
    CRASH = enum.auto()
    """A bug: try again at once, but only so often."""


def classify(reason: BaseException | None) -> Verdict:
    """The default rule: the error itself knows whether the same thing may succeed later.

    An error of ours that cannot succeed later is fatal wherever it was raised: five more tries would only hide it
    behind a RestartIntensityExceeded. That error itself comes from a supervisor below and counts as its crash, as in
    OTP. A dead actor that was told something is weather too: it ended a moment ago, and who looks again finds the next.
    """
    match reason:
        case None | Shutdown():
            return Verdict.NORMAL
        case Again():
            return Verdict.AGAIN
        case Retry() | pykka.ActorDeadError():
            return Verdict.WEATHER
        case Fatal():
            return Verdict.FATAL
        case RestartIntensityExceeded():
            return Verdict.CRASH
        case ActorStreamError():
            return Verdict.WEATHER if reason.retryable else Verdict.FATAL
        case _:
            return Verdict.CRASH


def cause_of(reason: BaseException | None) -> BaseException | None:
    """The reason without its wrapping: None for what is no failure, the cause of `Retry` and `Fatal`."""
    if isinstance(reason, (Shutdown, Again)):
        return None
    if isinstance(reason, (Retry, Fatal)):
        return reason.cause
    return reason


def as_answer(reason: BaseException | None, who: str) -> Exception:
    """What an ask gets whose actor ended for `reason`: our own typed error itself, else ActorDeadError from it.

    Never a CancelledError, which the asker would take for its own cancellation.
    """
    cause = cause_of(reason)
    if isinstance(cause, (ActorStreamError, pykka.ActorDeadError)):
        return cause
    dead = pykka.ActorDeadError(f"{who} ended before it answered" + (f": {cause!r}" if cause is not None else ""))
    dead.__cause__ = cause
    return dead


def as_exception(error: BaseException, who: str) -> Exception:
    """The error, in a form that can be raised anywhere: not as the cancellation, or the Ctrl-C, of whoever is told."""
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"{type(error).__name__} in {who}")
    wrapped.__cause__ = error
    return wrapped


_WITHOUT_FRAMES = (ActorStreamError, Retry, Fatal, Again, OSError, asyncio.CancelledError)


def forget_frames(reason: BaseException | None) -> None:
    """Let an error of ours, and what it came from, keep no frames any more.

    Whoever keeps an event keeps its reason, and would keep with it, through the frames, all that had to do with a
    connection that is gone. Where a bug was is another matter: an error that is not ours keeps its traceback.
    """
    seen: set[int] = set()
    left = [reason]
    while left:
        error = left.pop()
        if error is None or id(error) in seen or not isinstance(error, _WITHOUT_FRAMES):
            continue
        seen.add(id(error))
        error.__traceback__ = None
        left += [error.__cause__, error.__context__, cause_of(error)]
