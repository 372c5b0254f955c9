"""A throwaway sandbox: user (when not root), network, mount and process namespaces that end together.

Everything is started below one `unshare` whose first process reads a pipe from this one; when the pipe closes, for
any reason, that process ends, and the kernel ends and removes all the rest. Preflight and the link tests use it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gannet.netem.process import complaint

# The shell stays, as the first process of its namespace, to reap orphaned processes.
_SETUP = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip link set lo up
echo ready
cat > /dev/null
exit
"""


class SandboxError(RuntimeError):
    """The sandbox could not be made or a command in it failed; the message holds its complaint."""


class Sandbox:
    """A context manager; `run` and `prefix` place commands in it or in a network namespace of it."""

    def __init__(self, rootless: bool | None = None) -> None:
        """`rootless`: map the user to root in a user namespace (None: only when not root already)."""
        self.rootless = os.geteuid() != 0 if rootless is None else rootless
        self._process: subprocess.Popen[str] | None = None
        self._pid = 0

    def __enter__(self) -> Sandbox:
        user = ["--user", "--map-root-user"] if self.rootless else []
        argv = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _SETUP]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        if self._process.stdout.readline() != "ready\n":
            said = self._process.stderr.read().strip()
            self.close()
            raise SandboxError(said or "unshare ended without a word")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._pid = int(children[0])
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything in the sandbox."""
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()
            self._process.wait(120)
            self._process = None

    def prefix(self, namespace: str | None = None) -> tuple[str, ...]:
        """The command prefix that runs a command in the sandbox, or in a namespace of it."""
        user = ("--user", "--preserve-credentials") if self.rootless else ()
        enter: tuple[str, ...] = ("nsenter", f"--target={self._pid}", *user, "--mount", "--net", "--pid")
        # nsenter waits outside for the command that it started inside: ending one must end the other.
        enter = (*enter, "setpriv", "--pdeathsig", "KILL")
        return enter if namespace is None else (*enter, "nsenter", f"--net=/run/netns/{namespace}")

    def run(
        self, argv: Sequence[str] | str, namespace: str | None = None, stdin: str = "", timeout_s: float = 240
    ) -> str:
        """Run a command (a string is split at spaces) and return its output; SandboxError when it fails."""
        words = argv.split() if isinstance(argv, str) else list(argv)
        argv = [*self.prefix(namespace), *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s)
        if done.returncode != 0:
            raise SandboxError(f"`{' '.join(words)}`: {complaint(done)}")
        return done.stdout

    def add_network(self, addresses: Sequence[str], device: str = "mesh0") -> None:
        """Namespaces node0, node1, … with `device` on one bridge, which has a namespace of its own."""
        nodes = [f"node{rank}" for rank in range(len(addresses))]
        self._ip(None, [f"netns add {name}" for name in ("switch", *nodes)])
        self._ip("switch", ["link add bridge0 type bridge", "link set bridge0 up"])
        for rank, (node, address) in enumerate(zip(nodes, addresses, strict=True)):
            lines = [
                f"link add {device} type veth peer name port{rank} netns switch",
                f"address add {address}/16 dev {device}",
                f"link set {device} up",
                "link set lo up",
            ]
            self._ip(node, lines)
        self._ip("switch", [f"link set port{rank} master bridge0 up" for rank in range(len(nodes))])

    def _ip(self, namespace: str | None, lines: Sequence[str]) -> None:
        self.run("ip -batch -", namespace, stdin="".join(f"{line}\n" for line in lines))
