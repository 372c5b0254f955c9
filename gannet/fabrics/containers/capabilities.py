"""Gives up Linux capabilities of the calling thread, permanently."""

from __future__ import annotations

import ctypes
import os

CAP_KILL = 5
_VERSION_3 = 0x20080522  # of linux/capability.h: two words of 32 capabilities
_PR_SET_NO_NEW_PRIVS = 38


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Word(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def keep_only(*capabilities: int) -> None:
    """Give up all but these capabilities (numbers of capabilities(7) below 32), and any way to gain others.

    Applies to the calling thread and its children: call it while it is the only thread. Raises OSError.
    """
    mask = sum(1 << number for number in capabilities)
    words = (_Word * 2)(_Word(mask, mask, 0), _Word(0, 0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    gave_up = libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), words) == 0
    if not gave_up or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"cannot give up capabilities: {os.strerror(errno)}")
