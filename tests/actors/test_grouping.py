"""Grouping into sub-entries: what goes into one, what stands alone, and that a replay repeats it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from actorstream.actors.entries import NEVER
from actorstream.actors.grouping import Grouping
from actorstream.actors.outbox import Outbox
from actorstream.actors.receipt import Receipt
from actorstream.compression import Compression
from actorstream.errors import CompressionError, MessageTooLarge, PublishRejected, Unconfirmed
from actorstream.wire.compression import decompress
from actorstream.wire.publish import data_entry, sub_batch_entry

FRAME = 1024
ALONE = 17
"""What counts against frame_max besides the entry that is alone in its frame."""


def make(size: int = 3, codec: Compression = Compression.NONE, *, named: bool = True) -> Outbox:
    outbox = Outbox(named=named, max_messages=10_000, max_bytes=10**9, grouping=Grouping(size, codec))
    outbox.frame_max = FRAME
    return outbox


def offer(outbox: Outbox, *bodies: bytes, deadline: float = NEVER, first_id: int | None = None) -> list[Receipt]:
    receipts = [
        Receipt(data_entry(body), None if first_id is None else first_id + number, deadline=deadline)
        for number, body in enumerate(bodies)
    ]
    for receipt in receipts:
        assert outbox.offer(receipt) is not None
    return receipts


def taken(outbox: Outbox) -> list[tuple[int, list[bytes]]]:
    """Each id of a flush with the bodies behind it."""
    return [
        (number, bodies(wire)) for _, ids, wires in outbox.take().parts for number, wire in zip(ids, wires, strict=True)
    ]


def bodies(wire: bytes) -> list[bytes]:
    if wire[0] < 0x80:
        return [_body(wire)]
    count, size = int.from_bytes(wire[1:3]), int.from_bytes(wire[3:7])
    assert int.from_bytes(wire[7:11]) == len(wire) - 11
    content = decompress(wire[0] >> 4 & 7, wire[11:], size)
    found = []
    while content:
        length = 4 + int.from_bytes(content[:4])
        found.append(_body(content[:length]))
        content = content[length:]
    assert len(found) == count
    return found


def _body(entry: bytes) -> bytes:
    return entry[9:] if entry[7] == 0xA0 else entry[12:]


def ids(receipts: Sequence[Receipt]) -> list[int]:
    return [receipt.publishing_id for receipt in receipts]


def test_consecutive_messages_share_an_id_up_to_the_size_of_a_group() -> None:
    outbox = make(3)
    receipts = offer(outbox, b"a", b"b", b"c", b"d", b"e")

    assert taken(outbox) == [(1, [b"a", b"b", b"c"]), (2, [b"d", b"e"])]
    assert ids(receipts) == [1, 1, 1, 2, 2]
    outbox.confirm([2])
    assert [receipt.confirmed for receipt in receipts] == [False] * 3 + [True] * 2
    assert (outbox.confirmed, outbox.undecided, outbox.room.held) == (2, 3, 3), "messages are counted, not entries"


def test_groups_span_what_was_accepted_in_several_steps() -> None:
    outbox = make(4)
    accepted = outbox.offer_many([data_entry(body) for body in (b"a", b"b", b"c")], 1, NEVER)
    assert accepted is not None
    ((first,), _) = accepted
    single = offer(outbox, b"d")
    accepted = outbox.offer_many([data_entry(body) for body in (b"e", b"f")], 1, NEVER)
    assert accepted is not None
    ((last,), _) = accepted

    assert taken(outbox) == [(1, [b"a", b"b", b"c", b"d"]), (2, [b"e", b"f"])]
    assert ids([*first.receipts(), *single, *last.receipts()]) == [1, 1, 1, 1, 2, 2]
    outbox.reject([(1, 17)])
    assert isinstance(first.error, PublishRejected)
    assert isinstance(single[0].error, PublishRejected)
    assert last.undecided == 2
    assert (outbox.failed, outbox.room.held) == (4, 2)


def test_a_lone_message_stands_by_itself_unless_compression_makes_it_smaller() -> None:
    plain, packing = make(3), make(3, Compression.GZIP)
    for outbox in (plain, packing):
        offer(outbox, b"a")
    assert plain.take().parts == packing.take().parts == [(1, [1], [data_entry(b"a")])]
    offer(packing, b"a" * 900)
    ((_, _, (wire,)),) = packing.take().parts
    assert wire == sub_batch_entry([data_entry(b"a" * 900)], Compression.GZIP)


def test_a_group_ends_where_a_frame_does() -> None:
    outbox = make(10)
    room = FRAME - ALONE - 11  # for the records of one sub-entry
    offer(outbox, *(b"x" * (room // 2 - 12) for _ in range(4)), b"y" * 10)

    groups = taken(outbox)
    assert [len(group) for _, group in groups] == [2, 2, 1]


def test_f34_a_group_that_compresses_badly_is_divided() -> None:
    outbox = make(100, Compression.LZ4)
    bodies_ = [bytes((7 * number * k + k * k) % 256 for k in range(200)) for number in range(20)]
    offer(outbox, *bodies_)

    groups = outbox.take().parts[0][2]
    assert len(groups) > 1
    assert all(len(wire) + ALONE <= FRAME for wire in groups)
    assert [body for wire in groups for body in bodies(wire)] == bodies_


def test_f34_a_message_that_no_longer_fits_fails_alone() -> None:
    outbox = make(3)
    outbox.frame_max = 10_000
    before, large, after = offer(outbox, b"a", b"x" * 5000, b"c")
    outbox.frame_max = FRAME

    assert taken(outbox) == [(1, [b"a"]), (2, [b"c"])]
    assert isinstance(large.error, MessageTooLarge)
    outbox.confirm([1, 2])
    assert before.confirmed
    assert after.confirmed
    assert (outbox.failed, outbox.room.held, outbox.room.held_bytes) == (1, 0, 0)


def test_a_sub_entry_of_the_sender_stays_as_it_is() -> None:
    outbox = make(3)
    given = sub_batch_entry([data_entry(b"x"), data_entry(b"y")], Compression.NONE)
    (before,) = offer(outbox, b"a")
    receipt = Receipt(given, messages=2)
    assert outbox.offer(receipt) is not None
    offer(outbox, b"b", b"c")

    assert taken(outbox) == [(1, [b"a"]), (2, [b"x", b"y"]), (3, [b"b", b"c"])]
    outbox.confirm([1, 2])
    assert before.confirmed
    assert receipt.confirmed
    assert outbox.confirmed == 3


def test_i4_a_replay_repeats_the_groups_with_their_ids() -> None:
    outbox = make(3, Compression.GZIP)
    offer(outbox, *(b"%d" % number for number in range(8)))
    first = outbox.take().parts
    offer(outbox, b"later")
    outbox.confirm([2])

    ((version, numbers, wires),) = outbox.replay().parts
    assert (version, numbers) == (1, [1, 3])
    assert wires == [first[0][2][0], first[0][2][2]]
    assert taken(outbox) == [(4, [b"later"])]


def test_given_ids_are_those_of_the_last_messages_of_the_groups() -> None:
    outbox = make(3)
    receipts = offer(outbox, b"a", b"b", b"c", b"d", first_id=10)

    assert taken(outbox) == [(12, [b"a", b"b", b"c"]), (13, [b"d"])]
    assert ids(receipts) == [12, 12, 12, 13]


def test_f26_a_group_spans_nothing_that_the_broker_has_and_something_that_it_has_not() -> None:
    outbox = make(3)
    outbox.numbering.continue_after(11)
    offer(outbox, b"a", b"b", b"c", b"d", first_id=10)

    assert taken(outbox) == [(11, [b"a", b"b"]), (13, [b"c", b"d"])]


@pytest.mark.parametrize("named", [True, False])
def test_f38_each_message_of_a_group_has_its_own_deadline(named: bool) -> None:
    outbox = make(3, named=named)
    (early,) = offer(outbox, b"a", deadline=5.0)
    (late,) = offer(outbox, b"b", deadline=7.0)
    outbox.take()

    assert outbox.next_deadline() == 5.0
    assert outbox.expire(5.0) is True
    assert isinstance(early.error, Unconfirmed)
    assert not late.done
    assert outbox.room.held == 2, "the entry may still be confirmed"
    assert outbox.expire(6.0) is False
    assert outbox.expire(7.0) is True
    assert isinstance(late.error, Unconfirmed)
    assert outbox.room.held == (2 if named else 0)
    assert outbox.next_deadline() == NEVER


def test_all_of_a_group_are_waited_for() -> None:
    outbox = make(3)
    receipts = offer(outbox, b"a", b"b")
    outbox.take()
    receipts += offer(outbox, b"c")

    assert outbox.without_outcome() == receipts
    outbox.confirm([1])
    assert outbox.without_outcome() == receipts[2:]


def test_a_codec_that_is_not_installed_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(CompressionError, match="pip install"):
        Grouping(2, Compression.ZSTD)
