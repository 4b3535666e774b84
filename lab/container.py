"""One container: its state, commands inside it, and what can be done to it from outside.

Each method that changes something returns once the change is seen, or raises `LabError`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from lab.shell import LabError, run, wait_until


@dataclass(frozen=True)
class Container:
    """A container by its id."""

    id: str

    def running(self) -> bool:
        """Whether its first process exists; True while paused."""
        return bool(self._state()["Running"])

    def paused(self) -> bool:
        """Whether its processes are frozen."""
        return bool(self._state()["Paused"])

    def started_at(self) -> str:
        """When it was last started, as text that changes with every start."""
        return str(self._state()["StartedAt"])

    def exec(self, *argv: str, timeout_s: float = 60.0) -> str:
        """Run a command in it, as root, and return its stdout."""
        return run("docker", "exec", self.id, *argv, timeout_s=timeout_s)

    def logs(self, lines: int = 50) -> str:
        """The last lines of its output, stderr left out: the broker logs to stdout."""
        return run("docker", "logs", "--tail", str(lines), self.id)

    def kill(self) -> None:
        """End its first process with SIGKILL."""
        run("docker", "kill", self.id)
        wait_until(lambda: not self.running(), "the killed container is down", 10.0)

    def stop(self, grace_s: int = 20) -> None:
        """End it with SIGTERM, and with SIGKILL after `grace_s` seconds."""
        run("docker", "stop", "--time", str(grace_s), self.id, timeout_s=grace_s + 30.0)
        wait_until(lambda: not self.running(), "the stopped container is down", 10.0)

    def start(self) -> None:
        """Start it again, with its data; nothing happens where it runs, since somebody healed all that was broken."""
        if self.running():
            return
        before = self.started_at()
        run("docker", "start", self.id)
        wait_until(lambda: self.running() and self.started_at() != before, "the container is started", 10.0)

    def pause(self) -> None:
        """Freeze its processes: connections stay open, and nothing answers."""
        run("docker", "pause", self.id)
        wait_until(self.paused, "the container is frozen", 10.0)

    def unpause(self) -> None:
        """Undo `pause`."""
        run("docker", "unpause", self.id)
        wait_until(lambda: not self.paused(), "the container goes on", 10.0)

    def addresses(self) -> list[str]:
        """Its IP addresses; they may differ after a start."""
        networks = json.loads(run("docker", "inspect", "--format", "{{json .NetworkSettings.Networks}}", self.id))
        return [network["IPAddress"] for network in networks.values() if network["IPAddress"]]

    def iptables(self, *arguments: str) -> str:
        """Run iptables in its network namespace; rules are gone after a stop or kill.

        From the host, which works with any image; that takes root. Otherwise the image must have iptables itself.
        """
        if os.geteuid() == 0:
            return run("nsenter", "--target", str(self._state()["Pid"]), "--net", "iptables", "--wait", *arguments)
        return self.exec("iptables", "--wait", *arguments)

    def dropped_packets(self) -> int:
        """How many packets rules have dropped since they were made."""
        lines = self.iptables("--list", "--verbose", "--exact", "--numeric").splitlines()
        return sum(int(line.split()[0]) for line in lines if " DROP " in line and line.split()[0].isdigit())

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(run("docker", "inspect", "--format", "{{json .State}}", self.id))
        if not state:
            raise LabError(f"no container {self.id}")
        return state
