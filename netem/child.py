"""Python processes of this package: started so that they run its own code, and read line by line.

`Child` is the parent's end. It starts `python -P …/gannet/netem/child.py MODULE ARGUMENT…`: Python then searches
neither the folder where the command was typed nor this one, and `main` below imports `gannet` from where the parent
has it, whatever a user's PYTHONPATH holds; all else is found as by any Python. MODULE's `main` gets an `Answers`, the
child's end of the pipe. File descriptor 1 is standard error from then on, so that a print() anywhere, in a library or
in a user's task, is not taken for an answer.
"""

from __future__ import annotations

import importlib
import json
import logging.config
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

_ROOT = str(Path(__file__).parents[2])
_SHOWN_CHARACTERS = 500


class ChildError(RuntimeError):
    """A child has ended, or printed something that is not an answer; the message says which child and what."""


class Child:
    """A child that answers requests, JSON lines both ways; its standard error is the parent's, or goes to a file."""

    def __init__(
        self,
        name: str,
        module: str,
        *arguments: str,
        prefix: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        cwd: str | None = None,
        log: Path | None = None,
    ) -> None:
        """`name` in errors; `prefix` is a command that runs another one; `variables` change the environment.

        `log`: a file to append standard error to.
        """
        self.name, self.module, self.log = name, module, log
        environment = {**os.environ, **(variables or {})}
        # An empty entry is the present folder to Python: mostly the remains of PYTHONPATH=$PYTHONPATH:/my/folder.
        if path := environment.get("PYTHONPATH"):
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, path.split(os.pathsep)))
        argv = [*prefix, sys.executable, "-P", __file__, module, *arguments]
        pipe = subprocess.PIPE
        with ExitStack() as stack:
            errors = stack.enter_context(log.open("ab")) if log else None
            self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=errors, env=environment, cwd=cwd)

    def send(self, order: Mapping[str, Any], payload: bytes = b"") -> None:
        """Send one request, with raw bytes after its line; BrokenPipeError when the child has ended."""
        assert self.process.stdin is not None
        data = json.dumps(order).encode() + b"\n" + payload
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except ValueError as error:  # what Python says of a file that was closed
            raise BrokenPipeError(f"{self.name} was closed") from error

    def receive(self) -> dict[str, Any] | None:
        """The next answer; None when the child has ended. A child that prints anything else is killed: ChildError."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return None
        with suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict):
                return answer
        self.process.kill()
        raise ChildError(
            f"{self.name} ({self.module}) printed {line.decode(errors='replace').rstrip()[:_SHOWN_CHARACTERS]!r} "
            "instead of an answer and was ended: another program runs in its place, or something prints as Python "
            "starts (a sitecustomize or .pth file)"
        )

    def ask(self, order: Mapping[str, Any], payload: bytes = b"") -> dict[str, Any]:
        """Send a request and return its answer; ChildError when the child has ended."""
        with suppress(BrokenPipeError):  # its output before it ended says more than this error
            self.send(order, payload)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer; ChildError when the child has ended."""
        answer = self.receive()
        if answer is None:
            raise ChildError(f"{self.name} ended with status {self.process.wait()}")
        return answer

    def close(self, timeout_s: float) -> None:
        """Close its standard input, which ends it; a child that does not end in time is killed."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already
            self.process.stdin.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Answers:
    """The child's end of the pipe to its parent; several threads may answer."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()

    def __call__(self, answer: Mapping[str, Any]) -> None:
        line = json.dumps(answer).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self.fd, line) :]


def main() -> Any:
    """In the child: claim the pipe before anything else can print, find this gannet, run MODULE's `main`.

    Logging is as GANNET_LOGGING says, JSON for logging.config.dictConfig.
    """
    pipe = os.dup(1)
    os.dup2(2, 1)
    del sys.argv[0]
    sys.path.insert(0, _ROOT)
    importlib.import_module("gannet")
    # Once gannet is found, its modules are; anything else in that folder is looked for last.
    sys.path.append(sys.path.pop(0))
    if configuration := os.environ.get("GANNET_LOGGING"):
        logging.config.dictConfig(json.loads(configuration))
    return importlib.import_module(sys.argv[0]).main(Answers(pipe))


if __name__ == "__main__":
    sys.exit(main())
