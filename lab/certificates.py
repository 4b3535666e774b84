"""Keys for the brokers that speak TLS: an authority, a server (localhost), a client that is the user guest; for tokens.

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
_CLIENT = "extendedKeyUsage=clientAuth\n"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Files in PEM format.

    `client` and `client_key` log in as guest by the mechanism EXTERNAL; so would `expired`, with the same key, if its
    time were not over. `token_key` signs tokens, and a broker verifies them with `token_public_key`.
    """

    authority: Path = _FOLDER / "ca.pem"
    server: Path = _FOLDER / "server.pem"
    server_key: Path = _FOLDER / "server.key"
    client: Path = _FOLDER / "client.pem"
    client_key: Path = _FOLDER / "client.key"
    expired: Path = _FOLDER / "expired.pem"
    token_key: Path = _FOLDER / "token.key"
    token_public_key: Path = _FOLDER / "token.pub.pem"


def ensure() -> Certificates:
    """Return this checkout's certificates, made the first time.

    Raises:
        LabError: openssl is missing and cannot be installed, or failed.
    """
    files = Certificates()
    if files.token_public_key.exists():  # the last one made
        return files
    if shutil.which("openssl") is None:
        apt_install("openssl")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    _FOLDER.chmod(0o755)
    if not files.client.exists():  # a broker that runs already has what is there
        run(
            *("openssl", "req", "-x509", *_NEW_KEY, "-days", _DAYS, "-subj", "/CN=actorstream test authority"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(_FOLDER / "ca.key"), "-out", str(files.authority)),
        )
        server = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
        _issue(files.server, files.server_key, "localhost", server)
        _issue(files.client, files.client_key, "guest", _CLIENT)
    _issue(files.expired, files.client_key, "guest", _CLIENT, days="0")
    run("openssl", "genrsa", "-out", str(files.token_key), "2048")
    run("openssl", "rsa", "-in", str(files.token_key), "-pubout", "-out", str(files.token_public_key))
    for path in _FOLDER.iterdir():
        path.chmod(0o644)
    return files


def _issue(certificate: Path, key: Path, name: str, extensions: str, days: str = _DAYS) -> None:
    """Have a certificate signed; for a new key where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        request, details = Path(folder) / "request.pem", Path(folder) / "details.txt"
        details.write_text(extensions)
        with_key = ("-key", str(key)) if key.exists() else (*_NEW_KEY, "-keyout", str(key))
        run("openssl", "req", "-new", *with_key, "-subj", f"/CN={name}", "-out", str(request))
        run(
            *("openssl", "x509", "-req", "-in", str(request), "-days", days, "-extfile", str(details)),
            *("-CA", str(Certificates.authority), "-CAkey", str(_FOLDER / "ca.key"), "-CAcreateserial"),
            *("-out", str(certificate)),
        )
