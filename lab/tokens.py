"""OAuth 2 tokens that the `secure` broker accepts: an authorization server in a few lines, for tests and an example."""

from __future__ import annotations

import base64
import json
import math
import subprocess
import time
from collections.abc import Iterable

from lab import certificates
from lab.shell import LabError

EVERYTHING = ("read:*/*", "write:*/*", "configure:*/*")
"""Scopes: what may be done in which virtual host with which streams."""


def issue(
    lifetime_s: float = 3600.0, *, user: str = "orders", scopes: Iterable[str] = EVERYTHING, audience: str = "rabbitmq"
) -> str:
    """A JSON Web Token, signed (RS256) with the key whose public half the broker has.

    Raises:
        LabError: openssl failed, or the key was never made (`make secure` makes it).
    """
    now = time.time()
    claims = {
        "sub": user,
        "aud": audience,
        "scope": " ".join(f"rabbitmq.{scope}" for scope in scopes),
        "iat": int(now),
        "exp": math.ceil(now + lifetime_s),
    }
    signed = b".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    command = ("openssl", "dgst", "-sha256", "-sign", str(certificates.Certificates.token_key))
    done = subprocess.run(command, input=signed, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"no token can be signed: {done.stderr.decode(errors='replace')}")
    return (signed + b"." + _encode(done.stdout)).decode()


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
