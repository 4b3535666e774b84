"""A container engine with the compose plugin: found, or installed on Debian as root.

Nothing here runs where `docker compose version` and `docker version` already answer.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.shell import STATE, LabError, run, run_logged, say, succeeds, wait_until

_DAEMON_LOG = Path("/var/log/dockerd.log")
_PLUGIN = Path("/usr/local/lib/docker/cli-plugins/docker-compose")
_WHAT_TO_INSTALL = (
    "the tests need a container engine: install Docker Engine with its compose plugin (docs.docker.com/engine/install) "
    "and start it, or point ACTORSTREAM_TEST_URI at a running broker. On Debian, run this as root and it is installed."
)


def ensure() -> None:
    """Leave with an engine that answers and a compose plugin, or raise `LabError` saying what to install."""
    if not running():
        _ensure_daemon()
    if not succeeds("docker", "compose", "version"):
        _ensure_compose()


def running() -> bool:
    """Whether an engine answers."""
    return succeeds("docker", "version", "--format", "{{.Server.Version}}", timeout_s=20.0)


def apt_install(*packages: str) -> None:
    """Install Debian packages.

    Raises:
        LabError: not Debian, not root, or apt failed.
    """
    names = " ".join(packages)
    _need_apt(f"cannot install {names}")
    _update_lists()
    lock = ("-o", "DPkg::Lock::Timeout=300")
    run_logged(
        *("apt-get", "install", "-y", "-q", "--no-install-recommends", *lock, *packages),
        what=f"apt-get install {names}",
        log=STATE / "apt-install.log",
        timeout_s=900.0,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )


def _need_apt(problem: str) -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise LabError(f"{problem}: this takes apt-get, and root.\n{_WHAT_TO_INSTALL}")


@functools.cache  # once a run
def _update_lists() -> None:
    try:
        run_logged("apt-get", "update", "-q", what="apt-get update", log=STATE / "apt-update.log", timeout_s=300.0)
    except LabError as error:
        # A third-party source that does not answer makes it fail, and need not concern the packages wanted here.
        say(f"going on without all package lists: {str(error).splitlines()[-1]}")


def debian_mirror() -> str:
    """The Debian archive that this machine's apt uses."""
    uris = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").splitlines()
    archives = sorted({uri.rstrip("/") for uri in uris if uri.rstrip("/").endswith("/debian")})
    if not archives:
        raise LabError("apt's sources on this machine name no Debian archive")
    return archives[0]


def _ensure_daemon() -> None:
    if os.environ.get("DOCKER_HOST"):
        raise LabError(f"the engine at DOCKER_HOST={os.environ['DOCKER_HOST']} does not answer")
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        _need_apt("no container engine")
        # Since trixie the command is a package of its own.
        apt_install("docker.io", "iptables", *(["docker-cli"] if _candidate("docker-cli") else []))
    if running():  # the package's own start script did it
        return
    if os.geteuid() != 0:
        raise LabError(f"the container engine does not answer, and only root can start it.\n{_WHAT_TO_INSTALL}")
    if Path("/run/systemd/system").is_dir():
        say("starting the engine: systemctl start docker")
        run("systemctl", "start", "docker", timeout_s=120.0)
    else:
        say(f"no engine answers: starting dockerd (log: {_DAEMON_LOG})")
        with _DAEMON_LOG.open("ab") as log:
            # A session of its own: it outlives this process, make, and the terminal.
            subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(running, "the engine answers", within_s=60.0, every_s=0.3)
    except LabError as error:
        tail = "\n".join(_DAEMON_LOG.read_text(errors="replace").splitlines()[-10:]) if _DAEMON_LOG.exists() else ""
        raise LabError(f"{error}\n{tail}") from error


def _ensure_compose() -> None:
    _need_apt("docker has no compose plugin")
    if _candidate("docker-compose").startswith("2"):
        apt_install("docker-compose")
    else:
        _extract_compose()
    if not succeeds("docker", "compose", "version"):
        raise LabError(f"the compose plugin was installed, but docker does not find it.\n{_WHAT_TO_INSTALL}")


def _candidate(package: str) -> str:
    """The version of a package that apt would install; empty for none."""
    _update_lists()
    found = re.search(r"Candidate: (\S+)", run("apt-cache", "policy", package))
    return found[1] if found and found[1] != "(none)" else ""


def _extract_compose() -> None:
    """Take the plugin out of trixie's package.

    Debian bookworm has only the old Python docker-compose, without `--wait`. The plugin of the release after it is one
    static Go binary that needs no newer libc. It is fetched with a private apt configuration: the machine's own sources
    stay as they are, and signatures are verified as ever.
    """
    say("taking the compose plugin out of trixie's docker-compose package")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("lists/partial", "cache/archives/partial"):
            (work / name).mkdir(parents=True)
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (work / "sources.list").write_text(f"deb [signed-by={keyring}] {debian_mirror()} trixie main\n")
        (work / "apt.conf").write_text(
            f'Dir::Etc::SourceList "{work}/sources.list";\n'
            'Dir::Etc::SourceParts "/dev/null";\n'
            f'Dir::State::Lists "{work}/lists";\n'
            'Dir::State::status "/dev/null";\n'
            f'Dir::Cache "{work}/cache";\n'
            'Acquire::Languages "none";\n'
            'APT::Sandbox::User "root";\n'
        )
        env = {**os.environ, "APT_CONFIG": str(work / "apt.conf")}
        run("apt-get", "update", "-q", env=env, timeout_s=180.0)
        run("apt-get", "download", "-q", "docker-compose", env=env, cwd=work, timeout_s=180.0)
        run("dpkg-deb", "-x", str(next(work.glob("docker-compose_*.deb"))), str(work / "root"))
        _PLUGIN.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(work / "root/usr/libexec/docker/cli-plugins/docker-compose", _PLUGIN)
        _PLUGIN.chmod(0o755)
