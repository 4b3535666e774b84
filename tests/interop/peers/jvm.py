"""The Java client of the RabbitMQ team, in one Java process that serves request after request.

`python -m tests.interop.peers.jvm` sets it up (`make test` does that first): a JDK and Maven where they are missing,
the jars of `java/pom.xml`, and `java/*.java` compiled. All of that is kept in `.lab/java`, and made anew when a file
of `java/` changes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import select
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from lab import engine
from lab.shell import ROOT, STATE, LabError, run, run_logged, say

_SOURCES = Path(__file__).with_name("java")
_FOLDER = STATE / "java"
_JARS = _FOLDER / "jars"
_CLASSES = _FOLDER / "classes"
_DONE = _FOLDER / "installed"
_LOG = STATE / "java-peer.log"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


@functools.cache
def ensure() -> str:
    """The class path of the compiled peer, after installing what is missing.

    Raises:
        LabError: it cannot be had; the text says what did not work, and ends with the last lines of whatever failed.
    """
    class_path = os.pathsep.join((str(_CLASSES), f"{_JARS}/*"))
    sources = sorted(path for path in _SOURCES.iterdir() if path.suffix in (".java", ".xml"))
    wanted = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    missing = [package for package, command in _PACKAGES.items() if shutil.which(command) is None]
    if not missing and _DONE.exists() and _DONE.read_text() == wanted:
        return class_path
    if missing:
        with contextlib.suppress(OSError):  # not root: apt_install says so
            # Where Debian is installed without manual pages, the JDK's installation stumbles over the missing folder.
            Path("/usr/share/man/man1").mkdir(parents=True, exist_ok=True)
        engine.apt_install(*missing)
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _CLASSES.mkdir(parents=True)
    run_logged(
        *("mvn", "--batch-mode", "--file", str(_SOURCES / "pom.xml"), _COPY),
        *(f"-DoutputDirectory={_JARS}", "-DincludeScope=runtime"),
        what="getting the Java client from Maven Central",
        log=STATE / "java-jars.log",
        timeout_s=600.0,
    )
    java = [str(path) for path in sources if path.suffix == ".java"]
    run("javac", "-cp", f"{_JARS}/*", "-d", str(_CLASSES), *java, timeout_s=120.0)
    _DONE.write_text(wanted)
    return class_path


_PACKAGES = {"default-jdk-headless": "javac", "maven": "mvn"}
"""What is installed where a command is not there."""


class Jvm:
    """The process; `call` may be used from any thread, and one request is served at a time.

    What the client logs goes to `.lab/java-peer.log`.
    """

    def __init__(self) -> None:
        _LOG.parent.mkdir(exist_ok=True)
        command = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", ensure(), "Peer"]
        with _LOG.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )
        self._lock = threading.Lock()
        self._rest = b""

    def call(self, op: str, *, timeout_s: float = 40.0, **request: Any) -> Any:
        """Have something done, and return the answer. What is None is not said.

        Raises:
            LabError: it failed, the process ended, or there is no answer within `timeout_s` seconds.
        """
        said = {name: value for name, value in request.items() if value is not None}
        line = json.dumps({"op": op, **said}).encode() + b"\n"
        with self._lock:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # that it ended shows when its answer is read
                self._process.stdin.write(line)
            answer = json.loads(self._line(op, time.monotonic() + timeout_s))
        if "error" in answer:
            raise LabError(f"the Java client, asked to {op}: {answer['error']} (log: {_LOG})")
        return answer["answer"]

    def close(self) -> None:
        """End the process, with its connections."""
        with self._process as process:
            process.kill()

    def _line(self, op: str, deadline: float) -> bytes:
        assert self._process.stdout is not None
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                self._process.kill()  # its answer must not be taken for that of the next request
                raise LabError(f"the Java client, asked to {op}: no answer in time (log: {_LOG})")
            pieces.append(os.read(self._process.stdout.fileno(), 1 << 20))
            if not pieces[-1]:
                tail = "\n".join(_LOG.read_text(errors="replace").splitlines()[-20:])
                raise LabError(f"the Java client, asked to {op}: its process ended\n{tail}")
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        return line


if __name__ == "__main__":
    try:
        ensure()
    except LabError as error:
        say(f"without the Java client, for which its tests are skipped (and fail in CI): {error}")
