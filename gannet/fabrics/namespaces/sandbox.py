"""A separate process tree: user (when not root), mount, network and process namespaces for one command.

`enter()` moves the rest of the program into fresh namespaces. Every network namespace, interface, qdisc
and process that a run makes lives inside, and the kernel removes them all when the sandbox's first
process ends, however it ends: by Ctrl-C, by kill -9, or by a crash. The outer process only waits,
passes signals on, and takes the sandbox down with it when it is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import sys
from pathlib import Path

from gannet.console import say_error
from gannet.fabrics import sandbox_registry as registry

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_NOSUID_NODEV = 1 << 12, 1 << 14, 1 << 18, 2 | 4
_PR_SET_PDEATHSIG = 1
_SI_KERNEL = 0x80
_MARK = "GANNET_SANDBOX"

_libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(Exception):
    """The machine does not let this user make namespaces; the message says what to change."""


def inside() -> bool:
    """Whether this process is in a sandbox already."""
    return _MARK in os.environ


def rootless() -> bool:
    """Whether this process is in a sandbox that an ordinary user made."""
    return os.environ.get(_MARK) == "rootless"


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (prctl PR_SET_PDEATHSIG)."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def join_network(path: str) -> None:
    """Move the calling thread into the network namespace at `path` (setns)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, CLONE_NEWNET), f"setns {path}")
    finally:
        os.close(fd)


def take_name(name: str, hosts: str) -> None:
    """Give the calling process, which has one thread, a host name of its own, and the file `hosts` as /etc/hosts."""
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWUTS), "unshare")
    socket.sethostname(name)
    _mount(hosts, "/etc/hosts", None, _MS_BIND)


def enter() -> None:
    """Continue inside a sandbox. Returns there; the outer process never returns from here.

    Call it while the program has one thread. Raises SandboxError when namespaces are not allowed.
    """
    if inside():
        return
    root = os.geteuid() == 0
    uid, gid = os.geteuid(), os.getegid()
    try:
        registry.state_folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = "set XDG_STATE_HOME to a folder that you may write to"
        raise SandboxError(f"cannot keep a note of this run ({error}): {advice}") from error
    # Only the child gets new mounts and a new network: the outer process must keep seeing the host's /proc.
    flags = CLONE_NEWPID | (0 if root else CLONE_NEWUSER)
    watched = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    try:
        _check(_libc.unshare(flags), "unshare")
        if not root:
            _map_user(uid, gid)
    except OSError as error:
        raise SandboxError(_advice(root, error)) from error
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        entry = registry.remember(os.getpid(), child, " ".join(sys.argv))
        try:
            status = _attend(child, watched)
        finally:
            entry.forget()
        os._exit(status)
    try:
        die_with_parent()
        _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
        _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
        _mount("proc", "/proc", "proc", _MS_NOSUID_NODEV)
        _mount("tmpfs", "/run", "tmpfs", _MS_NOSUID_NODEV)
        Path("/run/netns").mkdir()
    except OSError as error:
        say_error(_advice(root, error))
        os._exit(1)
    os.environ[_MARK] = "root" if root else "rootless"
    # The first process of a process namespace ignores signals for which it has no handler.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _attend(child: int, watched: set[signal.Signals]) -> int:
    """Wait for the sandbox, pass signals on, return its exit status."""
    while True:
        info = signal.sigwaitinfo(watched)
        if info.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return _end(status)
        elif info.si_signo == signal.SIGINT and info.si_code == _SI_KERNEL:
            continue  # Ctrl-C at the terminal reaches the sandbox by itself
        else:
            os.kill(child, info.si_signo)


def _end(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _map_user(uid: int, gid: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    encoded = kind.encode() if kind else None
    _check(_libc.mount(source.encode(), target.encode(), encoded, flags, None), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _advice(root: bool, error: OSError) -> str:
    if root:
        return (
            f"cannot make namespaces as root ({error}). Inside a container, start it with "
            "--privileged (or --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt apparmor=unconfined); "
            "or run on the virtual clock: --set fabric=virtual"
        )
    return (
        f"this user may not make namespaces ({error}). Run with sudo, or allow it: "
        "sudo sysctl kernel.unprivileged_userns_clone=1 (Debian), "
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04 and later); "
        "or run on the virtual clock: --set fabric=virtual"
    )


def own_as_caller(folder: Path) -> None:
    """Under sudo, make the calling user the owner of the results; of a link itself, never of what it points to.

    Folders are entered through their descriptors, so that a link which takes a folder's place meanwhile is not
    followed; a file that has another name elsewhere is left alone.
    """
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() != 0 or not uid or not gid or rootless():
        return
    owner = int(uid), int(gid)
    if folder.parent.name == "runs" and folder.parent.stat(follow_symlinks=False).st_uid == 0:
        os.chown(folder.parent, *owner, follow_symlinks=False)  # made here
    os.chown(folder, *owner, follow_symlinks=False)
    for _, folders, files, at in os.fwalk(folder):
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
                os.chown(name, *owner, dir_fd=at, follow_symlinks=False)
