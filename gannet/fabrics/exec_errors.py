"""Why a program could not be started inside a node."""

from __future__ import annotations


class NoNode(RuntimeError):
    """There is no such node to enter; the message says what there is."""


class NoProgram(RuntimeError):
    """The program cannot be run; `status` is what a shell would end with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
