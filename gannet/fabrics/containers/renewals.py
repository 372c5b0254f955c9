"""Certificates of a node's container, which are renewed while it runs: its first process sees it and tells."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

from gannet.fabrics.credentials import CredentialError
from gannet.fabrics.entrance.bundles import identity_file, read_identity
from gannet.node.admission.handed import line
from gannet.node.admission.identity import Identity

log = logging.getLogger(__name__)


class Newest:
    """The newest identity in a role's file. Raises CredentialError where the first one cannot be used.

    A later one that cannot be is logged, once, and the former one stays.
    """

    def __init__(self, role: str, file: Path | None = None) -> None:
        self._role, self._file = role, file or identity_file(role)
        self._seen = self._state()
        self.identity = read_identity(role, self._file.parent.parent)

    def __call__(self) -> Identity:
        """The present one."""
        if (state := self._state()) != self._seen:
            self._seen = state
            try:
                self.identity = read_identity(self._role, self._file.parent.parent)
                log.info("the certificate in %s is a new one, to be used from now on", self._file)
            except CredentialError as error:
                log.warning("%s", error)
        return self.identity

    def _state(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


class Handing:
    """Hands a training process its credential and each newest identity, by its standard input, and never waits."""

    def __init__(self, trainer: subprocess.Popen[bytes], credential: str, newest: Newest) -> None:
        assert trainer.stdin is not None
        self._pipe, self._credential, self._newest = trainer.stdin.fileno(), credential, newest
        os.set_blocking(self._pipe, False)
        self._handed: Identity | None = None
        self._unsent = b""

    def hand(self) -> None:
        """Hand over what is new; what the pipe has no room for waits for the next call."""
        identity = self._newest()
        if identity is not self._handed:
            self._handed = identity
            self._unsent += line(self._credential, identity)
        if self._unsent:
            try:
                self._unsent = self._unsent[os.write(self._pipe, self._unsent) :]
            except BlockingIOError:
                pass
            except BrokenPipeError:
                self._unsent = b""  # it ended, which its parent sees by itself
