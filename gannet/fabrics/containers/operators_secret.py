"""Where `gannet net` finds the operators' secret of a cluster of containers, and their certificate."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gannet.fabrics.containers.exec import controller_at
from gannet.fabrics.credentials import CredentialError, check, read_secret, secret_file
from gannet.fabrics.entrance.bundles import from_certs, identity_file, read_identity
from gannet.node.admission.identity import MOST_BYTES, Identity, IdentityError

FILE_VARIABLE = "GANNET_TOKEN_FILE"
CERTS_VARIABLE = "GANNET_CERTS"
_ROLE = "operator"
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
    if os.access(own := secret_file(_ROLE), os.R_OK):
        return read_secret(own)
    with suppress(CredentialError):
        found = _by_docker(address, secret_file(_ROLE)).decode("ascii", errors="replace").strip()
        return check(found, "the secret in the controller's container") if found else ""
    return ""


def operators_identity(address: str, environment: Mapping[str, str] = os.environ) -> Identity | None:
    """The key and certificate with which to call the controller at an address; None: none are needed, or known.

    Those of $GANNET_CERTS, a folder of `gannet certs make` or a copy of the controller's file; else as for the
    secret. Raises CredentialError where those cannot be used.
    """
    if address.startswith("unix:"):
        return None
    if named := environment.get(CERTS_VARIABLE):
        return from_certs(Path(named), _ROLE) if Path(named).is_dir() else _in_file(Path(named))
    if os.access(identity_file(_ROLE), os.R_OK):
        return read_identity(_ROLE)
    found = _by_docker(address, identity_file(_ROLE))
    try:
        return Identity.parse(found, _ROLE, "the controller's container") if found else None
    except IdentityError as error:
        raise CredentialError(f"{error}: docker compose up renews it") from None


def _in_file(file: Path) -> Identity:
    try:
        with file.open("rb") as opened:
            return Identity.parse(opened.read(MOST_BYTES), _ROLE, f"{CERTS_VARIABLE}={file}")
    except OSError as error:
        raise CredentialError(f"{CERTS_VARIABLE}={file}: {error.strerror or error}") from None
    except IdentityError as error:
        raise CredentialError(str(error)) from None


def _by_docker(address: str, file: Path) -> bytes:
    """A file of the container that serves a port of this machine; empty: there is none, or this user may not ask."""
    host, _, port = address.rpartition(":")
    if host in ("127.0.0.1", "localhost") and port.isdigit():
        with suppress(OSError, subprocess.TimeoutExpired):
            if container := controller_at(int(port)):
                cat = ["docker", "exec", "-u", "root", container, "cat", str(file)]
                return subprocess.run(cat, capture_output=True, timeout=_ASK_S).stdout
    return b""
