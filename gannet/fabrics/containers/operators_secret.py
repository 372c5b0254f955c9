"""Where `gannet net` finds the operators' secret of a cluster of containers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gannet.fabrics.containers.exec import controller_at
from gannet.fabrics.credentials import CredentialError, check, read_secret, secret_file

FILE_VARIABLE = "GANNET_TOKEN_FILE"
_ASK_S = 20.0


def operators_secret(address: str, environment: Mapping[str, str] = os.environ) -> str:
    """The secret to present to the controller at an address; empty: none is needed, or none is known.

    That in the file that $GANNET_TOKEN_FILE names; else, in the controller's container, its own; else, for a port of
    this machine that a cluster's container publishes, what Docker lets its users read there. Raises CredentialError
    where the file named has none.
    """
    if address.startswith("unix:"):
        return ""
    if named := environment.get(FILE_VARIABLE):
        return read_secret(Path(named))
    if os.access(own := secret_file("operator"), os.R_OK):
        return read_secret(own)
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost") or not port.isdigit():
        return ""
    with suppress(OSError, subprocess.TimeoutExpired, CredentialError):
        if container := controller_at(int(port)):
            cat = ["docker", "exec", "-u", "root", container, "cat", str(secret_file("operator"))]
            done = subprocess.run(cat, capture_output=True, text=True, timeout=_ASK_S)
            return check(done.stdout.strip(), f"the secret in {container[:12]}")
    return ""
