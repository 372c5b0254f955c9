"""Files written whole or not at all: a reader never sees half of one, and a crash leaves the previous file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to, whose file replaces `path` once the block ends without an error.

    `durable`: it is on the disk before it has the name; otherwise a power cut could leave an empty file of that name.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
