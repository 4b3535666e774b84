"""The broker's side of a conversation with a session, written down by the test: what it says, and what it heard."""

from __future__ import annotations

from actorstream.wire import commands as c
from actorstream.wire.frames import FrameBuffer
from actorstream.wire.session import Ended, Event, Session, SessionOptions, State

ADDRESS = "broker:5552"
OFFER = (
    c.CommandVersions(2, 1, 2),
    c.CommandVersions(0x1C, 1, 1),
    c.CommandVersions(0x1D, 1, 1),
    c.CommandVersions(0x1E, 1, 1),
)


class Talk:
    """One session, the clock, and the broker. Time stands still unless `wait` moves it."""

    def __init__(self, options: SessionOptions | None = None) -> None:
        self.now = 1000.0
        self.session = Session(options or SessionOptions(address=ADDRESS))
        self.frames = FrameBuffer(2**30)

    def heard(self) -> list[tuple[c.Command, int | None]]:
        """What the session said since the last time, with correlation ids."""
        return [c.decode(frame) for data in self.session.data_to_send() for frame in self.frames.feed(data)]

    def heard_one(self) -> tuple[c.Command, int]:
        """The one request that the session said."""
        [(command, correlation_id)] = self.heard()
        assert correlation_id is not None
        return command, correlation_id

    def say(self, command: c.Command, correlation_id: int | None = None) -> list[Event]:
        """Let the broker say something now."""
        return self.say_bytes(c.encode(command, correlation_id))

    def say_bytes(self, data: bytes) -> list[Event]:
        """The same for bytes."""
        return self.session.receive_data(data, self.now)

    def wait(self, seconds: float) -> list[Event]:
        """Let time pass, with a tick at every deadline on the way, as an owner would."""
        end = self.now + seconds
        events: list[Event] = []
        while (deadline := self.session.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            events += self.session.tick(self.now)
            assert (after := self.session.deadline()) is None or after > deadline, "a deadline has to be dealt with"
        self.now = end
        return events + self.session.tick(end)

    def reach(self, step: str, *, version: str = "4.0.5", tune: c.Tune | None = None) -> int:
        """Lead the handshake to a step ("done" for the end), and return the correlation id of the last request."""
        script: list[tuple[str, c.Command]] = [
            ("peer-properties", c.PeerPropertiesResponse(1, {"version": version})),
            ("sasl-handshake", c.SaslHandshakeResponse(1, ("PLAIN", "ANONYMOUS", "EXTERNAL"))),
            ("sasl-authenticate", c.SaslAuthenticateResponse(1)),
            ("tune", tune or c.Tune(1_048_576, 60)),
            ("open", c.OpenResponse(1, {"advertised_host": "broker", "advertised_port": "5552"})),
            ("exchange-command-versions", c.ExchangeCommandVersionsResponse(1, OFFER)),
        ]
        self.session.start(self.now)
        correlation_id: int | None = None
        for at, command in script:
            heard = self.heard()
            correlation_id = heard[-1][1] if heard else correlation_id
            if at == step or self.session.state is State.OPEN:
                break
            self.say(command, correlation_id if isinstance(command, c.Response) else None)
        return correlation_id or 0

    def open(self, *, version: str = "4.0.5", tune: c.Tune | None = None) -> Talk:
        """Lead the handshake to its end."""
        self.reach("done", version=version, tune=tune)
        assert self.session.state is State.OPEN
        return self


def error_of(events: list[Event]) -> Exception:
    """The error of an end that is the only event."""
    [event] = events
    assert isinstance(event, Ended)
    return event.error
