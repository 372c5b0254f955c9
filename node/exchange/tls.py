"""Mutual TLS between the nodes of a run: a node's private key, its certificate's name, and gRPC's credentials.

A node makes its key when it starts and keeps it in memory. The run's controller certifies it for one rank, and gives
all nodes the name of every peer's present certificate. A name holds the certificate's serial number, so that a
process whose place another one has taken is known by an old name, and refused. Whether a certificate is this run's
and has not expired is checked by gRPC when a connection begins; why one was refused, gRPC logs at level INFO only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_NAME = re.compile(r"rank-(\d+)\.[0-9a-f]+\.[0-9a-f]+\.gannet")


def peer_name(run: str, rank: int, serial: int) -> str:
    """The DNS name of the certificate with that serial number, of a rank of a run. A run's own name is free text, and
    a connection begins with the name in the clear: it has the run's hash.
    """
    return f"rank-{rank}.{serial:x}.{sha256(run.encode()).hexdigest()[:32]}.gannet"


def rank_of(name: str) -> int | None:
    """The rank in such a name."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[1])


class NodeKey:
    """A private key on the curve P-256, which never leaves this process's memory."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def request(self) -> bytes:
        """A request for a certificate (PKCS #10, DER). It has no name: its sender's line says whose key it is."""
        unsigned = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return unsigned.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def credentials(self, certificate: bytes, authority: bytes) -> Credentials | None:
        """gRPC's credentials from this key's certificate and the run's authority, both PEM; None without them."""
        if not certificate:
            return None
        return Credentials(
            self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), certificate, authority
        )


@dataclass(frozen=True)
class Credentials:
    """What a node shows its peers, and whom it believes: PEM all."""

    key: bytes = field(repr=False)
    certificate: bytes
    authority: bytes

    def server(self) -> grpc.ServerCredentials:
        """Credentials of a server that asks each client for a certificate of this run."""
        return grpc.ssl_server_credentials([(self.key, self.certificate)], self.authority, require_client_auth=True)

    def channel(self) -> grpc.ChannelCredentials:
        """Credentials of a client that believes servers with a certificate of this run."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


def open_channel(
    address: str, options: Sequence[tuple[str, int]], tls: Credentials | None, name: str
) -> grpc.aio.Channel:
    """A channel to the peer at host:port; with `tls`, only to the holder of the certificate of that name."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    if not name:
        raise ValueError(f"no certificate is known of the peer at {address}")
    named = [*options, ("grpc.ssl_target_name_override", name)]
    return grpc.aio.secure_channel(address, tls.channel(), options=named)
