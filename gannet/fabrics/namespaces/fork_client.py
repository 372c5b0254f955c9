"""The fabric's end of the fork server: start it, have nodes forked, hear of their ends."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gannet.node.process.node_process import Place


@dataclass(frozen=True)
class Exited:
    """A node's process ended with this status (negative: the signal that killed it)."""

    rank: int
    status: int


class ForkServer:
    """Starts `python -m gannet.fabrics.namespaces.fork_server` at once; its torch import overlaps with whatever comes
    next.
    """

    def __init__(self) -> None:
        # Training frees and takes the same large blocks at every step: glibc should keep them, since
        # giving them back to the kernel cost a tenth of the time of a gradient in page faults.
        keep = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(10**9)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gannet.fabrics.namespaces.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**keep, **os.environ},
        )
        self.pids: dict[int, int] = {}
        self.exits: queue.SimpleQueue[Exited] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ready = False
        threading.Thread(target=self._listen, name="fork_server", daemon=True).start()

    def fork(self, rank: int, netns: str | None, place: Place, log: Path, timeout_s: float = 120.0) -> int:
        """Fork a node into a network namespace (path); returns its pid."""
        if not self._ready:
            self._answer("ready", timeout_s)
            self._ready = True
        order = {"rank": rank, "netns": netns, "log": str(log), "place": asdict(place)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        pid = int(self._answer("pid", timeout_s)["pid"])
        self.pids[rank] = pid
        return pid

    def close(self) -> None:
        """End the server and every node that it still has."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self, key: str, timeout_s: float) -> dict[str, Any]:
        try:
            news = self._news.get(timeout=timeout_s)
        except queue.Empty:
            raise RuntimeError(f"the fork server did not answer within {timeout_s} s") from None
        if news is None or key not in news:
            raise RuntimeError(f"the fork server ended (status {self._process.poll()}); see its error above")
        return news

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            news = json.loads(line)
            if "status" in news:
                self.exits.put(Exited(news["rank"], news["status"]))
            else:
                self._news.put(news)
        self._news.put(None)
