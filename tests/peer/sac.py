"""Single active consumers: who of a group may read (protocol section 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actorstream.offset import OffsetSpecification

if TYPE_CHECKING:
    from tests.peer.entities import Subscription


class SacGroup:
    """The consumers of one name on one stream. `partition` is the stream's index in a super stream, if it is in one."""

    def __init__(self, super_stream: str, partition: int) -> None:
        self.super_stream = super_stream
        self.partition = partition
        self.members: list[Subscription] = []
        self.active: Subscription | None = None
        self._stepping_down = False

    def join(self, subscription: Subscription) -> None:
        """A consumer has subscribed."""
        self.members.append(subscription)
        subscription.group = self
        self._settle()

    def leave(self, subscription: Subscription) -> None:
        """A consumer has gone, in whatever way."""
        self.members.remove(subscription)
        if subscription is self.active:
            self.active = None
            self._stepping_down = False
        self._settle()

    def dissolve(self) -> None:
        """The stream went down: nobody takes over from anybody."""
        for subscription in self.members:
            subscription.group = None
        self.members = []
        self.active = None

    def answered(self, subscription: Subscription, active: bool, spec: OffsetSpecification) -> None:
        """A consumer answered its ConsumerUpdate. Its response code is ignored, as brokers do."""
        if subscription is not self.active:
            return
        if active:
            if not self._stepping_down:
                subscription.start(spec)
        else:
            self.active = None
            self._stepping_down = False
            self._settle()

    def _settle(self) -> None:
        wanted = self._wanted()
        if wanted is self.active or self._stepping_down:
            return
        if self.active is not None:
            self._stepping_down = True
            self.active.position = None
            self.active.peer.update_consumer(self.active, active=False)
        elif wanted is not None:
            self.active = wanted
            wanted.peer.update_consumer(wanted, active=True)

    def _wanted(self) -> Subscription | None:
        if not self.members:
            return None
        if self.super_stream:
            return self.members[self.partition % len(self.members)]
        return self.active or self.members[0]
