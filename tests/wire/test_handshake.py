"""The steps of the handshake: what is said at each, and what a refusal comes to."""

from __future__ import annotations

import pytest

from actorstream.errors import (
    AuthenticationFailure,
    InvalidArgument,
    MalformedFrame,
    ResponseError,
    SaslChallenge,
    SaslMechanismNotSupported,
    VirtualHostAccessFailure,
)
from actorstream.wire import commands as c
from actorstream.wire.capabilities import CLIENT_VERSIONS
from actorstream.wire.handshake import Handshake, SessionOptions, negotiate, sasl_authenticate

OFFER = c.SaslHandshakeResponse(1, ("PLAIN", "ANONYMOUS", "EXTERNAL"))


def handshake(**options: object) -> Handshake:
    return Handshake(SessionOptions(address="broker:5552", **options))  # type: ignore[arg-type]


def advance(handshake: Handshake, *said: c.Command) -> list[c.Command]:
    """What the client says to the last of what the broker says."""
    replies: list[c.Command] = [handshake.begin()]
    for command in said:
        replies = handshake.advance(command)
    return replies


def peer(version: str) -> c.PeerPropertiesResponse:
    return c.PeerPropertiesResponse(1, {"version": version})


def test_the_steps_are_taken_in_order() -> None:
    client = handshake(vhost="/v")
    steps = [client.step]
    said: list[c.Command] = [client.begin()]
    for command in (
        peer("4.0.5"),
        OFFER,
        c.SaslAuthenticateResponse(1),
        c.Tune(1000, 7),
        c.OpenResponse(1, {"advertised_host": "h"}),
        c.ExchangeCommandVersionsResponse(1, (c.CommandVersions(2, 1, 2),)),
    ):
        said += client.advance(command)
        steps.append(client.step)
    assert steps == [
        "peer-properties",
        "sasl-handshake",
        "sasl-authenticate",
        "tune",
        "open",
        "exchange-command-versions",
        "done",
    ]
    assert said[1:] == [
        c.SaslHandshake(),
        c.SaslAuthenticate("PLAIN", b"\0guest\0guest"),
        c.Tune(1000, 7),
        c.Open("/v"),
        c.ExchangeCommandVersions(CLIENT_VERSIONS),
    ]
    assert client.server_properties == {"version": "4.0.5"}
    assert client.connection_properties == {"advertised_host": "h"}
    assert client.capabilities.max_version(2) == 2


@pytest.mark.parametrize(("version", "exchanges"), [("3.10.25", False), ("3.11.0", True), ("", False)])
def test_versions_are_exchanged_only_with_brokers_that_know_how(version: str, exchanges: bool) -> None:
    client = handshake()
    said = advance(client, peer(version), OFFER, c.SaslAuthenticateResponse(1), c.Tune(0, 0), c.OpenResponse(1, {}))
    assert said == ([c.ExchangeCommandVersions(CLIENT_VERSIONS)] if exchanges else [])
    assert client.step == ("exchange-command-versions" if exchanges else "done")


def test_the_client_tells_what_it_is_and_what_the_options_add_or_replace() -> None:
    assert handshake().begin().properties == {"product": "actorstream", "platform": "Python"}
    options = {"platform": "CPython 3.13", "version": "1.2"}
    assert handshake(properties=options, connection_name="mine").begin().properties == {
        "product": "actorstream",
        "platform": "CPython 3.13",
        "version": "1.2",
        "connection_name": "mine",
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [(10, 20, 10), (20, 10, 10), (10, 10, 10), (0, 10, 10), (10, 0, 10), (0, 0, 0)],
)
def test_the_smaller_wins_and_zero_gives_way(ours: int, theirs: int, agreed: int) -> None:
    assert negotiate(ours, theirs) == agreed
    client = handshake(frame_max=ours, heartbeat_s=ours)
    said = advance(client, peer("4.0.5"), OFFER, c.SaslAuthenticateResponse(1), c.Tune(theirs, theirs))
    assert said[0] == c.Tune(agreed, agreed)
    assert (client.frame_max, client.heartbeat_s) == (agreed, agreed)


@pytest.mark.parametrize(
    ("mechanism", "data"),
    [("PLAIN", "\0jürgen\0pässword".encode()), ("ANONYMOUS", b""), ("EXTERNAL", b"")],
)
def test_each_mechanism_has_its_own_data(mechanism: str, data: bytes) -> None:
    client = handshake(mechanism=mechanism, username="jürgen", password="pässword")
    assert advance(client, peer("4.0.5"), OFFER) == [c.SaslAuthenticate(mechanism, data)]


@pytest.mark.parametrize("offer", [(), ("AMQPLAIN", "ANONYMOUS")])
def test_a_mechanism_that_is_not_offered_is_not_tried(offer: tuple[str, ...]) -> None:
    client = handshake()
    with pytest.raises(SaslMechanismNotSupported, match=", ".join(offer) or "offers none"):
        advance(client, peer("4.0.5"), c.SaslHandshakeResponse(1, offer))


def test_f87_refused_credentials_name_the_user_and_not_the_password() -> None:
    client = handshake(username="someone", password="secret")
    with pytest.raises(AuthenticationFailure, match="someone") as caught:
        advance(client, peer("4.0.5"), OFFER, c.SaslAuthenticateResponse(8))
    assert "secret" not in str(caught.value)
    assert "broker:5552" in str(caught.value)
    assert not caught.value.retryable


def test_a_challenge_is_one_that_we_cannot_meet() -> None:
    client = handshake(mechanism="EXTERNAL")
    with pytest.raises(SaslChallenge):
        advance(client, peer("4.0.5"), OFFER, c.SaslAuthenticateResponse(10, b"why?"))


def test_a_refused_virtual_host_is_named() -> None:
    client = handshake(vhost="nope")
    with pytest.raises(VirtualHostAccessFailure, match="vhost 'nope'"):
        advance(client, peer("4.0.5"), OFFER, c.SaslAuthenticateResponse(1), c.Tune(0, 0), c.OpenResponse(12, {}))


def test_a_refusal_with_a_code_that_is_not_known_carries_it() -> None:
    client = handshake()
    with pytest.raises(ResponseError, match=r"code 999.*peer-properties"):
        advance(client, c.PeerPropertiesResponse(999, {}))


@pytest.mark.parametrize(
    "command", [OFFER, c.SaslAuthenticateResponse(8), c.Tune(0, 0), c.CreditResponse(4, 1), c.DeleteResponse(2)]
)
def test_what_comes_out_of_order_is_no_answer_and_no_refusal(command: c.Command) -> None:
    client = handshake()
    with pytest.raises(MalformedFrame, match=type(command).__name__):
        client.advance(command)
    assert client.step == "peer-properties"


@pytest.mark.parametrize("options", [{"mechanism": "AMQPLAIN"}, {"username": "a\0b"}, {"password": "secret\0"}])
def test_options_that_cannot_work_are_refused_at_once(options: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        handshake(**options)
    assert "secret" not in str(caught.value)


def test_a_password_that_is_no_text_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidArgument) as caught:
        sasl_authenticate("PLAIN", "user", "secret\udcff")
    assert "secret" not in str(caught.value)


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(SessionOptions(address="a", password="secret"))
