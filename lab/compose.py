"""The compose project of this checkout: its name, its ports, its image, its containers.

Every checkout has brokers of its own, so that one never restarts, reconfigures or fills a broker that another is
testing with. The project's name comes from the checkout's path. Ports come in blocks a hundred apart: block 0 is what
compose.yml says (streams on 5552), and the first block whose ports are all free is taken. The choice is written to
`.env`, where `docker compose` itself reads it.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket

from lab.shell import ROOT, LabError, run, say

PROJECT = f"actorstream-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"

_ENV_FILE = ROOT / ".env"
_COMPOSE_FILE = ROOT / "compose.yml"
_BLOCK = 100
_BLOCKS = 20


def up(*services: str, image: str | None = None, variable: str = "RABBITMQ_IMAGE") -> None:
    """Create and start services, and return when their containers are healthy.

    `image` None means: the one of the last time. `variable` is what compose.yml calls it. A container that already runs
    with the same image, ports and configuration is left as it is.

    Raises:
        LabError: no image is known yet, no block of ports is free, or the containers do not get healthy.
    """
    image = image or settings().get(variable)
    if not image:
        raise LabError("no broker image has been chosen for this checkout yet: run `make up`")
    _choose({variable: image})
    say(f"starting {', '.join(services)} ({image}, project {PROJECT})")
    # -V: a new container never inherits the data of one that had another version.
    compose("up", "--detach", "--wait", "--renew-anon-volumes", "--quiet-pull", *services, timeout_s=300.0)


def down() -> None:
    """Remove every container, network and volume of this checkout."""
    compose("down", "--volumes", "--timeout", "3", timeout_s=120.0)


def compose(*arguments: str, timeout_s: float = 60.0) -> str:
    """Run a compose command on this checkout's project, all profiles included."""
    project = ("--project-name", PROJECT, "--file", str(_COMPOSE_FILE), "--profile", "*")
    # The file decides: a RABBITMQ_IMAGE of the environment was heard when it was written.
    environment = {name: value for name, value in os.environ.items() if name not in settings()}
    return run("docker", "compose", *project, *arguments, timeout_s=timeout_s, env=environment)


def settings() -> dict[str, str]:
    """What `.env` says: the image and the ports of this checkout; empty before the first `up`."""
    if not _ENV_FILE.exists():
        return {}
    lines = [line for line in _ENV_FILE.read_text().splitlines() if "=" in line and not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    # A copied folder brings the file of the one it was copied from.
    return found if found.get("COMPOSE_PROJECT_NAME") == PROJECT else {}


def container_of(service: str) -> str:
    """The id of a service's container, running or not.

    Raises:
        LabError: it was never started.
    """
    found = compose("ps", "--all", "--quiet", service)
    if not found:
        raise LabError(f"the service {service!r} has no container: it was not started")
    return found.splitlines()[0]


def _choose(images: dict[str, str]) -> None:
    """Write `.env`: these images, and a block of ports that are free or held by our own containers."""
    defaults = {name: int(port) for name, port in re.findall(r"\$\{(\w+_PORT):-(\d+)\}", _COMPOSE_FILE.read_text())}
    known = {name: int(port) for name, port in settings().items() if name.endswith("_PORT")}
    images = {name: image for name, image in settings().items() if name.endswith("_IMAGE")} | images
    candidates = [{name: port + _BLOCK * block for name, port in defaults.items()} for block in range(_BLOCKS)]
    if known.keys() == defaults.keys():
        if compose("ps", "--quiet"):  # our own containers hold some of them
            candidates = [known]
        else:
            candidates.insert(0, known)
    ports = next((block for block in candidates if block is known or all(map(_free, block.values()))), None)
    if ports is None:
        raise LabError(f"no block of {len(defaults)} free ports on localhost, from {min(defaults.values())} up")
    lines = [
        "# Written by the lab (make up): which brokers are this checkout's. Delete it to choose again.",
        f"COMPOSE_PROJECT_NAME={PROJECT}",
        *(f"{name}={image}" for name, image in images.items()),
        f"CONFIGURATION_HASH={_configuration_hash()}",
        *(f"{name}={port}" for name, port in ports.items()),
    ]
    _ENV_FILE.write_text("\n".join(lines) + "\n")


def _configuration_hash() -> str:
    files = sorted((ROOT / "lab" / "conf").iterdir())
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
