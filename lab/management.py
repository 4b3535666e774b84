"""The broker's management API: what a test sees of a broker from outside, and what it declares there.

Over HTTP, since each call of the broker's command line costs a second of CPU. A connection, publisher or consumer shows
up here a second later (five, on a broker without the lab's configuration): the methods that wait are the ones to use.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from lab.shell import LabError, wait_until

Row = dict[str, Any]
"""One object of the management API, as it comes: its documentation says which keys there are."""


class Refused(LabError):
    """The management API answered with an error; `status` is HTTP's code."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class NotFound(Refused):
    """The management API answered 404."""


@dataclass(frozen=True)
class Management:
    """The management API at `url`, such as http://localhost:15672, as a user with the administrator tag.

    Every method raises `LabError` when the broker does not answer within `timeout_s` seconds or refuses.
    """

    url: str
    user: str = "guest"
    password: str = "guest"
    timeout_s: float = 5.0

    def call(self, method: str, *path: str, body: object = None) -> Any:
        """Call the API below /api; each part of `path` is quoted, so "/" may be one. None for an empty answer."""
        target = urlsplit(self.url)
        secret = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {secret}", "Content-Type": "application/json"}
        name = "/".join(("/api", *(quote(part, safe="") for part in path)))
        kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
        connection = kind(target.hostname or "localhost", target.port, timeout=self.timeout_s)
        try:
            connection.request(method, name, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"{method} {self.url}{name}: {error!r}") from error
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            refusal = NotFound if response.status == http.client.NOT_FOUND else Refused
            text = content[:500].decode(errors="replace")
            raise refusal(f"{method} {self.url}{name}: {response.status} {text}", response.status)
        return json.loads(content) if content.strip() else None

    # What is there

    def version(self) -> tuple[int, ...]:
        """The broker's version, such as (4, 0, 5)."""
        numbers = re.match(r"\d+(\.\d+)*", str(self.call("GET", "overview")["rabbitmq_version"]))
        return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()

    def nodes(self) -> list[Row]:
        """The nodes of the cluster, with `name`, `running`, `mem_alarm`, ..."""
        return list(self.call("GET", "nodes"))

    def connections(self, name: str | None = None) -> list[Row]:
        """Stream connections; with `name`, those whose client-provided name (`connection_name`) is that.

        A number at its end may be left out: "orders-publisher" means "orders-publisher-3" too.
        """
        rows: list[Row] = self.call("GET", "stream", "connections")
        names = [row.get("client_properties", {}).get("connection_name", "") for row in rows]
        wanted = re.compile(r".*" if name is None else rf"{re.escape(name)}(-\d+)?")
        return [row for row, given in zip(rows, names, strict=True) if wanted.fullmatch(given)]

    def publishers(self, stream: str | None = None, vhost: str = "/") -> list[Row]:
        """Publishers declared over the stream protocol."""
        return list(self.call("GET", "stream", "publishers", vhost, *([stream] if stream else [])))

    def consumers(self, stream: str | None = None, vhost: str = "/") -> list[Row]:
        """Consumers subscribed over the stream protocol."""
        rows: list[Row] = self.call("GET", "stream", "consumers", vhost)
        return [row for row in rows if stream is None or row["queue"]["name"] == stream]

    def alarms(self) -> bool:
        """Whether a resource alarm (memory, disk) is in effect anywhere in the cluster."""
        try:
            self.call("GET", "health", "checks", "alarms")
        except Refused as error:
            if error.status == http.client.SERVICE_UNAVAILABLE:
                return True
            raise
        return False

    # Connections

    def wait_connections(self, name: str, count: int = 1, within_s: float = 10.0) -> list[Row]:
        """Wait until exactly `count` connections have that name (see `connections`), and return them."""
        wait_until(lambda: len(self.connections(name)) == count, f"{count} connections named {name!r}", within_s)
        return self.connections(name)

    def close_connections(self, name: str, within_s: float = 10.0) -> int:
        """Close the connections with that client-provided name; return how many, once all of them are gone.

        Raises:
            LabError: there was none to close, or one would not go.
        """
        rows = self.wait_some_connection(name, within_s)
        for row in rows:
            try:
                self.call("DELETE", "stream", "connections", row["vhost"], row["name"])
            except NotFound:  # it went by itself meanwhile
                continue
        old = {row["name"] for row in rows}
        wait_until(
            lambda: not old & {row["name"] for row in self.connections()}, f"connections {name!r} are closed", within_s
        )
        return len(rows)

    def wait_some_connection(self, name: str, within_s: float = 10.0) -> list[Row]:
        """Wait until at least one connection has that client-provided name, and return all that have."""
        wait_until(lambda: bool(self.connections(name)), f"a connection named {name!r}", within_s)
        return self.connections(name)

    # Streams, vhosts, users

    def create_stream(self, name: str, arguments: Mapping[str, str | int] | None = None, vhost: str = "/") -> None:
        """Create a stream; arguments such as {"max-age": "1h"}, without their x- prefix."""
        named = {f"x-{key}": value for key, value in (arguments or {}).items()}
        body = {"durable": True, "arguments": {"x-queue-type": "stream", **named}}
        self.call("PUT", "queues", vhost, name, body=body)

    def delete_stream(self, name: str, vhost: str = "/") -> bool:
        """Delete a stream; False where there was none."""
        try:
            self.call("DELETE", "queues", vhost, name)
        except NotFound:
            return False
        return True

    def stream(self, name: str, vhost: str = "/") -> Row:
        """A stream's row: `leader`, `members`, `online`, `messages`, `arguments`, ...

        Raises:
            NotFound: there is no such stream.
        """
        return dict(self.call("GET", "queues", vhost, name))

    def streams(self, prefix: str = "", vhost: str = "/") -> list[str]:
        """The names of the streams that begin with `prefix`."""
        rows: list[Row] = self.call("GET", "queues", vhost)
        return [row["name"] for row in rows if row.get("type") == "stream" and row["name"].startswith(prefix)]

    def delete_prefix(self, prefix: str, vhost: str = "/", within_s: float = 15.0) -> None:
        """Delete the streams and exchanges whose names begin with `prefix`; super streams consist of both."""

        def left() -> list[tuple[str, str]]:
            listed = [(kind, row["name"]) for kind in ("queues", "exchanges") for row in self.call("GET", kind, vhost)]
            return [(kind, name) for kind, name in listed if name.startswith(prefix)]

        def gone() -> bool:
            for kind, name in left():
                with contextlib.suppress(NotFound):  # a stream that is being recovered is listed, and not found
                    self.call("DELETE", kind, vhost, name)
            return not left()

        wait_until(gone, f"nothing is left of {prefix}*", within_s)

    def add_partition(self, super_stream: str, stream: str, key: str, order: int, vhost: str = "/") -> None:
        """Bind a stream to a super stream as one more partition; the protocol has no command for that."""
        body = {"routing_key": key, "arguments": {"x-stream-partition-order": order}}
        self.call("POST", "bindings", vhost, "e", super_stream, "q", stream, body=body)

    def remove_partition(self, super_stream: str, stream: str, vhost: str = "/") -> None:
        """Undo all bindings of a stream to a super stream; the stream stays."""
        for row in self.call("GET", "bindings", vhost, "e", super_stream, "q", stream):
            self.call("DELETE", "bindings", vhost, "e", super_stream, "q", stream, row["properties_key"])

    def put_vhost(self, name: str) -> None:
        """Create a virtual host; the user that this API is used as may do everything in it."""
        self.call("PUT", "vhosts", name, body={})
        self.put_permissions(self.user, name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with everything in it."""
        self.call("DELETE", "vhosts", name)

    def put_user(self, name: str, password: str, tags: str = "") -> None:
        """Create a user, or change its password; it may enter no virtual host before `put_permissions`."""
        self.call("PUT", "users", name, body={"password": password, "tags": tags})

    def delete_user(self, name: str) -> None:
        """Delete a user; the broker closes its connections."""
        self.call("DELETE", "users", name)

    def put_permissions(
        self, user: str, vhost: str = "/", configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Let a user into a virtual host, with one regular expression for each kind of access."""
        self.call("PUT", "permissions", vhost, user, body={"configure": configure, "write": write, "read": read})
