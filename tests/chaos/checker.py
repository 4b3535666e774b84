"""What the histories and a full read-back say of each other: the invariants, by content.

Everything here is pure, so that its own tests can show that each kind of damage is found.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.history import ConsumerHistory, Outcome, ProducerHistory, ReadBack, Span

SHOWN = 5
"""How many messages a violation names."""


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, and where."""

    invariant: str
    text: str


@dataclass(frozen=True)
class Counts:
    """What is counted besides, and may be other than 0 without being wrong."""

    sent: int = 0
    confirmed: int = 0
    rejected: int = 0
    unconfirmed: int = 0
    refused: int = 0
    stored: int = 0
    duplicates: int = 0


def check_producer(history: ProducerHistory, stored: Sequence[ReadBack]) -> tuple[list[Violation], Counts]:
    """A producer against the streams that it wrote to (I1 to I5)."""
    who = f"producer {history.number} of {history.target}"
    found: list[Violation] = []
    seen: set[int] = set()
    duplicates: list[int] = []
    for stream in stored:
        last = -1
        for producer, number in zip(stream.producers, stream.numbers, strict=True):
            if producer != history.number:
                continue
            if number in seen:
                duplicates.append(number)
                continue
            seen.add(number)
            if number < last:
                found.append(Violation("I3 order", f"{who}: {number} comes first after {last} in {stream.stream}"))
            last = max(last, number)
    outcomes = history.outcomes
    confirmed = [number for number, outcome in enumerate(outcomes) if outcome == Outcome.CONFIRMED]
    lost = [number for number in confirmed if number not in seen]
    pending = [number for number, outcome in enumerate(outcomes) if outcome == Outcome.PENDING]
    refused = [n for n, o in enumerate(outcomes) if o in (Outcome.REFUSED, Outcome.REJECTED) and n in seen]
    invented = [number for number in seen if number >= len(outcomes)]
    for invariant, numbers, text in (
        ("I1 durability", lost, "confirmed and not stored"),
        ("I2 one outcome", pending, "without an outcome"),
        ("I2 one outcome", refused, "refused and yet stored"),
        ("I2 one outcome", invented, "stored and never sent"),
        ("I4 named producer", duplicates if history.named else [], "stored twice although named"),
    ):
        if numbers:
            found.append(Violation(invariant, f"{who}: {len(numbers)} {text}: {_some(numbers)}"))
    counts = Counts(
        sent=len(outcomes),
        confirmed=len(confirmed),
        rejected=history.count(Outcome.REJECTED),
        unconfirmed=history.count(Outcome.UNCONFIRMED),
        refused=history.count(Outcome.REFUSED),
        stored=len(seen),
        duplicates=len(duplicates),
    )
    return found, counts


def check_settled(history: ProducerHistory) -> list[Violation]:
    """A producer that was closed, or whose stream is gone: nothing is left without an outcome (I2)."""
    pending = [number for number, outcome in enumerate(history.outcomes) if outcome == Outcome.PENDING]
    if not pending:
        return []
    text = f"producer {history.number} of {history.target}: {len(pending)} pending after its end: {_some(pending)}"
    return [Violation("I2 one outcome", text)]


def check_until_deleted(producer: ProducerHistory, consumer: ConsumerHistory) -> list[Violation]:
    """A stream that nobody can read back any more, with one named producer: what was given of it has no hole (I6).

    Each message has the offset that is its number, from the first one on, and nothing was given that was not sent.
    """
    given = list(zip(consumer.offsets, consumer.numbers, strict=True))
    if given == [(number, number) for number in range(len(given))] and len(given) <= len(producer.outcomes):
        return []
    first = next((at for at, (offset, number) in enumerate(given) if not at == offset == number), len(given))
    return [Violation("I6 no hole", f"{consumer.stream}, deleted since: what was given is wrong from {first} on")]


def check_made_anew(history: ProducerHistory, stored: ReadBack) -> list[Violation]:
    """A named producer that went on in a stream made anew: nothing from its first message there on is missing (I1, I4).

    What comes before that was confirmed in the stream that is gone.
    """
    who = f"producer {history.number} of {history.target}"
    numbers = [n for producer, n in zip(stored.producers, stored.numbers, strict=True) if producer == history.number]
    begin = numbers[0] if numbers else 0
    accepted = [n for n, outcome in enumerate(history.outcomes) if n >= begin and outcome != Outcome.REFUSED]
    found: list[Violation] = []
    if numbers != accepted:
        text = f"{who}: {len(set(accepted) - set(numbers))} missing, {len(numbers) - len(set(numbers))} repeated"
        found.append(Violation("I1 durability", f"{text} in the stream made anew, from {begin} on"))
    lost = [n for n in range(begin) if history.outcomes[n] != Outcome.CONFIRMED]
    if lost:
        found.append(Violation("I1 durability", f"{who}: {len(lost)} in neither stream: {_some(lost)}"))
    return found


def check_handled(what: str, handled: Sequence[int], wanted: Sequence[int]) -> list[Violation]:
    """A handler under its policy: it got these messages through, each once, and in this order."""
    if list(handled) == list(wanted):
        return []
    missing, more = sorted(set(wanted) - set(handled)), len(handled) - len(set(handled) & set(wanted))
    text = f"{what}: {len(missing)} missing ({_some(missing)}), {more} too many"
    return [Violation("policy", text if missing or more else f"{what}: out of order")]


def check_consumer(history: ConsumerHistory, stored: ReadBack) -> list[Violation]:
    """A consumer that read a stream from its first message to its end, in one process (I6 and I7)."""
    found: list[Violation] = []
    for before, after in itertools.pairwise(history.offsets):
        if after <= before:
            found.append(Violation("I7 monotone", f"{history.stream}: offset {after} came after {before}"))
    given = dict(zip(history.offsets, zip(history.producers, history.numbers, strict=True), strict=True))
    there = dict(zip(stored.offsets, zip(stored.producers, stored.numbers, strict=True), strict=True))
    holes = [offset for offset in there if offset not in given]
    invented = [offset for offset in given if offset not in there]
    changed = [offset for offset, identity in given.items() if there.get(offset, identity) != identity]
    for offsets, text in (
        (holes, "in the stream and never delivered"),
        (invented, "delivered and not in the stream"),
        (changed, "delivered with another content than the stream has"),
    ):
        if offsets:
            found.append(Violation("I6 no hole", f"{history.stream}: {len(offsets)} {text}: {_some(offsets)}"))
    return found


def check_group(histories: Iterable[ConsumerHistory], stored: ReadBack) -> tuple[list[Violation], int]:
    """All members of a group together, on one partition: every message by somebody (I6); and how many came again."""
    given: dict[int, int] = {}
    for history in histories:
        for offset in history.offsets:
            given[offset] = given.get(offset, 0) + 1
    holes = [offset for offset in stored.offsets if offset not in given]
    again = sum(count - 1 for count in given.values())
    if holes:
        text = f"{stored.stream}: {len(holes)} processed by no member: {_some(holes)}"
        return [Violation("I6 no hole", text)], again
    return [], again


def check_exclusive(spans: Iterable[Span], declared: Mapping[str, Sequence[tuple[float, float]]]) -> list[Violation]:
    """At most one member inside dispatch of a partition at a time (I8).

    Args:
        spans: who was inside, from when until when.
        declared: by member, the times at which it may be a zombie that the broker has given up already (F68).
    """
    found: list[Violation] = []
    by_partition: dict[str, list[Span]] = {}
    for span in spans:
        by_partition.setdefault(span.partition, []).append(span)
    for partition, inside in by_partition.items():
        inside.sort(key=lambda span: span.since)
        latest: Span | None = None
        for span in inside:
            if latest is not None and latest.member != span.member and span.since < latest.until:
                windows = [*declared.get(latest.member, ()), *declared.get(span.member, ())]
                if not any(begin <= span.since <= end for begin, end in windows):
                    text = f"{partition}: {span.member} was inside while {latest.member} was, at {span.since:.3f}"
                    found.append(Violation("I8 one active", text))
            if latest is None or span.until > latest.until:
                latest = span
    return found


def check_transfer(source: ReadBack, target: ReadBack) -> list[Violation]:
    """A pipe: its target holds each message of its source once, in that order."""
    wanted = list(zip(source.producers, source.numbers, strict=True))
    got = list(zip(target.producers, target.numbers, strict=True))
    if wanted == got:
        return []
    lost, repeated = len(set(wanted) - set(got)), len(got) - len(set(got))
    order = "" if lost or repeated else ", out of order"
    return [Violation("exactly once", f"{target.stream}: {lost} missing, {repeated} repeated{order}")]


def check_bound(invariant: str, what: str, value: float, limit: float) -> list[Violation]:
    """Something that must not exceed a limit."""
    return [Violation(invariant, f"{what}: {value:g}, and {limit:g} is the limit")] if value > limit else []


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:SHOWN]))
    return shown + (", …" if len(numbers) > SHOWN else "")
