"""Process and socket settings for which the standard library has no call."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_SO_RCVBUFFORCE = 33
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"prctl({option}): {os.strerror(errno)}")


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel end this process when `parent_pid`, which started it, ends for any reason."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit("the parent process ended before this one could start")


def precise_timers() -> None:
    """Make timers precise: an ordinary process may otherwise sleep 50 µs longer than asked."""
    _prctl(_PR_SET_TIMERSLACK, 1)


def raise_priority(real_time: int) -> str:
    """Take the highest scheduling priority that is allowed, and say which: real time, nice -20 or normal."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(real_time))
        return f"SCHED_FIFO {real_time}"
    except PermissionError:
        pass
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        return "nice -20"
    except PermissionError:
        return "normal"


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What a program that failed has said, without the description of its usage, which is twenty lines of tc's."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    usage = next((place for place, line in enumerate(lines) if line.lower().startswith("usage:")), 0)
    return "\n".join(lines[:usage] or lines)


def widen_receive_buffer(sock: socket.socket, size: int) -> None:
    """Set a receive buffer of `size` bytes; without the privilege, as much as net.core.rmem_max allows."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def clock_name() -> str:
    """A name for the CLOCK_MONOTONIC that this process reads: one kernel boot, shifted by a time namespace."""
    boot, shift = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/time")
    return f"{boot.read_text().strip()} {shift.readlink() if shift.is_symlink() else ''}"


class RunQueue:
    """How long this process has waited for a CPU while it had work to do."""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/schedstat", os.O_RDONLY)

    def waited_s(self) -> float:
        """Seconds since the process started (second figure of /proc/PID/schedstat)."""
        return int(os.pread(self._file, 96, 0).split()[1]) / 1e9
