"""Who is measured, and what is compared: the rows of the table, and the ratios."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """Who does what.

    Attributes:
        name: for the results.
        module: the script in this folder.
        kind: the script's name for what it does.
        label: for the table.
        peer: it runs in the environment of the clients to compare with.
        compiled: ours, with what is compiled where that could be done; False for the source as it is.
        stream: of those that are filled beforehand, for those who only read.
    """

    name: str
    module: str
    kind: str
    label: str
    peer: bool = False
    compiled: bool = True
    stream: str = "full"


PUBLISH = (
    Contender("publish_ceiling", "ceiling", "publish", "ceiling: encoded beforehand, confirms counted"),
    Contender("publish_send", "ours", "publish_send", "actorstream: send"),
    Contender("publish_batch", "ours", "publish_batch", "actorstream: send_batch of 1,000"),
    Contender("publish_sub_entries", "ours", "publish_sub_entries", "actorstream: sub-entries of 100, lz4"),
    Contender("publish_send_interpreted", "ours", "publish_send", "actorstream, not compiled: send", compiled=False),
    Contender("publish_rstream", "rstream_side", "publish_send", "rstream: send", peer=True),
    Contender("publish_rstream_batch", "rstream_side", "publish_batch", "rstream: send_batch of 1,000", peer=True),
    Contender("publish_rbfly", "rbfly_side", "publish", "rbfly: batch, flush after 5,000", peer=True),
)
CONSUME = (
    Contender("consume_ceiling", "ceiling", "consume", "ceiling: headers of chunks"),
    Contender("consume_iter", "ours", "consume_iter", "actorstream: async for"),
    Contender("consume_batches", "ours", "consume_batches", "actorstream: batches"),
    Contender("consume_sub_entries", "ours", "consume_iter", "actorstream: async for, of sub-entries", stream="lz4"),
    Contender(
        "consume_iter_interpreted", "ours", "consume_iter", "actorstream, not compiled: async for", compiled=False
    ),
    Contender("consume_rstream", "rstream_side", "consume", "rstream: callback", peer=True),
    Contender("consume_rbfly", "rbfly_side", "consume", "rbfly: async for", peer=True),
)
WAIT = (
    Contender("round_trip", "ceiling", "round_trip", "ceiling: request and confirm on a blocking socket"),
    Contender("send_wait", "ours", "send_wait", "actorstream: send_wait"),
)
LATENCY = (
    Contender("latency", "ours", "latency", "actorstream: send, async for"),
    Contender("latency_rstream", "rstream_side", "latency", "rstream: send_batch, callback", peer=True),
    Contender("latency_rbfly", "rbfly_side", "latency", "rbfly: batch and flush, async for", peer=True),
)
STEADY_PUBLISH = (
    Contender("steady_publish", "ours", "steady_publish", "actorstream: send"),
    Contender("steady_publish_rstream", "rstream_side", "steady_publish", "rstream: send", peer=True),
    Contender("steady_publish_rbfly", "rbfly_side", "steady_publish", "rbfly: batch and flush", peer=True),
)
STEADY_CONSUME = (
    Contender("steady_consume", "ours", "consume_iter", "actorstream: async for"),
    Contender("steady_consume_rstream", "rstream_side", "consume", "rstream: callback", peer=True),
    Contender("steady_consume_rbfly", "rbfly_side", "consume", "rbfly: async for", peer=True),
)
FEED = Contender("feed", "ceiling", "feed", "who publishes for those who consume at a steady rate")

RATES = {
    "publish_send_vs_ceiling": ("publish_send", "publish_ceiling"),
    "publish_batch_vs_ceiling": ("publish_batch", "publish_ceiling"),
    "publish_sub_entries_vs_ceiling": ("publish_sub_entries", "publish_ceiling"),
    "publish_send_vs_rstream": ("publish_send", "publish_rstream"),
    "publish_batch_vs_rstream": ("publish_batch", "publish_rstream_batch"),
    "publish_send_vs_rbfly": ("publish_send", "publish_rbfly"),
    "publish_send_interpreted_vs_rstream": ("publish_send_interpreted", "publish_rstream"),
    "consume_iter_vs_rstream": ("consume_iter", "consume_rstream"),
    "consume_iter_vs_rbfly": ("consume_iter", "consume_rbfly"),
    "consume_batches_vs_rbfly": ("consume_batches", "consume_rbfly"),
    "consume_batches_vs_ceiling": ("consume_batches", "consume_ceiling"),
    "consume_sub_entries_vs_plain": ("consume_sub_entries", "consume_iter"),
    "consume_iter_interpreted_vs_rstream": ("consume_iter_interpreted", "consume_rstream"),
    "many_handles_vs_ten": ("many_handles", "ten_handles"),
    "many_handles_vs_ten_ceiling": ("many_handles_ceiling", "ten_handles_ceiling"),
    "super_stream_vs_streams": ("super_stream", "streams"),
}
"""Messages a second, of the one by those of the other: more is better."""

COSTS = {
    "send_wait_p50_vs_roundtrip": ("send_wait", "round_trip", "p50"),
    "send_wait_p99_vs_roundtrip": ("send_wait", "round_trip", "p99"),
    **{
        f"latency_{percentile}_vs_{other}": ("latency", f"latency_{other}", percentile)
        for other in ("rstream", "rbfly")
        for percentile in ("p50", "p99", "p999")
    },
    "publish_cpu_vs_rstream": ("steady_publish", "steady_publish_rstream", "cpu"),
    "consume_cpu_vs_rstream": ("steady_consume", "steady_consume_rstream", "cpu"),
}
"""Seconds, likewise: less is better."""
