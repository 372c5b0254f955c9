"""The mark of a comparison that a controller of containers works on: `controller.json` in the comparison's folder.

It names the cluster, is there from before the first run until all is scored, and is locked (flock(2)) for as long as
its controller's process lives. So one that is there and not locked is that of a controller that was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gannet.ledger.lock import FolderBusy, flocked

MARK = "controller.json"
_FORMAT = 1


@contextmanager
def marked(folder: Path, cluster: str) -> Iterator[None]:
    """Hold the folder's mark. Raises FolderBusy where another controller does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MARK
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(file, folder)
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"format": _FORMAT, "cluster": cluster}).encode(), 0)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
    finally:
        os.close(file)


def is_left(folder: Path, cluster: str) -> bool:
    """Whether a controller of that cluster was killed while it worked on the comparison in that folder.

    Raises FolderBusy where it lives.
    """
    try:
        file = os.open(folder / MARK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        said = json.loads(os.pread(file, 65536, 0))
        if said != {"format": _FORMAT, "cluster": cluster}:
            return False
        _lock(file, folder)
    except (ValueError, RecursionError) as error:
        if isinstance(error, FolderBusy):
            raise
        return False  # it was killed before it had begun
    finally:
        os.close(file)
    return True


def _lock(file: int, folder: Path) -> None:
    if flocked(file) is False:
        raise FolderBusy(f"{folder}: another controller works in this folder: wait for its end, or stop it")
