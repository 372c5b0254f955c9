"""`python -m gannet.fabrics.containers.make_credentials`: makes a cluster's secrets, those that are not there yet.

Compose runs it before all other containers of the cluster, each time it starts one. Each role's secret, and its
private key and certificate for TLS with the controller, are in a volume of their own, and its files can be read by
the root of a container only: the training process and the controller, once it works, are other users.

Certificates are renewed once a month: what Compose starts has two months or more before it. The authority that issues
them stays, in a volume that no other container has, so that a former certificate is believed until it
expires. A folder of `gannet certs make` can be mounted instead (GANNET_CERTS in compose.yaml).
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gannet.certs.authority import Authority
from gannet.fabrics.credentials import FOLDER, ROLES, CredentialError, Credentials, fresh_secret, secret_file
from gannet.fabrics.entrance import bundles
from gannet.node.admission.identity import Identity

CERTS = Path("/certs")  # where a folder of `gannet certs make` is mounted, if one is
_AUTHORITY_LIFETIME = timedelta(days=3650)
_RENEW_BELOW = timedelta(days=60)


def make(folder: Path, certs: Path | None = None) -> list[str]:
    """Make the secrets that are missing in `folder`; returns their roles. Raises CredentialError, and OSError.

    `certs`: the folder of `gannet certs make` to take keys and certificates from.
    """
    made = []
    for role in (*ROLES, *bundles.ROLES, "authority"):
        part = folder / role
        part.mkdir(mode=0o700, exist_ok=True)
        part.chmod(0o700)
    for role in ROLES:
        file = secret_file(role, folder)
        if not file.exists():
            _write(file, f"{fresh_secret()}\n".encode("ascii"))
            made.append(role)
    made += _take(folder, certs) if certs is not None else _make_identities(folder)
    Credentials.read(folder)  # what was there before can be used, too
    return made


def _make_identities(folder: Path) -> list[str]:
    authority = _authority(folder)
    issued_by = authority.certificate.public_bytes(Encoding.PEM)
    made = []
    for role in bundles.ROLES:
        with suppress(CredentialError):
            if bundles.read_identity(role, folder, _RENEW_BELOW).authority == issued_by:
                continue
        _write(bundles.identity_file(role, folder), bundles.issue(authority, role).bundle)
        made.append(f"certificate of {role}")
    return made


def _authority(folder: Path) -> Authority:
    file = folder / "authority" / "authority.pem"
    with suppress(ValueError, FileNotFoundError):
        return bundles.authority_in(file.read_bytes())
    made = Authority.make("gannet cluster", _AUTHORITY_LIFETIME)
    key = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(file, key + made.certificate.public_bytes(Encoding.PEM))
    return made


def _take(folder: Path, certs: Path) -> list[str]:
    given: dict[str, Identity] = {role: bundles.from_certs(certs, role) for role in bundles.ROLES}
    for role, identity in given.items():
        if identity.expires - datetime.now(UTC) < bundles.LEAST:
            when = f"{identity.expires:%Y-%m-%d %H:%M} UTC"
            advice = f"`gannet certs make {certs} --overwrite` makes new ones"
            raise CredentialError(f"{certs}: the certificate of {role} expires on {when}: {advice}")
    taken = []
    for role, identity in given.items():
        file = bundles.identity_file(role, folder)
        if not file.exists() or file.read_bytes() != identity.bundle:
            _write(file, identity.bundle)
            taken.append(f"certificate of {role}")
    return taken


def _write(file: Path, text: bytes) -> None:
    """All of it or nothing: a run that is ended halfway, or a full disk, leaves no half secret behind."""
    unfinished = file.with_name(f"{file.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(descriptor)
    unfinished.rename(file)


def main() -> int:
    """Make them in the container's folder."""
    try:
        made = make(FOLDER, CERTS if CERTS.is_dir() else None)
    except (CredentialError, OSError) as error:
        sys.stderr.write(f"the cluster's credentials: {error}; docker compose down -v removes them all\n")
        return 1
    sys.stdout.write(f"credentials made: {', '.join(made)}\n" if made else "credentials are there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
