"""Writing that waits while the disk is full, so that a run pauses and loses nothing.

On the virtual fabric all of a run waits. Real nodes train on meanwhile, and what they report is kept in memory until
it can be written; the run's end is not watched for meanwhile, so its summary says how long that was.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gannet.console import say_error

FULL = (errno.ENOSPC, errno.EDQUOT)
_RETRY_S = 1.0

T = TypeVar("T")


class FullDisk:
    """Waits for space in `folder`; `waited_s`: for how long it has, in all.

    Ctrl-C while it waits ends that: later writes are then tried once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._patient, self.waited_s = folder, True, 0.0

    def write(self, action: Callable[[], T]) -> T:
        """`action`'s result, once it does not fail for want of space; it is repeated as a whole."""
        begin = time.monotonic()
        told = False
        while True:
            try:
                result = action()
            except OSError as error:
                if error.errno not in FULL or not self._patient:
                    raise
                if not told:
                    say_error(
                        f"the disk of {self._folder} is full: the run waits, and continues once there is space; "
                        "Ctrl-C ends it"
                    )
                told = True
                self._wait()
            else:
                if told:
                    self.waited_s += time.monotonic() - begin
                    say_error(f"there is space again in {self._folder}: the run continues")
                return result

    def _wait(self) -> None:
        try:
            time.sleep(_RETRY_S)
        except KeyboardInterrupt:
            self._patient = False
            raise


class LineFile:
    """A file that grows by lines. On a full disk a line's rest is written when there is space."""

    def __init__(self, path: Path, disk: FullDisk) -> None:
        self._disk = disk
        self._file = path.open("ab", buffering=0)  # a buffer would forget how much of it was written

    def write(self, line: str) -> None:
        """Append the line, which has its end."""
        rest = memoryview(line.encode())
        while rest:
            rest = rest[self._disk.write(lambda rest=rest: self._file.write(rest)) :]  # type: ignore[misc]

    def fileno(self) -> int:
        """The file's number, for os.fsync."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
