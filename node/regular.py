"""Opening files that users name: what is no regular file may never end, or never begin."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def check_regular(path: Path) -> Path:
    """The path, of a regular file. Raises OSError, for a pipe or a device too: reading those may wait for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder, opening it says so
        raise OSError(errno.EINVAL, "this is no regular file but a pipe, a socket or a device", str(path))
    return path
