"""A run's authority: it lives in the controller's memory as long as the run, and certifies each node's process."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gannet.certs.authority import Authority, key_of_request
from gannet.node.exchange.tls import peer_name

_DAY = timedelta(hours=24)
_WITHOUT_LIMIT = timedelta(days=30)  # of a run that ends by its steps, however long they take


def lifetime_of(stop_s: float | None) -> timedelta:
    """How long a run's certificates are valid: a day and twice its seconds of training.

    A certificate is looked at when a connection begins, and one may have to begin again at the run's very end.
    """
    return _WITHOUT_LIMIT if stop_s is None else _DAY + 2 * timedelta(seconds=stop_s)


class RunAuthority:
    """Certificates of one run. The private key is made here and never written."""

    def __init__(self, run: str, lifetime: timedelta) -> None:
        self._run, self._lifetime = run, lifetime
        self._authority = Authority.make("gannet run", lifetime)

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, PEM."""
        return self._authority.certificate.public_bytes(Encoding.PEM)

    def certify(self, rank: int, request: bytes) -> tuple[str, bytes]:
        """A certificate (PEM) for a process that has that rank now, and its name, which no other certificate has.

        Raises ValueError where `request` is none.
        """
        serial = x509.random_serial_number()
        name = peer_name(self._run, rank, serial)
        uri = f"gannet://{quote(self._run, safe='')}/rank/{rank}"
        names = [x509.DNSName(name), x509.UniformResourceIdentifier(uri)]
        certificate = self._authority.issue(key_of_request(request), names, self._lifetime, serial)
        return name, certificate.public_bytes(Encoding.PEM)
