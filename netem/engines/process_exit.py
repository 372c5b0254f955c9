"""Detects the end of an engine's process, where it has one, and clears links after it."""

from __future__ import annotations

import os
import select

from gannet.netem.engines.base import Engine


def clear(engine: Engine) -> None:
    """Clear, also where the engine's process has ended with a request unread in its pipe."""
    try:
        engine.clear()
    except OSError:
        engine.clear()


def ending(engine: Engine | None) -> int | None:
    """A file descriptor, the caller's to close, readable when the engine's process has ended; None: it has none."""
    pid = getattr(engine, "worker_pid", None)
    if pid is None:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # it has already been waited for
        return None


def has_ended(engine: Engine) -> bool:
    """Whether this engine's process has ended; False for an engine without one."""
    if getattr(engine, "worker_pid", None) is None:
        return False
    worker = ending(engine)
    if worker is None:
        return True
    try:
        return bool(select.select([worker], [], [], 0)[0])
    finally:
        os.close(worker)
