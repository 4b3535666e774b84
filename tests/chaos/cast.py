"""Who is at work during a campaign, and on which streams."""

from __future__ import annotations

from dataclasses import dataclass

from actorstream import Compression
from actorstream.options import ProducerKeywords
from tests.chaos.workload import STEP_S

CLIENT = "chaos"
CONNECTIONS = tuple(f"{CLIENT}-{role}" for role in ("publisher", "consumer", "control"))
HEARTBEAT_S = 5

SOURCE, COPY, SUPER = "source", "copy", "super"
PARTITIONS = tuple(f"{SUPER}-{number}" for number in range(3))
MEMBERS = 3
WRITERS: dict[str, ProducerKeywords] = {
    "plain": {"confirm_timeout_s": 120.0},
    "named": {"confirm_timeout_s": 120.0},
    "packed": {"confirm_timeout_s": 120.0, "sub_entry_size": 20, "compression": Compression.LZ4},
    SOURCE: {"confirm_timeout_s": 120.0},
}
"""The streams, and what is special of their producers. All but the plain one have a name. A pipe copies `SOURCE`."""
SPREAD = {SUPER: STEP_S, "bursts": 0.5}
"""The producers of the super stream, by how often they send: bursts are what its group has in hand as batches."""
PRODUCERS = (*WRITERS, *SPREAD)
"""All producers, by their numbers."""
STREAMS = (*WRITERS, COPY, *PARTITIONS)
"""All streams; each has a consumer that reads it from its first message on."""


@dataclass(frozen=True)
class Names:
    """What the streams of one campaign are called."""

    prefix: str

    def stream(self, kind: str) -> str:
        """The name of one."""
        return f"{self.prefix}-{kind}"

    def written_by(self, producer: int) -> list[str]:
        """The streams that a producer writes to."""
        kind = PRODUCERS[producer]
        return [self.stream(one) for one in (PARTITIONS if kind in SPREAD else (kind,))]

    @property
    def streams(self) -> list[str]:
        """All of them."""
        return [self.stream(kind) for kind in STREAMS]

    @property
    def partitions(self) -> list[str]:
        """Those of the super stream."""
        return [self.stream(kind) for kind in PARTITIONS]
