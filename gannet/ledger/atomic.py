"""Files written whole or not at all: a reader never meets half of one, and a crash leaves the file from before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """Give another path to write to, whose file takes the place of `path` once the block is left without an error.

    `durable`: it is on the disk before it has the name, else a power cut could leave the name with nothing behind it.
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
