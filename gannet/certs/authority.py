"""A certificate authority: keys on the curve P-256, certificates as RFC 5280 wants them (sections 4.1, 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SKEW = timedelta(hours=1)  # clocks of machines differ, and a certificate of the future is refused
_NAME_LIMIT = 64  # of a common name: RFC 5280, appendix A.1


@dataclass(frozen=True)
class Authority:
    """A private key and its self-signed certificate."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @classmethod
    def make(cls, title: str, lifetime: timedelta) -> Authority:
        """A new authority, whose certificates are valid from now on and as long as its own at most."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:_NAME_LIMIT])])
        unsigned = _begin(name, name, key.public_key(), key.public_key(), x509.random_serial_number(), lifetime)
        unsigned = unsigned.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        unsigned = unsigned.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(key, unsigned.sign(key, hashes.SHA256()))

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        lifetime: timedelta,
        serial: int | None = None,
    ) -> x509.Certificate:
        """A certificate for the holder of that key, under these names alone, as a server and as a client."""
        nameless = x509.Name([])  # names are alternative names, as RFC 6125 wants it
        number = x509.random_serial_number() if serial is None else serial
        own = self.key.public_key()
        unsigned = _begin(nameless, self.certificate.subject, public_key, own, number, lifetime)
        roles = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        unsigned = unsigned.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        unsigned = unsigned.add_extension(x509.SubjectAlternativeName(names), critical=True)
        unsigned = unsigned.add_extension(_usage(signs_certificates=False), critical=True)
        unsigned = unsigned.add_extension(x509.ExtendedKeyUsage(roles), critical=False)
        return unsigned.sign(self.key, hashes.SHA256())


def key_of_request(request: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a request for a certificate (PKCS #10, DER), whose sender has its private key.

    Nothing else of the request is used. Raises ValueError for anything else.
    """
    parsed = x509.load_der_x509_csr(request)
    key = parsed.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the key is not on the curve P-256")
    if not parsed.is_signature_valid:
        raise ValueError("the signature does not fit the key")
    return key


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    serial: int,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
