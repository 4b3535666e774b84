"""What breaks brokers for as long as wanted, while everything is at work, and then checks by content.

history     what producers and consumers lived through, message by message
checker     what a history and a full read-back say: lost, repeated, out of order, holes
probe       when a broker could serve again, seen without this client
proxy       latency, narrow lines, cuts in the middle of a frame, between client and broker
nemesis     the faults, each with the proof that it happened
stage       where faults have a workload of their own: what they take away would be missed by everybody else
losses      on it: streams deleted and made anew, permissions revoked, tokens that expire
handlers    on it: a user's handler that raises, hangs, is slow
worker      processes that are killed with SIGKILL: a group's members amid a batch, the pipe
share       what one of a group had in hand, and when
workload    the producers and consumers that have to live through it
recovery    from the moment a broker could serve again to the first confirm and the first delivery
report      summary.json, and a page that shows it
holdings    tasks, threads, descriptors and memory while it runs
logbook     what the client's actors told
verdict     everybody comes to rest, everything is read back, each invariant is looked at
campaign    all of it together: `make chaos`, or `python -m tests.chaos`
"""
