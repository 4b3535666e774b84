"""What a broker can do, by its version and by the versions that it exchanged (protocol section 8)."""

from __future__ import annotations

import pytest

from actorstream import offset
from actorstream.errors import UnsupportedByBroker
from actorstream.wire import commands as c
from actorstream.wire.capabilities import CLIENT_VERSIONS, Capabilities, Feature, parse_version
from actorstream.wire.constants import Key

# What RabbitMQ 4.0.5 lists: only the commands that clients send.
OFFER_4_0_5 = [
    c.CommandVersions(key, 1, 2 if key == Key.PUBLISH else 1)
    for key in (1, 2, 5, 6, 7, *range(9, 16), *range(22, 26), 28, 29, 30)
]


def broker(version: str, offer: list[c.CommandVersions] | None = None) -> Capabilities:
    capabilities = Capabilities({"version": version})
    if offer is not None:
        capabilities.learn(offer)
    return capabilities


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("4.0.5", (4, 0, 5)),
        ("4.1.0-rc.2", (4, 1, 0)),
        ("3.13.7+2.gabcdef", (3, 13, 7)),
        ("3.11", (3, 11)),
        ("", ()),
        ("unknown", ()),
    ],
)
def test_a_version_is_its_leading_numbers(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("version", "exchanges"),
    [("3.9.0", False), ("3.10.25", False), ("3.11.0", True), ("3.11", True), ("4.0.5", True), ("nonsense", False)],
)
def test_versions_are_exchanged_from_3_11_on(version: str, exchanges: bool) -> None:
    assert broker(version).exchanges_versions is exchanges


def test_a_broker_that_says_no_version_is_taken_for_the_oldest() -> None:
    capabilities = Capabilities({})
    assert capabilities.version_text == "unknown"
    assert not capabilities.exchanges_versions


def test_we_list_only_what_brokers_send() -> None:
    assert [(one.key, one.minimum, one.maximum) for one in CLIENT_VERSIONS] == [
        (3, 1, 1),
        (4, 1, 1),
        (8, 1, 2),
        (16, 1, 1),
        (26, 1, 1),
    ]


def test_an_old_broker_has_the_first_release_and_nothing_else() -> None:
    old = broker("3.10.1")
    assert [old.max_version(key) for key in Key] == [1 if key <= Key.PARTITIONS else 0 for key in Key]
    assert not any(old.supports(feature) for feature in Feature)


def test_a_new_broker_has_what_it_lists_and_what_needs_no_mention() -> None:
    new = broker("4.0.5", OFFER_4_0_5)
    versions = {key: new.max_version(key) for key in Key}
    assert {key for key, version in versions.items() if version == 2} == {Key.PUBLISH, Key.DELIVER}
    assert {key for key, version in versions.items() if version == 0} == {Key.RESOLVE_OFFSET_SPEC}
    assert [feature for feature in Feature if not new.supports(feature)] == [Feature.RESOLVE_OFFSET]


def test_filtering_counts_only_once_the_broker_lists_version_2_of_publish() -> None:
    assert not broker("3.13.0", [c.CommandVersions(Key.PUBLISH, 1, 1)]).supports(Feature.FILTERING)
    assert broker("3.13.0", [c.CommandVersions(Key.PUBLISH, 1, 2)]).supports(Feature.FILTERING)


def test_versions_newer_than_ours_are_not_ours() -> None:
    future = broker("9.0.0", [c.CommandVersions(Key.PUBLISH, 1, 9), c.CommandVersions(Key.CREATE, 2, 3)])
    assert future.max_version(Key.PUBLISH) == 2
    assert future.max_version(Key.CREATE) == 0
    assert future.max_version(0x20) == 0


@pytest.mark.parametrize(
    ("feature", "needed"),
    [
        (Feature.SINGLE_ACTIVE_CONSUMER, "3.11"),
        (Feature.STREAM_STATS, "3.11"),
        (Feature.FILTERING, "3.13"),
        (Feature.SUPER_STREAM_ADMIN, "3.13"),
        (Feature.RESOLVE_OFFSET, "4.3"),
    ],
)
def test_a_missing_feature_is_an_error_that_names_the_version_that_has_it(feature: Feature, needed: str) -> None:
    with pytest.raises(UnsupportedByBroker) as caught:
        broker("3.10.1").require(feature)
    assert (caught.value.feature, caught.value.needed, caught.value.broker) == (feature.value, needed, "3.10.1")


@pytest.mark.parametrize(
    "command",
    [
        c.StreamStats("s"),
        c.CreateSuperStream("s", (), ()),
        c.DeleteSuperStream("s"),
        c.ResolveOffsetSpec("s", offset.next()),
        c.Subscribe(0, "s", offset.next(), 1, {"single-active-consumer": "true", "name": "n"}),
        c.Subscribe(0, "s", offset.next(), 1, {"filter.0": "a"}),
    ],
)
def test_a_command_needs_the_features_that_it_makes_use_of(command: c.Command) -> None:
    with pytest.raises(UnsupportedByBroker):
        broker("3.10.1").require_command(command)
    resolve = c.CommandVersions(Key.RESOLVE_OFFSET_SPEC, 1, 1)
    broker("4.3.0", [*OFFER_4_0_5, resolve]).require_command(command)


def test_a_plain_command_needs_nothing() -> None:
    broker("3.9.0").require_command(c.Create("s"))
    broker("3.9.0").require_command(c.Subscribe(0, "s", offset.next(), 1, {"name": "n"}))


@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [
        (broker("3.10.25"), set(Feature)),
        (broker("4.0.5", OFFER_4_0_5), {Feature.RESOLVE_OFFSET}),
    ],
)
def test_the_features_of_a_broker_are_those_that_it_supports(capabilities: Capabilities, missing: set[Feature]) -> None:
    assert capabilities.features() == set(Feature) - missing
