"""Cancellation of tasks that read streams of grpc.aio."""

from __future__ import annotations

import asyncio


def heed_cancellation() -> None:
    """Raise CancelledError if the present task has been cancelled. Call it before a stream is opened again.

    A stream that breaks in the moment in which its reader is cancelled raises its status (grpcio 1.85.3), and asyncio
    takes the cancellation for delivered.
    """
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError
