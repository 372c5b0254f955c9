"""What the first process of a container hands its training process by a pipe: the node's credential, and its identity
for mutual TLS, of which newer ones may follow.
"""

from __future__ import annotations

import json
import os
import select

from gannet.node.admission.identity import MOST_BYTES, Identity

_ROLE = "node"


def line(credential: str, identity: Identity | None = None) -> bytes:
    """One line for the pipe."""
    bundle = identity.bundle.decode("ascii") if identity else ""
    return json.dumps({"credential": credential, "identity": bundle}).encode() + b"\n"


class HandedOver:
    """What came through the pipe; it waits for the first line. Raises ValueError where that is none."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._rest, self._ended = pipe, b"", False
        while b"\n" not in self._rest and not self._ended:
            self._read()
        self._identity: Identity | None = None
        self.credential = ""
        self._take()
        if not self.credential:
            raise ValueError("no credential on standard input")

    def identity(self) -> Identity | None:
        """The newest that was handed over."""
        while not self._ended and select.select([self._pipe], [], [], 0)[0]:
            self._read()
        self._take()
        return self._identity

    def close(self) -> None:
        """Have standard input be empty for what runs in this process; the newest identity stays known."""
        self._ended = True
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, self._pipe)
        os.close(empty)

    def _read(self) -> None:
        data = os.read(self._pipe, MOST_BYTES)
        self._ended = not data
        self._rest += data

    def _take(self) -> None:
        whole, found, self._rest = self._rest.rpartition(b"\n")
        if not found:
            return
        try:
            handed = json.loads(whole.rpartition(b"\n")[2])
            self.credential, bundle = handed["credential"], handed["identity"].encode("ascii")
        except (ValueError, TypeError, KeyError):
            raise ValueError("no credential on standard input, as gannet.node.admission.handed writes it") from None
        # One that has expired is refused by the controller, and waits for its successor.
        self._identity = Identity.parse(bundle, _ROLE, "standard input", dated=False) if bundle else None
