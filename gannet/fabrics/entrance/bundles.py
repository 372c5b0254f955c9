"""A cluster's identities for TLS between its controller and all callers, in files or made for one cluster.

Each role has one file in its folder of secrets (gannet.fabrics.credentials), in the form that
gannet.node.admission.identity reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from gannet.certs import folder as certificates
from gannet.certs.authority import Authority
from gannet.fabrics.credentials import FOLDER, CredentialError
from gannet.node.admission.identity import MOST_BYTES, Identity, IdentityError

# By the role that a credential has: what a certificate calls it (gannet.certs.folder.ROLES).
ROLES = {"controller": "controller", "trainer": "node", "agent": "agent", "operator": "operator"}
LIFETIME = timedelta(days=90)
LEAST = timedelta(days=1)  # for a controller to start with
_CLUSTER = "gannet"
_RENEW = "docker compose up renews it; on a swarm, make new secrets (docs/swarm.md)"


def identity_file(role: str, folder: Path = FOLDER) -> Path:
    """Where a role's identity is."""
    return folder / role / "tls.pem"


def issue(authority: Authority, role: str, lifetime: timedelta = LIFETIME) -> Identity:
    """A new identity of a role (of ROLES)."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = certificates.names_of(ROLES[role], _CLUSTER)
    certificate = authority.issue(key.public_key(), names, lifetime)
    return Identity(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate.public_bytes(Encoding.PEM),
        authority.certificate.public_bytes(Encoding.PEM),
    )


def fresh(lifetime: timedelta = LIFETIME) -> dict[str, Identity]:
    """New identities of all roles, of an authority that no one has the key of afterwards."""
    authority = Authority.make(f"gannet {_CLUSTER}", lifetime)
    return {role: issue(authority, role, lifetime) for role in ROLES}


def read_identity(role: str, folder: Path = FOLDER, least: timedelta = timedelta()) -> Identity:
    """The identity in a role's file. Raises CredentialError, also where it is valid for less than `least`."""
    file = identity_file(role, folder)
    try:
        with file.open("rb") as opened:
            found = Identity.parse(opened.read(MOST_BYTES), ROLES[role], str(file))
    except OSError as error:
        told = f"no certificate in {file} ({error.strerror or error})"
        raise CredentialError(
            f"{told}: docker compose up makes it; on a swarm, it is a secret (docs/swarm.md)"
        ) from None
    except IdentityError as error:
        raise CredentialError(f"{error}: {_RENEW}") from None
    if found.expires - datetime.now(UTC) < least:
        raise CredentialError(f"{file}: the certificate expires on {found.expires:%Y-%m-%d %H:%M} UTC: {_RENEW}")
    return found


def from_certs(folder: Path, role: str) -> Identity:
    """The identity of a role in a folder of `gannet certs make`. Raises CredentialError."""
    named = ROLES[role]
    parts: Sequence[str] = (f"{named}-key.pem", f"{named}.pem", f"{certificates.AUTHORITY}.pem")
    try:
        texts = [(folder / part).read_bytes()[:MOST_BYTES] for part in parts]
    except OSError as error:
        told, advice = f"{error.filename}: {error.strerror}", f"`gannet certs make {folder}` makes certificates"
        if isinstance(error, PermissionError):
            advice = "such files are for their owner alone, which in the cluster's containers is root"
        raise CredentialError(f"{told}: {advice}") from None
    try:
        return Identity.parse(b"\n".join(texts), named, str(folder / parts[1]))
    except IdentityError as error:
        raise CredentialError(f"{error}: `gannet certs make {folder} --overwrite` makes new ones") from None


def authority_in(text: bytes) -> Authority:
    """An authority's private key and certificate, PEM. Raises ValueError where they are none, or end in LIFETIME."""
    key = load_pem_private_key(text, None)
    certificate = x509.load_pem_x509_certificate(text)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("the authority's key is not its certificate's")
    if certificate.not_valid_after_utc - datetime.now(UTC) < LIFETIME:
        raise ValueError("the authority ends soon")
    return Authority(key, certificate)
