"""The peers' virtual environment, `.venv-peers`: made once, and anew when the requirements change.

`python -m tests.interop.peers.environment` makes it (`make test` and `make bench` do that first). rbfly and Proton are
built from source, which takes a C compiler and a minute.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from lab import engine
from lab.shell import ROOT, STATE, LabError, run, run_logged, succeeds
from tests.interop.peers.plain import Plain

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_FOLDER = ROOT / ".venv-peers"
_DONE = _FOLDER / "installed"


@functools.cache
def ensure() -> Path:
    """The interpreter that has the peers, after installing them where they are missing.

    Raises:
        LabError: they cannot be installed; the text ends with pip's last lines.
    """
    python = _FOLDER / "bin" / "python"
    wanted = f"{sys.version}\n{_REQUIREMENTS.read_text()}"
    if _DONE.exists() and _DONE.read_text() == wanted:
        return python
    if not (succeeds("cc", "--version") and Path(sysconfig.get_path("include"), "Python.h").exists()):
        engine.apt_install("gcc", "libc6-dev", "python3-dev")
    run(sys.executable, "-m", "venv", "--clear", str(_FOLDER), timeout_s=120.0)
    run_logged(
        *(str(python), "-m", "pip", "install", "--disable-pip-version-check", "--requirement", str(_REQUIREMENTS)),
        what="installing the clients to compare with into .venv-peers",
        log=STATE / "peers.log",
        timeout_s=600.0,
    )
    _DONE.write_text(wanted)
    return python


def call(
    module: str,
    request: Plain,
    *,
    python: Path | None = None,
    variables: Mapping[str, str] | None = None,
    timeout_s: float = 40.0,
) -> Plain:
    """Run a script with a request on its stdin, and return what it printed.

    Args:
        module: `tests.interop.peers.…`, or another one that talks in the same way.
        request: what `json` can carry.
        python: the interpreter; None for the peers'.
        variables: of the environment, besides those of this process.
        timeout_s: until it is killed.

    Raises:
        LabError: it failed, or took too long; the text ends with its stderr.
    """
    done = subprocess.Popen(
        [str(python or ensure()), "-m", module],
        cwd=ROOT,
        env=os.environ | dict(variables or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with done as process:
        try:
            output, errors = process.communicate(json.dumps(request), timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            raise LabError(f"no end after {timeout_s:g} s: {module}\n{errors[-3000:]}") from None
    if process.returncode:
        raise LabError(f"exit code {process.returncode}: {module}\n{errors[-3000:]}")
    answer: Plain = json.loads(output)
    return answer


if __name__ == "__main__":
    ensure()
