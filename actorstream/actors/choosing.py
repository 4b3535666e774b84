"""Which member of a stream a subscriber reads from."""

from __future__ import annotations

import random

from actorstream.actors.messages import Members
from actorstream.options import Endpoint


def choose(members: Members, tried: set[Endpoint]) -> Endpoint:
    """A replica, so that leaders have their hands free for publishing; the leader when there is none.

    The member that was lost last is avoided, and so are those that were tried in vain since (`tried`, which it keeps):
    Metadata may not know yet that they are gone, or they cannot be reached from here.
    """
    fresh = [replica for replica in members.replicas if replica not in tried]
    if fresh:
        endpoint = random.choice(fresh)
    elif members.leader not in tried or not members.replicas:
        endpoint = members.leader
    else:
        tried.clear()
        endpoint = random.choice(members.replicas)
    tried.add(endpoint)
    return endpoint
