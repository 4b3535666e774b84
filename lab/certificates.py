"""Certificates for the broker that speaks TLS: an authority, a server (localhost), a client that is the user guest.

Made by the openssl command and kept in `.lab/certs`; for tests only, so the keys are readable by the broker's user.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.engine import apt_install
from lab.shell import STATE, run

_FOLDER = STATE / "certs"
_DAYS = "3650"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Files in PEM format. `client` and `client_key` log in as guest by the mechanism EXTERNAL."""

    authority: Path = _FOLDER / "ca.pem"
    server: Path = _FOLDER / "server.pem"
    server_key: Path = _FOLDER / "server.key"
    client: Path = _FOLDER / "client.pem"
    client_key: Path = _FOLDER / "client.key"


def ensure() -> Certificates:
    """Return this checkout's certificates, made the first time.

    Raises:
        LabError: openssl is missing and cannot be installed, or failed.
    """
    files = Certificates()
    if files.client.exists():  # the last one made
        return files
    if shutil.which("openssl") is None:
        apt_install("openssl")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    _FOLDER.chmod(0o755)
    authority_key = _FOLDER / "ca.key"
    run(
        *("openssl", "req", "-x509", *_NEW_KEY, "-days", _DAYS, "-subj", "/CN=actorstream test authority"),
        *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        *("-keyout", str(authority_key), "-out", str(files.authority)),
    )
    server = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
    _issue(files.server, files.server_key, "localhost", server, authority_key)
    _issue(files.client, files.client_key, "guest", "extendedKeyUsage=clientAuth\n", authority_key)
    for path in _FOLDER.iterdir():
        path.chmod(0o644)
    return files


def _issue(certificate: Path, key: Path, name: str, extensions: str, authority_key: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        request, details = Path(folder) / "request.pem", Path(folder) / "details.txt"
        details.write_text(extensions)
        run("openssl", "req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        run(
            *("openssl", "x509", "-req", "-in", str(request), "-days", _DAYS, "-extfile", str(details)),
            *("-CA", str(Certificates.authority), "-CAkey", str(authority_key), "-CAcreateserial"),
            *("-out", str(certificate)),
        )
