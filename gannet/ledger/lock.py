"""One command at a time writes in a folder of results: `running.lock` in it, held with flock(2).

The kernel gives the lock up when the command ends, however it ends, so a lock that was left behind stops nobody. The
file's content says who holds it, for the message. Where the file system has no flock, that record decides: it counts
while its process lives, which is told by pid, start time and boot id. Between machines the lock is as good as the
shared file system's: NFS 4 and SMB pass it on.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gannet.fabrics.sandbox_registry import Process

NAME = "running.lock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_ENDS_S = 2.0  # for what a killed command has started to end, too
_NO_FLOCK = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


class FolderBusy(ValueError):
    """Another command works in the folder; the text says which, and what to do."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: a process of a machine (`boot` differs after it has started again), and since when."""

    pid: int
    started: int
    boot: str
    host: str
    command: str
    since: str

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        command = " ".join(["gannet", *sys.argv[1:]])
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(
            **asdict(Process.of(os.getpid())), boot=_boot(), host=platform.node(), command=command, since=since
        )

    def alive(self) -> bool:
        """Whether the process lives, as far as this machine can tell: none of another boot or machine does."""
        return self.boot == _boot() and Process(self.pid, self.started).alive()


def results_of(folder: Path) -> Path:
    """The folder whose lock covers a folder of results: of one run in a comparison, the comparison's."""
    whole = folder.absolute()
    inside = (
        len(whole.parents) > 1 and (whole / "steps.jsonl").exists() and (whole.parents[1] / "spec.yaml").is_file()
    )
    return whole.parents[1] if inside else whole


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it is made if it is missing, and removed again if it is empty in the end.

    Raises FolderBusy, and OSError where nothing can be written. A process that enters a sandbox within it takes the
    lock along.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    try:
        file = _locked(path)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()  # while it is locked: who waits at its door finds another file, or none
            os.close(file)
    finally:
        with suppress(OSError):
            for made in missing:
                made.rmdir()  # which one with something in it refuses


def _locked(path: Path) -> int:
    """A file descriptor that has the lock."""
    until_s = time.monotonic() + _ENDS_S
    while True:
        file = _opened(path)
        try:
            if not _flock(file):
                holder = _holder(file)
                if holder is None or holder.alive() or time.monotonic() > until_s:
                    raise FolderBusy(_busy(path, holder))
                os.close(file)
                time.sleep(0.05)
                continue
            if not _same(file, path):  # removed by the holder that has just ended
                os.close(file)
                continue
            with suppress(OSError):  # a full disk, or another user's file: the lock holds without a record
                os.ftruncate(file, 0)
                os.pwrite(file, json.dumps(asdict(Holder.here())).encode(), 0)
        except BaseException:
            with suppress(OSError):
                os.close(file)
            raise
        return file


def _opened(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        if not path.exists():
            raise
        file = os.open(path, flags | os.O_RDONLY)  # left behind by another user
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FolderBusy(f"{path}: this is no regular file; remove it")
    return file


def flocked(file: int) -> bool | None:
    """Whether this process has the lock of an open file now; None: the file system has no flock(2)."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return None
    return True


def _flock(file: int) -> bool:
    """Whether this process has the lock now."""
    if (got := flocked(file)) is not None:
        return got
    holder = _holder(file)
    return holder is None or not holder.alive()


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _holder(file: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(file, 65536, 0)))
    except (ValueError, TypeError):
        return None


def _busy(path: Path, holder: Holder | None) -> str:
    if holder is None:
        return f"{path.parent}: another command works in this folder: wait for its end, or stop it"
    where = "" if holder.host == platform.node() else f" on {holder.host}"
    return (
        f"{path.parent}: `{holder.command}` still works in this folder (process {holder.pid}{where}, since "
        f"{holder.since}): wait for its end, or stop it"
    )


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
