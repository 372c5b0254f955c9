"""Mutual TLS with the controller: a role's private key and certificate, and its cluster's authority.

A certificate names its holder `gannet://CLUSTER/ROLE`, and the controller's has the DNS name
`controller.CLUSTER.gannet`, which callers look for whatever its address is (gannet.certs.folder). Files and pipes
carry all three as one text, the bundle: PEM blocks, the private key, its certificate, the authority's.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

MOST_BYTES = 1 << 15  # of a bundle: far less than a pipe holds
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?\r?\n-----END \1-----\r?\n?", re.DOTALL)
_URI = re.compile(r"gannet://([a-z0-9-]{1,63})/([a-z]+)")
_ANSWER_S = 10.0


class IdentityError(ValueError):
    """A key or a certificate cannot be used; the message says which and why."""


class NotBelieved(Exception):
    """Caller and controller do not believe each other; the message says why."""


@dataclass(frozen=True)
class Identity:
    """What one end of a connection to the controller shows, and whom it believes: PEM all."""

    key: bytes = field(repr=False)
    certificate: bytes
    authority: bytes

    @classmethod
    def parse(cls, bundle: bytes, role: str, where: str, dated: bool = True) -> Identity:
        """The identity in a bundle. Raises IdentityError unless it is that role's, whole, and (`dated`) valid now."""
        blocks = [(found[1], found[0].strip() + b"\n") for found in _BLOCK.finditer(bundle)]
        keys = [text for kind, text in blocks if kind.endswith(b"PRIVATE KEY")]
        certificates = [text for kind, text in blocks if kind == b"CERTIFICATE"]
        if len(keys) != 1 or len(certificates) != 2:
            raise IdentityError(f"{where}: not a private key, its certificate and the authority's, in PEM")
        identity = cls(keys[0], *certificates)
        try:
            wrong = identity._fault(role) or (identity._fault_of_dates() if dated else "")
        except (ValueError, TypeError) as error:
            wrong = f"damaged ({error})"
        if wrong:
            raise IdentityError(f"{where}: {wrong}")
        return identity

    @property
    def bundle(self) -> bytes:
        """All three, as `parse` takes them."""
        return self.key + self.certificate + self.authority

    @cached_property
    def expires(self) -> datetime:
        """When the certificate or its authority ends, whichever is first."""
        both = (self.certificate, self.authority)
        return min(x509.load_pem_x509_certificate(pem).not_valid_after_utc for pem in both)

    @cached_property
    def names(self) -> tuple[str, str]:
        """Cluster and role in the certificate. Raises ValueError where it names none."""
        certificate = x509.load_pem_x509_certificate(self.certificate)
        try:
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            found = x509.SubjectAlternativeName([])
        return named(found.get_values_for_type(x509.UniformResourceIdentifier))

    @property
    def controller(self) -> str:
        """The DNS name that the controller's certificate has."""
        return f"controller.{self.names[0]}.gannet"

    def _fault(self, role: str) -> str:
        certificate, authority = map(x509.load_pem_x509_certificate, (self.certificate, self.authority))
        if self.names[1] != role:
            return f"the certificate is of the role {self.names[1]}, not {role}"
        key, form = load_pem_private_key(self.key, None), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            return "the private key is not on an elliptic curve"
        if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
            return "the private key is another certificate's"
        try:
            certificate.verify_directly_issued_by(authority)
        except InvalidSignature:
            return "the certificate is not issued by this authority"
        return ""

    def _fault_of_dates(self) -> str:
        now = datetime.now(UTC)
        for one in map(x509.load_pem_x509_certificate, (self.certificate, self.authority)):
            if now > one.not_valid_after_utc:
                return f"the certificate expired on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            if now < one.not_valid_before_utc:
                begin = f"{one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
                return f"the certificate is valid from {begin} on: is the clock right?"
        return ""

    def context(self, server: bool) -> ssl.SSLContext:
        """TLS 1.3, with a certificate of this authority asked of the other end."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        made.load_verify_locations(cadata=self.authority.decode("ascii"))
        # OpenSSL takes a key from files only: this one is in memory and has no name in any folder.
        descriptor = os.memfd_create("identity")
        try:
            os.write(descriptor, self.key + self.certificate)
            made.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        made.set_alpn_protocols(["h2"])
        if server:
            made.num_tickets = 0  # each connection shows its certificate
        return made

    def channel(self) -> grpc.ChannelCredentials:
        """gRPC's credentials of a caller; use them with `options`."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)

    def options(self) -> list[tuple[str, str]]:
        """The options of a caller's channel that have it look for the controller's name."""
        return [("grpc.ssl_target_name_override", self.controller)]


def named(uris: list[str]) -> tuple[str, str]:
    """Cluster and role in a certificate's alternative names of the kind URI. Raises ValueError where none is one."""
    found = [match for uri in uris if (match := _URI.fullmatch(uri))]
    if len(found) != 1:
        raise ValueError("the certificate names no role of a cluster")
    return found[0][1], found[0][2]


def reach(address: str, identity: Identity | None, timeout_s: float = 3.0) -> None:
    """Connect to the controller at host:port and hang up: with an identity, once both ends believe each other.

    gRPC tells a caller nothing of why a handshake failed. Raises OSError where no controller listens, NotBelieved
    where they do not.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as plain:
        if identity is None:
            return
        plain.settimeout(_ANSWER_S)
        try:
            with identity.context(server=False).wrap_socket(plain, server_hostname=identity.controller) as encrypted:
                # In TLS 1.3 a server looks at the caller's certificate after the caller's part of the handshake.
                if not encrypted.recv(1):
                    raise ConnectionResetError("the connection was closed")
        except ssl.SSLCertVerificationError as error:
            raise NotBelieved(f"its certificate is not believed: {why_not(error)}") from None
        except ssl.SSLEOFError:
            raise ConnectionResetError("the connection was closed") from None
        except ssl.SSLError as error:
            raise NotBelieved(told(error)) from None


# By X509_V_ERR_* of OpenSSL: the certificate or its authority's expired; and three of authorities that are not known.
_WHY_NOT = {10: "it has expired", **dict.fromkeys((18, 19, 20), "another authority issued it: another cluster's?")}
_TOLD = {
    "WRONG_VERSION_NUMBER": "it is not encrypted",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not believe this certificate: is it another cluster's?",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "this certificate has expired",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate",
}


def why_not(error: ssl.SSLCertVerificationError) -> str:
    """Why this end does not believe a certificate."""
    return _WHY_NOT.get(error.verify_code, error.verify_message)


def told(error: ssl.SSLError) -> str:
    """OpenSSL's reason, in words where there are better ones."""
    reason = error.reason or str(error)
    return _TOLD.get(reason, reason.lower().replace("_", " "))
