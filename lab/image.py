"""The broker image: the official one where a registry answers, else one of the same shape from Debian's packages.

Debian's suites have RabbitMQ 3.10 (bookworm), 4.0 (trixie), and the newest (sid; 4.3 when this was written).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading

from lab.engine import apt_install, debian_mirror
from lab.shell import ROOT, STATE, LabError, run, run_logged, say, succeeds

OFFICIAL = "rabbitmq:4-management"
SUITES = ("trixie", "sid", "bookworm")
DEFAULT_SUITE = "trixie"

_ROOTFS = ROOT / "lab" / "rootfs"
_PACKAGES = "rabbitmq-server,procps,iproute2,iptables"
_PATH = "/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHANGES = (
    'ENTRYPOINT ["docker-entrypoint.sh"]',
    'CMD ["rabbitmq-server"]',
    f"ENV PATH={_PATH}",
    "ENV HOME=/var/lib/rabbitmq",
    "ENV RABBITMQ_DATA_DIR=/var/lib/rabbitmq",
    "ENV LANG=C.UTF-8",
    "ENV LC_ALL=C.UTF-8",
    "VOLUME /var/lib/rabbitmq",
    "EXPOSE 4369 5671 5672 15691 15692 25672 15671 15672 5551 5552",
)


def choose() -> str:
    """Return the name of an image that is present on the engine, after pulling or building it where it is not.

    `RABBITMQ_IMAGE` names any image; `RABBITMQ_SUITE` asks for the Debian-built one of that suite. Without either: the
    official image if it is here, the Debian-built one if that is here, else the first of the two that can be had.

    Raises:
        LabError: no image can be had; the text says why.
    """
    named = os.environ.get("RABBITMQ_IMAGE")
    if named:
        if not _present(named) and not _pull(named):
            raise LabError(f"RABBITMQ_IMAGE={named} is not on this engine, and no registry has it")
        return named
    suite = os.environ.get("RABBITMQ_SUITE")
    if suite:
        return build(suite)
    if _present(OFFICIAL):
        return OFFICIAL
    if _present(image_name(DEFAULT_SUITE)):
        return image_name(DEFAULT_SUITE)
    return OFFICIAL if _pull(OFFICIAL) else build(DEFAULT_SUITE)


def oldest() -> str:
    """The name of an image of RabbitMQ 3.10, built or pulled where it is not here.

    Raises:
        LabError: none can be had; the text says why.
    """
    return _of_suite("bookworm", "rabbitmq:3.10-management")


def newest() -> str:
    """The name of an image of the newest RabbitMQ; likewise."""
    return _of_suite("sid", OFFICIAL)


def image_name(suite: str) -> str:
    """The name of the Debian-built image of a suite.

    It ends with a hash of the recipe, so that a checkout with another recipe has another image, and neither rebuilds
    the other's away.
    """
    parts = [_PACKAGES.encode(), *map(str.encode, _CHANGES), *(file.read_bytes() for file in sorted(_ROOTFS.iterdir()))]
    recipe = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return f"actorstream-rabbitmq:{suite}-{recipe[:8]}"


def build(suite: str, *, force: bool = False) -> str:
    """Build the image of a Debian suite, unless it is here; return its name.

    Takes about a minute, and mmdebstrap (installed when missing), root, and a Debian archive that apt can reach.

    Raises:
        LabError: unknown suite, or a step failed.
    """
    if suite not in SUITES:
        raise LabError(f"unknown suite {suite!r}: one of {', '.join(SUITES)}")
    name = image_name(suite)
    if not force and _present(name):
        return name
    if shutil.which("mmdebstrap") is None:
        apt_install("mmdebstrap")
    archive = STATE / f"{suite}.tar"
    try:
        # sid's index expires a week after it is made and a mirror's copy may be older; signatures are still verified.
        validity = ["--aptopt=Acquire::Check-Valid-Until false"] if suite == "sid" else []
        run_logged(
            *("mmdebstrap", "--variant=apt", *validity),
            f"--include={_PACKAGES}",
            '--aptopt=Acquire::Languages "none"',
            *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")),
            f"--customize-hook={_ROOTFS / 'customize.sh'}",
            f"--customize-hook=copy-in {_ROOTFS / 'docker-entrypoint.sh'} /usr/local/bin",
            *(suite, str(archive), debian_mirror()),
            what=f"building {name} from Debian's packages, about a minute",
            log=STATE / f"image-{suite}.log",
            timeout_s=900.0,
        )
        say(f"importing {name}")
        changes = [f"--change={change}" for change in _CHANGES]
        run("docker", "import", *changes, str(archive), name, timeout_s=300.0)
    finally:
        archive.unlink(missing_ok=True)
    return name


def _of_suite(suite: str, official: str) -> str:
    """An image of that suite, or the official one where none can be built and it can be pulled."""
    for name in (image_name(suite), official):
        if _present(name):
            return name
    try:
        return build(suite)
    except LabError:
        if _pull(official):
            return official
        raise


def _present(name: str) -> bool:
    return succeeds("docker", "image", "inspect", name)


def _pull(name: str, answer_within_s: float = 15.0, whole_within_s: float = 900.0) -> bool:
    """Pull an image; False where no registry has it.

    The first line comes once the registry has answered with a manifest. It is waited for briefly: where packets are
    dropped the engine would try for minutes. The layers after it may take long.
    """
    say(f"docker pull {name} (waiting at most {answer_within_s:g} s for an answer)")
    with subprocess.Popen(
        ["docker", "pull", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        timer = threading.Timer(answer_within_s, process.kill)
        timer.start()
        lines: list[str] = []
        for line in process.stdout or ():
            lines.append(line.strip())
            if "Pulling from" in line:
                timer.cancel()
                timer = threading.Timer(whole_within_s, process.kill)
                timer.start()
        code = process.wait()
        timer.cancel()
    if code:
        say(f"no registry answers with it: {(lines or ['no answer in time'])[-1][:160]}")
    return code == 0
