"""Which of the messages that are handled side by side are completed, in their order. A plain object."""

from __future__ import annotations

from collections import deque

from actorstream.actors.progress import Progress
from actorstream.wire.message import Message


class CompletionWindow:
    """The messages of one progress from the first one that is not completed on.

    They are handed out in the order of their offsets and completed in any order. `Progress.completed` never passes one
    that is not completed, whatever lies behind it: what is stored from there may be trusted by whoever goes on from it.
    """

    __slots__ = ("_abandoned", "_completed", "_messages", "_progress")

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._abandoned = False
        self._messages: deque[Message] = deque()
        self._completed: set[int] = set()

    def __len__(self) -> int:
        """How many it holds, those included that are completed behind one that is not."""
        return len(self._messages)

    def begin(self, message: Message) -> None:
        """A message is handed out; its offset is above those before."""
        assert not self._messages or message.offset > self._messages[-1].offset
        self._messages.append(message)

    def complete(self, offset: int) -> int:
        """A message in the window is completed; how many leave the window by that: all up to the first that is not.

        None of one that is abandoned, which have left it already.
        """
        messages, completed, progress = self._messages, self._completed, self._progress
        completed.add(offset)
        before = len(messages)
        while messages and messages[0].offset in completed:
            progress.completed = messages.popleft().offset
            completed.remove(progress.completed)
        if not messages and progress.completed is not None:
            # What a predicate dropped behind the last one while that was in work is completed with it.
            progress.completed = max(progress.completed, progress.position - 1)
        return 0 if self._abandoned else before - len(messages)

    def enter(self) -> bool:
        """A message is about to be handled; False: it is not wanted any more.

        The consumer was sent elsewhere, or another member of its group is the active one.
        """
        progress = self._progress
        return not progress.left and (progress.gate is None or progress.gate.enter(progress))

    @property
    def is_wanted(self) -> bool:
        """Whether that still holds, for one that entered and has not begun."""
        progress = self._progress
        return not progress.left and (progress.gate is None or progress.gate.admits(progress))

    def leave(self) -> None:
        """The handler of a message has ended."""
        if self._progress.gate is not None:
            self._progress.gate.leave()

    def abandon(self) -> int:
        """Nothing in it will be begun any more; how many leave it by that. Those that are being handled go on."""
        if self._abandoned:
            return 0
        self._abandoned = True
        return len(self._messages)

    def unfinished(self) -> list[Message]:
        """All that it holds, in order: what has to come again when nobody goes on with it."""
        return list(self._messages)
