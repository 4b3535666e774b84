"""Running commands, saying what happens, and waiting for conditions: what the rest of the lab stands on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout that this lab belongs to."""

STATE = ROOT / ".lab"
"""Logs and certificates of this checkout; never committed."""

_started = time.monotonic()


class LabError(RuntimeError):
    """The laboratory cannot do what was asked; the text says what is missing, or what did not happen in time."""


def say(text: str) -> None:
    """Report progress on stderr, with the seconds since the start, so that stdout stays for results."""
    print(f"lab [{time.monotonic() - _started:5.1f}s] {text}", file=sys.stderr, flush=True)


def run(*argv: str, timeout_s: float = 60.0, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command to its end and return its stdout, stripped.

    Raises:
        LabError: it is not installed, failed, or took longer than `timeout_s` seconds (it is killed then).
    """
    command = " ".join(argv)
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no end after {timeout_s:g} s: {command}") from error
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"exit code {done.returncode}: {command}\n{output}")
    return done.stdout.strip()


def succeeds(*argv: str, timeout_s: float = 60.0) -> bool:
    """Whether a command can be run and exits with 0."""
    try:
        run(*argv, timeout_s=timeout_s)
    except LabError:
        return False
    return True


def run_logged(*argv: str, what: str, log: Path, timeout_s: float, env: Mapping[str, str] | None = None) -> None:
    """Run a long command with its output in a file, and show its last line every ten seconds.

    Raises:
        LabError: it failed or took too long; the text ends with the tail of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    say(f"{what} (log: {log})")
    with (
        log.open("w") as output,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env) as process,
    ):
        while True:
            try:
                code = process.wait(timeout=10.0)
                break
            except subprocess.TimeoutExpired:
                lines = log.read_text(errors="replace").splitlines() or ["no output yet"]
                say(f"... {what}: {lines[-1][:100]}")
            if time.monotonic() > deadline:
                process.kill()
                code = process.wait()
                break
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise LabError(f"{what} failed with exit code {code}:\n{tail}")


def wait_until(condition: Callable[[], bool], what: str, within_s: float, every_s: float = 0.1) -> float:
    """Wait until `condition()` holds and return the seconds that it took.

    A `LabError` raised by the condition counts as "not yet": a broker that is down cannot be asked.

    Raises:
        LabError: it does not hold within `within_s` seconds.
    """
    begin = time.monotonic()
    last = ""
    while True:
        try:
            if condition():
                return time.monotonic() - begin
        except LabError as error:
            last = f" (last: {error})"
        if time.monotonic() - begin > within_s:
            raise LabError(f"not within {within_s:g} s: {what}{last}")
        time.sleep(every_s)
