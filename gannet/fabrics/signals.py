"""Signals to a command that has to clean up after itself: they interrupt its work, and never its clean-up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminated_as_interrupted() -> Iterator[list[int]]:
    """Meanwhile treat SIGTERM and a closed terminal as Ctrl-C, which is handled even where it was ignored before.

    Yields a list of the signals that came.
    """
    came: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    with _handled_by(interrupt):
        yield came


@contextmanager
def ignore_signals() -> Iterator[None]:
    """Meanwhile ignore Ctrl-C and SIGTERM: a second one must not leave half a cluster behind."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
    """Meanwhile send all these signals to `handler`; outside the main thread, change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _ALL}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def note_signals() -> list[int]:
    """From now on, signals that would end the program are only noted, in the list that this returns.

    For a process that looks at the list and then ends by itself: an exception may come at a bad moment, and one that
    comes while a thread holds a queue's lock leaves it locked permanently.
    """
    noted: list[int] = []
    for number in _ALL:
        signal.signal(number, lambda number, _: noted.append(number))
    return noted
