"""The driver's end of an agent: spawn one behind a command prefix and ask it things over its pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

_ROOT = str(Path(__file__).parents[3])


class AgentError(RuntimeError):
    """The agent refused, failed, or did not answer in time."""


class AgentGone(AgentError):
    """The agent, or the line to it, has ended: it will never answer again."""


def launch(prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """An agent's process, for an AgentClient, behind a command prefix."""
    argv = [*prefix, sys.executable, "-m", "gannet.netem.agent.server"]
    environment = {**os.environ, "PYTHONPATH": _ROOT}
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


class AgentClient:
    """One agent process. Several threads may ask at once; a thread reads the answers and tells whose they are."""

    def __init__(self, process: subprocess.Popen[bytes], name: str = "agent") -> None:
        self.process = process
        self.name = name
        self._lock = threading.Lock()
        self._number = 0
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=f"{name} reader", daemon=True)
        self._reader.start()

    @classmethod
    def spawn(cls, prefix: Sequence[str] = (), name: str = "agent") -> AgentClient:
        """Start an agent; `prefix` puts it in its namespace: ("nsenter", "--net=/run/netns/node0")."""
        return cls(launch(prefix), name)

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """Ask one thing and wait for the answer; AgentError says which agent, which request and why not."""
        assert self.process.stdin is not None
        answered: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._ended:
                raise AgentGone(f"{self.name}: {op}: the agent has ended{self._status()}")
            self._number += 1
            number = self._number
            self._waiting[number] = answered
            try:
                self.process.stdin.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
                self.process.stdin.flush()
            except (BrokenPipeError, ValueError) as error:
                del self._waiting[number]
                raise AgentGone(f"{self.name}: {op}: the agent has ended{self._status()}") from error
        try:
            answer = answered.result(timeout_s)
        except TimeoutError as error:  # its answer, when it comes, is nobody's
            with self._lock:
                self._waiting.pop(number, None)
            raise AgentError(f"{self.name}: {op}: no answer within {timeout_s:g} s") from error
        except EOFError as error:
            raise AgentGone(f"{self.name}: {op}: the agent ended{self._status()}") from error
        if "error" in answer:
            raise AgentError(f"{self.name}: {answer['error']}")
        result: dict[str, Any] = answer["ok"]
        return result

    def close(self, timeout_s: float = 15.0) -> None:
        """Have the agent clear its links and end; one that does not end in time is killed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already
            self.process.stdin.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stdout.close()

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _status(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return f" with status {self.process.wait(5)}"
        return ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answer = json.loads(line)
            with self._lock:
                waiting = self._waiting.pop(answer["id"], None)
            if waiting is not None:
                waiting.set_result(answer)
        with self._lock:
            self._ended, left = True, list(self._waiting.values())
            self._waiting.clear()
        for waiting in left:
            waiting.set_exception(EOFError())
