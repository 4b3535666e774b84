"""The session as an owner sees it: every test is a conversation of bytes with a clock in its hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from actorstream import offset
from actorstream.errors import (
    Closed,
    ClosedByBroker,
    ConnectFailed,
    ConnectionLost,
    HeartbeatTimeout,
    InvalidArgument,
    MalformedFrame,
    UnsupportedByBroker,
)
from actorstream.wire import commands as c
from actorstream.wire.constants import HANDSHAKE_FRAME_LIMIT, OPEN_FRAME_LIMIT, Key
from actorstream.wire.session import (
    Answered,
    Ended,
    Event,
    Feature,
    Opened,
    Received,
    Session,
    SessionOptions,
    Skipped,
    State,
    TimedOut,
)
from tests.wire.talk import ADDRESS, Talk, error_of

STEPS = ["peer-properties", "sasl-handshake", "sasl-authenticate", "tune", "open", "exchange-command-versions"]


def lost_by_nonsense(events: list[Event], error: type[ConnectionLost]) -> None:
    lost = error_of(events)
    assert type(lost) is error
    assert isinstance(lost.__cause__, MalformedFrame)


# --- coming up ---


def test_an_open_session_knows_what_was_negotiated_and_what_the_broker_said() -> None:
    session = Talk().open(tune=c.Tune(65536, 20)).session
    assert (session.frame_max, session.heartbeat_s) == (65536, 20)
    assert (session.broker_version, session.broker_version_text) == ((4, 0, 5), "4.0.5")
    assert session.server_properties == {"version": "4.0.5"}
    assert session.connection_properties == {"advertised_host": "broker", "advertised_port": "5552"}
    assert session.max_version(Key.PUBLISH) == 2
    assert session.supports(Feature.FILTERING)
    session.require(Feature.FILTERING)


def test_a_session_is_started_once() -> None:
    talk = Talk().open()
    with pytest.raises(RuntimeError):
        talk.session.start(talk.now)


def test_before_the_start_there_is_nothing_to_do_or_to_send() -> None:
    session = Session(SessionOptions(address=ADDRESS))
    assert session.state is State.NEW
    assert session.deadline() is None
    assert session.tick(5.0) == []
    assert session.data_to_send() == []


def test_options_that_do_not_fit_are_refused_at_the_start() -> None:
    with pytest.raises(InvalidArgument):
        Session(SessionOptions(address=ADDRESS, connection_name="x" * 40_000)).start(0.0)


def test_options_that_turn_out_not_to_fit_end_the_session() -> None:
    talk = Talk(SessionOptions(address=ADDRESS, vhost="x" * 40_000))
    talk.reach("tune")
    assert isinstance(error_of(talk.say(c.Tune(0, 0))), InvalidArgument)


def test_no_step_is_sent_ahead_of_the_answer_to_the_one_before() -> None:
    for step in STEPS:
        talk = Talk()
        talk.reach(step)
        assert talk.heard() == []
        assert talk.wait(9.9) == []
        assert talk.heard() == []


@pytest.mark.parametrize("step", STEPS)
def test_f06_a_broker_that_goes_silent_in_the_handshake_is_given_up_at_that_step(step: str) -> None:
    talk = Talk()
    talk.reach(step)
    assert talk.session.deadline() == talk.now + 10
    assert talk.wait(9.9) == []
    error = error_of(talk.wait(0.1))
    assert isinstance(error, ConnectFailed)
    assert (error.address, error.step) == (ADDRESS, step)
    assert "10 s" in str(error)
    assert talk.session.deadline() is None


def test_f06_every_step_has_its_own_time_and_heartbeats_do_not_lengthen_it() -> None:
    talk = Talk(SessionOptions(address=ADDRESS, step_timeout_s=4))
    correlation_id = talk.reach("peer-properties")
    talk.wait(3)
    talk.say(c.PeerPropertiesResponse(1, {}), correlation_id)
    talk.wait(3)
    assert talk.say(c.Heartbeat()) == []
    error = error_of(talk.wait(1))
    assert isinstance(error, ConnectFailed)
    assert error.step == "sasl-handshake"


@pytest.mark.parametrize("step", STEPS)
def test_a_socket_that_is_closed_in_the_handshake_names_the_step(step: str) -> None:
    talk = Talk()
    talk.reach(step)
    error = error_of(talk.session.receive_eof(talk.now, "connection reset by peer"))
    assert isinstance(error, ConnectFailed)
    assert error.step == step
    assert "connection reset by peer" in str(error)


@pytest.mark.parametrize("step", STEPS)
def test_a_broker_that_closes_in_the_handshake_is_answered(step: str) -> None:
    talk = Talk()
    talk.reach(step)
    error = error_of(talk.say(c.Close(14, "frame too large"), 1))
    assert isinstance(error, ClosedByBroker)
    assert error.code == 14
    assert talk.heard() == [(c.CloseResponse(1), 1)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("command", [c.MetadataUpdate(6, "s"), c.CreditResponse(4, 1), c.Deliver(0, None, b"")])
def test_what_does_not_belong_into_the_handshake_ends_it(step: str, command: c.Command) -> None:
    talk = Talk()
    talk.reach(step)
    lost_by_nonsense(talk.say(command), ConnectFailed)


def test_an_answer_in_the_handshake_has_to_be_to_our_request() -> None:
    talk = Talk()
    correlation_id = talk.reach("peer-properties")
    lost_by_nonsense(talk.say(c.PeerPropertiesResponse(1, {}), correlation_id + 1), ConnectFailed)


def test_a_broker_that_speaks_before_the_start_is_none() -> None:
    talk = Talk()
    lost_by_nonsense(talk.say(c.Tune(1, 1)), ConnectFailed)


def test_f64_an_unknown_command_in_the_handshake_is_skipped() -> None:
    talk = Talk()
    correlation_id = talk.reach("peer-properties")
    [skipped] = talk.say_bytes(bytes.fromhex("00000006 0077 0001 abcd"))
    assert isinstance(skipped, Skipped)
    assert (skipped.error.key, skipped.error.version) == (0x77, 1)
    assert talk.say(c.PeerPropertiesResponse(1, {}), correlation_id) == []


def test_what_follows_the_last_step_in_the_same_bytes_is_received() -> None:
    talk = Talk()
    correlation_id = talk.reach("exchange-command-versions")
    data = c.encode(c.ExchangeCommandVersionsResponse(1, ()), correlation_id) + c.encode(c.MetadataUpdate(6, "s"))
    assert talk.say_bytes(data) == [Opened(), Received(c.MetadataUpdate(6, "s"), None)]


def test_a_peer_that_is_no_broker_cannot_make_us_store_much() -> None:
    talk = Talk()
    talk.reach("peer-properties")
    lost_by_nonsense(talk.say_bytes((HANDSHAKE_FRAME_LIMIT + 1).to_bytes(4, "big")), ConnectFailed)
    talk = Talk().open()
    assert talk.say_bytes((HANDSHAKE_FRAME_LIMIT + 1).to_bytes(4, "big")) == []
    talk = Talk().open()
    lost_by_nonsense(talk.say_bytes((OPEN_FRAME_LIMIT + 1).to_bytes(4, "big")), ConnectionLost)


def test_frame_max_without_limit_is_still_one_that_can_be_counted_on() -> None:
    talk = Talk(SessionOptions(address=ADDRESS, frame_max=0)).open(tune=c.Tune(0, 60))
    assert talk.session.frame_max == OPEN_FRAME_LIMIT


# --- requests and answers ---


def test_a_request_is_answered_under_its_correlation_id_well_or_not() -> None:
    talk = Talk().open()
    one = talk.session.request(c.Delete("a"), talk.now, 5)
    two = talk.session.request(c.QueryOffset("r", "a"), talk.now, 5)
    assert talk.heard() == [(c.Delete("a"), one), (c.QueryOffset("r", "a"), two)]
    assert talk.say(c.QueryOffsetResponse(19, 0), two) == [Answered(two, c.QueryOffsetResponse(19, 0))]
    assert talk.say(c.DeleteResponse(1), one) == [Answered(one, c.DeleteResponse(1))]


def test_answers_that_rabbitmq_3_10_gives_under_the_key_of_the_request_are_answers() -> None:
    talk = Talk().open()
    one = talk.session.request(c.Partitions("super"), talk.now, 5)
    two = talk.session.request(c.Route("key", "super"), talk.now, 5)
    partitions, route = c.PartitionsResponse(1, ("a", "b")), c.RouteResponse(2, ())
    for answer, correlation_id in ((partitions, one), (route, two)):
        frame = bytearray(c.encode(answer, correlation_id))
        frame[4] &= 0x7F
        assert talk.say_bytes(bytes(frame)) == [Answered(correlation_id, answer)]


def test_f07_a_request_without_answer_times_out_and_the_late_answer_is_ignored() -> None:
    talk = Talk().open(tune=c.Tune(0, 0))
    one = talk.session.request(c.Delete("a"), talk.now, 5)
    two = talk.session.request(c.Delete("b"), talk.now, 7)
    assert talk.session.deadline() == talk.now + 5
    assert talk.wait(4.9) == []
    assert talk.wait(0.1) == [TimedOut(one, c.Delete("a"), 5)]
    assert talk.say(c.DeleteResponse(1), one) == []
    assert talk.wait(10) == [TimedOut(two, c.Delete("b"), 7)]


def test_f07_an_answer_is_given_once() -> None:
    talk = Talk().open()
    one = talk.session.request(c.Delete("a"), talk.now, 5)
    talk.say(c.DeleteResponse(1), one)
    assert talk.say(c.DeleteResponse(1), one) == []
    assert talk.wait(5) == []


def test_an_answer_to_another_command_ends_the_session() -> None:
    talk = Talk().open()
    one = talk.session.request(c.Delete("a"), talk.now, 5)
    lost_by_nonsense(talk.say(c.CreateResponse(1), one), ConnectionLost)


def test_f88_a_secret_is_renewed_by_an_ordinary_request() -> None:
    talk = Talk().open()
    one = talk.session.request(c.SaslAuthenticate("PLAIN", b"\0guest\0new"), talk.now, 5)
    assert talk.say(c.SaslAuthenticateResponse(1), one) == [Answered(one, c.SaslAuthenticateResponse(1))]
    two = talk.session.request(c.SaslAuthenticate("EXTERNAL", b""), talk.now, 5)
    assert talk.say(c.SaslAuthenticateResponse(20), two) == [Answered(two, c.SaslAuthenticateResponse(20))]
    assert talk.session.state is State.OPEN


def test_a_command_that_the_broker_does_not_know_is_not_sent() -> None:
    talk = Talk().open(version="3.10.1")
    with pytest.raises(UnsupportedByBroker, match=r"3\.11.*3\.10\.1"):
        talk.session.request(c.StreamStats("s"), talk.now, 5)
    with pytest.raises(UnsupportedByBroker):
        talk.session.require(Feature.FILTERING)
    assert talk.heard() == []


def test_a_command_that_is_too_large_for_the_broker_is_not_sent() -> None:
    talk = Talk().open(tune=c.Tune(1024, 60))
    fits, does_not = "x" * (1024 - 10), "x" * (1024 - 9)
    talk.session.request(c.Delete(fits), talk.now, 5)
    with pytest.raises(InvalidArgument, match="1025 bytes"):
        talk.session.request(c.Delete(does_not), talk.now, 5)
    assert [command for command, _ in talk.heard()] == [c.Delete(fits)]
    assert talk.wait(4) == []


def test_a_command_without_answer_and_frames_made_before_are_sent_in_order() -> None:
    talk = Talk().open()
    publish = c.Publish(0, (c.PublishItem(1, b"a"),))
    talk.session.send(c.Credit(1, 1), talk.now)
    talk.session.send_frames([c.encode(publish), c.encode(publish)], talk.now)
    talk.session.send(c.StoreOffset("r", "s", 1), talk.now)
    assert talk.heard() == [
        (c.Credit(1, 1), None),
        (publish, None),
        (publish, None),
        (c.StoreOffset("r", "s", 1), None),
    ]


def test_a_request_cannot_be_sent_as_if_it_had_no_answer() -> None:
    talk = Talk().open()
    with pytest.raises(InvalidArgument):
        talk.session.send(c.Delete("s"), talk.now)
    assert talk.heard() == []


@pytest.mark.parametrize(
    "command",
    [
        c.PublishConfirm(1, (3, 1, 2)),
        c.PublishError(1, (c.PublishingError(1, 18),)),
        c.Deliver(1, 7, b"chunk"),
        c.Deliver(1, None, b"chunk"),
        c.CreditResponse(4, 1),
        c.MetadataUpdate(6, "s"),
    ],
)
def test_what_the_broker_sends_unasked_is_received(command: c.Command) -> None:
    [event] = Talk().open().say(command)
    assert isinstance(event, Received)
    assert (event.command, event.correlation_id) == (command, None)


def test_a_consumer_update_is_answered_under_the_brokers_own_correlation_id() -> None:
    talk = Talk().open()
    ours = talk.session.request(c.Delete("s"), talk.now, 5)
    talk.heard()
    update = c.ConsumerUpdate(1, active=True)
    assert talk.say(update, ours) == [Received(update, ours)]
    answer = c.ConsumerUpdateResponse(1, offset.at(5))
    talk.session.respond(answer, ours, talk.now)
    assert talk.heard() == [(answer, ours)]
    assert talk.say(c.DeleteResponse(1), ours) == [Answered(ours, c.DeleteResponse(1))]


@pytest.mark.parametrize("command", [c.Credit(1, 1), c.Tune(1, 1), c.Publish(0, ())])
def test_f64_what_brokers_never_send_is_skipped(command: c.Command) -> None:
    talk = Talk().open()
    [event] = talk.say(command)
    assert isinstance(event, Skipped)
    assert event.error.key == command.KEY
    assert isinstance(talk.say(c.Delete("s"), 1)[0], Skipped)
    assert talk.session.state is State.OPEN


def test_f64_an_unknown_frame_does_not_disturb_its_neighbours() -> None:
    talk = Talk().open()
    one = talk.session.request(c.Delete("a"), talk.now, 5)
    unknown = bytes.fromhex("00000009 8020 0001 0000000100")
    data = c.encode(c.MetadataUpdate(6, "s")) + unknown + c.encode(c.DeleteResponse(1), one)
    kinds = [type(event) for event in talk.say_bytes(data)]
    assert kinds == [Received, Skipped, Answered]


def test_a_malformed_frame_ends_the_session_after_what_came_before_it() -> None:
    talk = Talk().open()
    data = c.encode(c.MetadataUpdate(6, "s")) + bytes.fromhex("00000004 0003 0001") + c.encode(c.MetadataUpdate(6, "t"))
    first, *rest = talk.say_bytes(data)
    assert first == Received(c.MetadataUpdate(6, "s"), None)
    lost_by_nonsense(rest, ConnectionLost)


def test_a_frame_that_is_too_large_ends_the_session_after_what_came_before_it() -> None:
    talk = Talk().open()
    first, *rest = talk.say_bytes(c.encode(c.MetadataUpdate(6, "s")) + b"\xff\xff\xff\xff")
    assert first == Received(c.MetadataUpdate(6, "s"), None)
    lost_by_nonsense(rest, ConnectionLost)


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_any_split_of_a_whole_conversation_gives_the_same_events(data: st.DataObject) -> None:
    said = [
        c.encode(c.MetadataUpdate(6, "s")),
        c.encode(c.Deliver(1, 5, bytes(100))),
        c.encode(c.PublishConfirm(1, (1, 2, 3))),
        c.encode(c.ConsumerUpdate(1, active=False), 0),
        c.encode(c.Close(1, "bye"), 3),
    ]
    whole, split = Talk().open(), Talk().open()
    stream = b"".join(said)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    events = [
        event
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for event in split.say_bytes(stream[start:end])
    ]
    expected = whole.say_bytes(stream)
    assert events[:-1] == expected[:-1]
    assert isinstance(events[-1], Ended)
    assert str(events[-1].error) == str(error_of(expected[-1:]))


@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=200))
def test_no_bytes_at_all_make_an_open_session_raise(data: bytes) -> None:
    talk = Talk().open()
    events = talk.say_bytes(data)
    ends = [event for event in events if isinstance(event, Ended)]
    assert ends in ([], events[-1:])
    assert (talk.session.state is State.ENDED) is bool(ends)


# --- alive or not ---


def test_f90_a_heartbeat_is_sent_when_nothing_else_was_sent_for_half_the_interval() -> None:
    talk = Talk().open(tune=c.Tune(0, 10))
    start = talk.now
    assert talk.session.deadline() == start + 5
    assert talk.wait(4.9) == []
    assert talk.heard() == []
    assert talk.wait(0.1) == []
    assert talk.heard() == [(c.Heartbeat(), None)]
    assert talk.session.deadline() == start + 10


def test_f90_whatever_is_sent_puts_the_next_heartbeat_off() -> None:
    talk = Talk().open(tune=c.Tune(0, 10))
    senders: list[Callable[[], None]] = [
        lambda: talk.session.send(c.Credit(1, 1), talk.now),
        lambda: talk.session.send_frames([c.encode(c.Publish(0, ()))], talk.now),
        lambda: talk.session.respond(c.ConsumerUpdateResponse(1, offset.next()), 0, talk.now),
    ]
    for send in senders:
        talk.wait(4)
        send()
        talk.say(c.Heartbeat())
    talk.wait(4.9)
    assert c.Heartbeat() not in [command for command, _ in talk.heard()]
    talk.wait(0.1)
    assert talk.heard() == [(c.Heartbeat(), None)]


def test_f90_a_broker_that_is_silent_for_two_intervals_is_dead() -> None:
    talk = Talk().open(tune=c.Tune(0, 10))
    assert talk.wait(19.9) == []
    error = error_of(talk.wait(0.1))
    assert isinstance(error, HeartbeatTimeout)
    assert ADDRESS in str(error)
    assert "20.0 s" in str(error)


def test_f90_any_byte_shows_that_the_broker_is_alive() -> None:
    talk = Talk().open(tune=c.Tune(0, 10))
    for byte in c.encode(c.MetadataUpdate(6, "s")):
        assert talk.wait(19) == []
        talk.say_bytes(bytes([byte]))
    assert talk.wait(19) == []


def test_f90_heartbeats_received_are_not_events() -> None:
    assert Talk().open().say(c.Heartbeat()) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"), [(60, 60, 60), (60, 5, 5), (5, 60, 5), (0, 60, 60), (60, 0, 60), (0, 0, 0)]
)
def test_f90_a_zero_on_one_side_gives_way_and_on_both_sides_is_off(ours: int, theirs: int, agreed: int) -> None:
    talk = Talk(SessionOptions(address=ADDRESS, heartbeat_s=ours, frame_max=0)).open(tune=c.Tune(0, theirs))
    assert talk.session.heartbeat_s == agreed


def test_f90_without_heartbeats_silence_means_nothing() -> None:
    talk = Talk(SessionOptions(address=ADDRESS, heartbeat_s=0)).open(tune=c.Tune(0, 0))
    assert talk.session.deadline() is None
    assert talk.wait(1_000_000) == []
    assert talk.heard() == []


def test_f56_after_a_stall_bytes_that_are_received_first_save_the_connection() -> None:
    talk = Talk().open(tune=c.Tune(0, 10))
    talk.now += 100
    assert talk.say(c.Heartbeat()) == []
    assert talk.session.tick(talk.now) == []
    assert talk.heard() == [(c.Heartbeat(), None)]


# --- the end ---


def test_a_polite_close_waits_for_its_answer_and_receives_what_comes_before_it() -> None:
    talk = Talk().open()
    assert talk.session.close(talk.now) == []
    assert talk.session.state is State.CLOSING
    close, correlation_id = talk.heard_one()
    assert close == c.Close(1, "OK")
    assert talk.say(c.PublishConfirm(1, (1,))) == [Received(c.PublishConfirm(1, (1,)), None)]
    error = error_of(talk.say(c.CloseResponse(1), correlation_id))
    assert isinstance(error, Closed)
    assert error.__cause__ is None
    assert talk.session.deadline() is None


def test_a_close_says_the_code_and_reason_that_it_was_given_and_only_once() -> None:
    talk = Talk().open()
    talk.session.close(talk.now, 17, "enough")
    assert talk.heard_one()[0] == c.Close(17, "enough")
    assert talk.session.close(talk.now) == []
    assert talk.heard() == []


def test_a_reason_that_cannot_be_sent_leaves_the_session_open() -> None:
    talk = Talk().open()
    with pytest.raises(InvalidArgument):
        talk.session.close(talk.now, 1, "x" * 40_000)
    assert talk.session.state is State.OPEN


def test_requests_before_a_close_are_still_answered_or_time_out() -> None:
    talk = Talk().open()
    one = talk.session.request(c.Delete("a"), talk.now, 60)
    two = talk.session.request(c.Delete("b"), talk.now, 2)
    talk.session.close(talk.now)
    assert talk.say(c.DeleteResponse(1), one) == [Answered(one, c.DeleteResponse(1))]
    assert talk.wait(2) == [TimedOut(two, c.Delete("b"), 2)]


def test_a_close_that_is_not_answered_ends_by_itself() -> None:
    for heartbeat in (0, 60):
        talk = Talk(SessionOptions(address=ADDRESS, heartbeat_s=0)).open(tune=c.Tune(0, heartbeat))
        talk.session.close(talk.now)
        assert talk.session.deadline() == talk.now + 5
        assert talk.wait(4.9) == []
        assert isinstance(error_of(talk.wait(0.1)), Closed)


def test_a_request_deadline_before_that_of_a_close_comes_first() -> None:
    talk = Talk().open()
    talk.session.request(c.Delete("a"), talk.now, 2)
    talk.session.close(talk.now)
    assert talk.session.deadline() == talk.now + 2


@pytest.mark.parametrize("how", ["eof", "broker", "nonsense", "silence"])
def test_a_session_that_is_being_closed_is_closed_whatever_ends_it(how: str) -> None:
    talk = Talk(SessionOptions(address=ADDRESS, close_timeout_s=100)).open(tune=c.Tune(0, 10))
    talk.session.close(talk.now)
    talk.heard()
    ends = {
        "eof": lambda: talk.session.receive_eof(talk.now),
        "broker": lambda: talk.say(c.Close(1, "me too"), 9),
        "nonsense": lambda: talk.say_bytes(bytes(4)),
        "silence": lambda: talk.wait(20),
    }
    causes = {"eof": ConnectionLost, "broker": ClosedByBroker, "nonsense": ConnectionLost, "silence": HeartbeatTimeout}
    error = error_of(ends[how]())
    assert isinstance(error, Closed)
    assert type(error.__cause__) is causes[how]
    assert (c.CloseResponse(1), 9) in talk.heard() or how != "broker"


@pytest.mark.parametrize("step", [None, *STEPS])
def test_a_close_before_the_session_is_open_ends_it_at_once(step: str | None) -> None:
    talk = Talk()
    if step is not None:
        talk.reach(step)
    assert isinstance(error_of(talk.session.close(talk.now)), Closed)
    assert talk.heard() == []
    assert talk.session.close(talk.now) == []


def test_f12_a_close_of_the_broker_is_answered_and_ends_the_session_with_its_code() -> None:
    talk = Talk().open()
    talk.session.request(c.Delete("a"), talk.now, 5)
    talk.heard()
    error = error_of(talk.say(c.Close(13, "unknown frame"), 1))
    assert isinstance(error, ClosedByBroker)
    assert (error.code, error.reason) == (13, "unknown frame")
    assert talk.heard() == [(c.CloseResponse(1), 1)]
    assert talk.wait(100) == []


def test_f12_what_follows_a_close_of_the_broker_is_ignored() -> None:
    talk = Talk().open()
    data = c.encode(c.Close(1, "bye"), 1) + c.encode(c.MetadataUpdate(6, "s"))
    assert isinstance(error_of(talk.say_bytes(data)), ClosedByBroker)


def test_f13_what_arrives_with_the_eof_is_received_before_it() -> None:
    talk = Talk().open()
    one = talk.session.request(c.Delete("a"), talk.now, 5)
    events = talk.say_bytes(c.encode(c.PublishConfirm(0, (1, 2))) + c.encode(c.DeleteResponse(1), one) + b"\0\0")
    assert events == [Received(c.PublishConfirm(0, (1, 2)), None), Answered(one, c.DeleteResponse(1))]
    error = error_of(talk.session.receive_eof(talk.now))
    assert type(error) is ConnectionLost
    assert "the broker closed the socket" in str(error)


def test_a_session_ends_once() -> None:
    talk = Talk().open()
    assert isinstance(error_of(talk.session.receive_eof(talk.now)), ConnectionLost)
    assert talk.session.receive_eof(talk.now) == []
    assert talk.say(c.MetadataUpdate(6, "s")) == []
    assert talk.session.close(talk.now) == []
    assert talk.wait(1000) == []
    assert talk.session.deadline() is None


@pytest.mark.parametrize("state", [State.NEW, State.HANDSHAKE, State.CLOSING, State.ENDED])
def test_nothing_can_be_sent_unless_the_session_is_open(state: State) -> None:
    talk = Talk()
    if state is State.HANDSHAKE:
        talk.reach("open")
    elif state is not State.NEW:
        talk.open().session.close(talk.now)
    if state is State.ENDED:
        talk.session.receive_eof(talk.now)
    talk.heard()
    session, now = talk.session, talk.now
    for send in (
        lambda: session.request(c.Delete("s"), now, 5),
        lambda: session.send(c.Credit(1, 1), now),
        lambda: session.send_frames([b""], now),
        lambda: session.respond(c.ConsumerUpdateResponse(1, offset.next()), 0, now),
    ):
        with pytest.raises(ConnectionLost, match=f"{ADDRESS} is not open but {state.value}"):
            send()
    assert session.state is state
    assert session.data_to_send() == []
