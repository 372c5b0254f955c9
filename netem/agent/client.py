"""The driver's end of an agent: spawn one behind a command prefix and send it requests over its pipe."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from gannet.netem.child import Child, ChildError


class AgentError(RuntimeError):
    """The agent refused, failed, or did not answer in time."""


class AgentGone(AgentError):
    """The agent, or the line to it, has ended: it will never answer again."""


def launch(
    prefix: Sequence[str] = (),
    name: str = "agent",
    variables: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Child:
    """Start an agent's process, for an AgentClient, behind a command prefix; the rest as for Child."""
    return Child(name, "gannet.netem.agent.server", prefix=prefix, variables=variables, log=log)


class AgentClient:
    """One agent process. Several threads may ask at once; a reader thread hands each answer to the thread that waits
    for it.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self.name = name = child.name
        self._lock = threading.Lock()
        self._number = 0
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._ended = False
        self._complaint: str | None = None
        self._reader = threading.Thread(target=self._read, name=f"{name} reader", daemon=True)
        self._reader.start()

    @classmethod
    def spawn(
        cls,
        prefix: Sequence[str] = (),
        name: str = "agent",
        variables: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> AgentClient:
        """Start an agent; `prefix` puts it in its namespace: ("nsenter", "--net=/run/netns/node0")."""
        return cls(launch(prefix, name, variables, log))

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The agent's process, or its command prefix's."""
        return self.child.process

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for the answer; AgentError says which agent, which request and why it failed."""
        answered: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._ended:
                raise self._gone(op)
            self._number += 1
            number = self._number
            self._waiting[number] = answered
            with suppress(BrokenPipeError):  # the reader thread sees why, and ends the wait
                self.child.send({"id": number, "op": op, **arguments})
        try:
            answer = answered.result(timeout_s)
        except TimeoutError as error:  # its answer, when it comes, is dropped
            with self._lock:
                self._waiting.pop(number, None)
            raise AgentError(f"{self.name}: {op}: no answer within {timeout_s:g} s") from error
        except EOFError as error:
            raise self._gone(op) from error
        if "error" in answer:
            raise AgentError(f"{self.name}: {answer['error']}")
        result: dict[str, Any] = answer["ok"]
        return result

    def close(self, timeout_s: float = 15.0) -> None:
        """Have the agent clear its links and end; one that does not end in time is killed."""
        assert self.process.stdout is not None
        self.child.close(timeout_s)
        self._reader.join()
        self.process.stdout.close()

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _gone(self, op: str) -> AgentGone:
        status = ""
        with suppress(subprocess.TimeoutExpired):
            status = f" with status {self.process.wait(5)}"
        status += f"; see {self.child.log}" if self.child.log else ""
        return AgentGone(f"{self.name}: {op}: " + (self._complaint or f"the agent has ended{status}"))

    def _read(self) -> None:
        try:
            while (answer := self.child.receive()) is not None:
                with self._lock:
                    waiting = self._waiting.pop(answer["id"], None)
                if waiting is not None:
                    waiting.set_result(answer)
        except ChildError as error:
            self._complaint = str(error)
        with self._lock:
            self._ended, left = True, list(self._waiting.values())
            self._waiting.clear()
        for waiting in left:
            waiting.set_exception(EOFError())
