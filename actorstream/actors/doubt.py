"""Whether confirms stay away for so long that it is worth asking who leads the stream now."""

from __future__ import annotations

from actorstream.actors.outbox import Outbox

WITHOUT_HEARTBEATS_S = 10.0


class Doubt:
    """Looked at every `pause_s` while a publisher is attached. Plain.

    A broker that is alive is not thereby the leader: one that is cut off from its peers sends heartbeats, takes
    messages and confirms none. So a publisher that was sent nothing back asks, after half a heartbeat's interval to a
    whole one, and over and over while it lasts: a new leader is elected late.
    """

    def __init__(self, outbox: Outbox, heartbeat_s: float) -> None:
        self.pause_s = (heartbeat_s or WITHOUT_HEARTBEATS_S) / 2
        self._outbox = outbox
        self._settled = -1

    def arises(self) -> bool:
        """Whether something was on its way at the last look, and is now, and nothing was settled meanwhile."""
        outbox = self._outbox
        before, self._settled = self._settled, outbox.confirmed + outbox.failed if outbox.in_flight else -1
        return self._settled != -1 and self._settled == before
