"""The fabric's end of the fork server: starts it, has nodes forked, and receives their exits."""

from __future__ import annotations

import os
import queue
import signal
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gannet import logs
from gannet.netem.child import Child, ChildError
from gannet.node.process.place import Place


@dataclass(frozen=True)
class Exited:
    """A node's process ended with this status (negative: the signal that killed it)."""

    rank: int
    status: int

    @property
    def how(self) -> str:
        """The exit in words, by status or by signal."""
        if self.status < 0:
            named = (known.name for known in signal.Signals if known == -self.status)
            return f"was killed by {next(named, f'signal {-self.status}')}"
        return f"ended with status {self.status}"


class ForkServer:
    """Starts gannet.fabrics.namespaces.fork_server at once; its torch import overlaps with whatever comes next."""

    def __init__(self) -> None:
        # Training frees and allocates the same large blocks at every step: glibc should keep them, since returning
        # them to the kernel cost a tenth of a gradient's time in page faults.
        keep = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(10**9)}
        variables = {name: os.environ.get(name, value) for name, value in keep.items()} | logs.for_child("info")
        self._child = Child("the fork server", "gannet.fabrics.namespaces.fork_server", variables=variables)
        self.pids: dict[int, int] = {}
        self.exits: queue.SimpleQueue[Exited] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[dict[str, Any] | ChildError] = queue.SimpleQueue()
        self._ready = False
        threading.Thread(target=self._listen, name="fork_server", daemon=True).start()

    def fork(
        self,
        rank: int,
        netns: str | None,
        place: Place,
        log: Path,
        hosts: Path | None = None,
        timeout_s: float = 120.0,
    ) -> int:
        """Fork a node into a network namespace (path), with `hosts` as its /etc/hosts; returns its pid."""
        if not self._ready:
            self._answer("ready", timeout_s)
            self._ready = True
        order = {"rank": rank, "netns": netns, "log": str(log), "place": asdict(place)}
        order["hosts"] = str(hosts) if hosts else None
        with suppress(BrokenPipeError):  # the answer has the reason
            self._child.send(order)
        pid = int(self._answer("pid", timeout_s)["pid"])
        self.pids[rank] = pid
        return pid

    def close(self) -> None:
        """End the server and every node that it still has."""
        self._child.close(timeout_s=5)

    def _answer(self, key: str, timeout_s: float) -> dict[str, Any]:
        try:
            news = self._news.get(timeout=timeout_s)
        except queue.Empty:
            raise RuntimeError(f"the fork server did not answer within {timeout_s} s") from None
        if isinstance(news, ChildError):
            self._news.put(news)  # whatever is asked next has the same answer
            raise RuntimeError(f"{news}; see its error above") from news
        if key not in news:
            raise RuntimeError(f"the fork server answered {news}, which has no {key!r}")
        return news

    def _listen(self) -> None:
        while True:
            try:
                news = self._child.answer()
            except ChildError as error:
                self._news.put(error)
                return
            if "status" in news:
                self.exits.put(Exited(news["rank"], news["status"]))
            else:
                self._news.put(news)
