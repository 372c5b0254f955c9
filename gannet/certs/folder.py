"""Certificates that a cluster keeps in a folder: one authority, and for each role a certificate and its private key.

All are PEM files that only their owner may read. A role is named `gannet://CLUSTER/ROLE` in its certificate, and
`ROLE.CLUSTER.gannet` as a host; the controller's may have hosts and addresses of its own besides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gannet.certs.authority import Authority

AUTHORITY = "ca"
ROLES = ("controller", "node", "agent", "operator")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # of a host's name: RFC 1123, section 2.1
_LARGEST_BYTES = 1 << 16


@dataclass(frozen=True)
class Found:
    """One certificate of a folder; `faults`: what is wrong with it, its key, or their files."""

    role: str
    names: tuple[str, ...]
    expires: datetime | None
    faults: tuple[str, ...]


def make(folder: Path, cluster: str, lifetime: timedelta, hosts: Sequence[str] = (), overwrite: bool = False) -> None:
    """Make an authority and a certificate for each role. Raises FileExistsError where one is there already, unless
    `overwrite`, and ValueError for names that are none.
    """
    if not _LABEL.fullmatch(cluster):
        raise ValueError(f"--cluster {cluster}: up to 63 lower-case letters, digits and - within")
    extra = [_host(host) for host in hosts]
    files = [folder / name for role in (AUTHORITY, *ROLES) for name in _files(role)]
    if (there := [file for file in files if os.path.lexists(file)]) and not overwrite:
        raise FileExistsError(f"{there[0]}: there already: choose another folder, or give --overwrite to replace all")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority.make(f"gannet {cluster}", lifetime)
    _write(folder, AUTHORITY, authority.certificate, authority.key)
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        names = names_of(role, cluster) + (extra if role == "controller" else [])
        _write(folder, role, authority.issue(key.public_key(), names, lifetime), key)


def names_of(role: str, cluster: str) -> list[x509.GeneralName]:
    """The names of a role in its certificate."""
    host, uri = f"{role}.{cluster}.gannet", f"gannet://{cluster}/{role}"
    return [x509.DNSName(host), x509.UniformResourceIdentifier(uri)]


def look(folder: Path) -> list[Found]:
    """All certificates of a folder, checked. Raises FileNotFoundError or ValueError where there is no authority."""
    authority = _certificate(folder / _files(AUTHORITY)[0])
    return [_look(folder, role, authority) for role in (AUTHORITY, *ROLES)]


def _look(folder: Path, role: str, authority: x509.Certificate) -> Found:
    file, key_file = (folder / name for name in _files(role))
    try:
        certificate = _certificate(file)
    except (ValueError, FileNotFoundError) as error:
        return Found(role, (), None, (str(error),))
    faults = []
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        faults.append("expired")
    if now < certificate.not_valid_before_utc:
        faults.append("not valid yet: is the clock right?")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        faults.append(f"not issued by {_files(AUTHORITY)[0]}")
    names = _names(certificate)
    if role != AUTHORITY and not any(re.fullmatch(rf"gannet://[^/]+/{role}", name) for name in names):
        faults.append(f"not of a {role}")
    faults += _faults_of_key(key_file, certificate)
    return Found(role, names, certificate.not_valid_after_utc, tuple(faults))


def _faults_of_key(file: Path, certificate: x509.Certificate) -> list[str]:
    try:
        key = load_pem_private_key(_read(file), None)
    except FileNotFoundError:
        return [f"no {file.name}"]  # as where only some of the files are needed
    except (ValueError, TypeError):
        return [f"{file.name}: no private key in PEM"]
    faults = []
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        faults.append(f"{file.name} is another certificate's")
    if file.stat().st_mode & 0o077:
        faults.append(f"{file.name} can be read by others: chmod 600")
    return faults


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)


def _certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(file))
    except ValueError:
        raise ValueError(f"{file}: no certificate in PEM") from None


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file: gannet certs make makes one")
    with file.open("rb") as opened:
        return opened.read(_LARGEST_BYTES)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        pass
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.lower().split(".")):
        raise ValueError(f"--host {text}: neither a host's name nor an IP address")
    return x509.DNSName(text.lower())


def _files(role: str) -> tuple[str, str]:
    return f"{role}.pem", f"{role}-key.pem"


def _write(folder: Path, role: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    texts = (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    for name, text in zip(_files(role), texts, strict=True):
        new = folder / f".{name}.new"
        new.unlink(missing_ok=True)
        # Made for its owner alone, and never through a link that was there before.
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        new.replace(folder / name)
