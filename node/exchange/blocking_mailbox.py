"""The mailbox between two threads: gRPC's event loop puts messages in, the training thread takes them out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from gannet.node.exchange.async_mailbox import AsyncMailbox
from gannet.node.exchange.impatience import Impatience, WaitReport
from gannet.node.exchange.mailbox import Header, Mailbox, Refusal
from gannet.node.training.effects import Arrival, LeaveNow, PeerLost, Tag

Key = tuple[int, Tag]  # sender, and its message


class RunAborted(Exception):
    """The controller ended the run, or is gone."""


@dataclass
class _Asked:
    """A requested message: when it was requested, whether the wait was reported, and the outcome."""

    since_s: float
    told: bool = False
    outcome: memoryview | PeerLost | None = None


class BlockingMailbox:
    """A Mailbox under a lock, with blocking receipt for the training thread."""

    def __init__(self, mailbox: Mailbox, on_wait: WaitReport) -> None:
        self._mailbox = mailbox
        self.impatience = Impatience(on_wait)
        self._lock = threading.Lock()
        self._aborted: str | None = None
        self._leaving: int | None = None
        self._pending: Future[memoryview] | Future[list[Arrival]] | Future[None] | None = None
        self._asked: dict[Key, _Asked] = {}  # what receive_first waits for and has not returned yet
        self._first: Future[None] | None = None

    def check_header(self, header: Header) -> None:
        """See Mailbox.check_header."""
        with self._lock:
            self._mailbox.check_header(header)

    def is_ahead(self, header: Header) -> bool:
        """See Mailbox.is_ahead."""
        with self._lock:
            return self._mailbox.is_ahead(header)

    def on_round(self, began: Callable[[], None]) -> None:
        """Have `began` called when a round begins, in the training thread or the loop."""
        self._mailbox.on_round = began

    def put(self, header: Header, payload: memoryview, crc32: int) -> None:
        """See Mailbox.put."""
        with self._lock:
            self._mailbox.put(header, payload, crc32)

    def forged(self, detail: str) -> Refusal:
        """See Mailbox.forged."""
        with self._lock:
            return self._mailbox.forged(detail)

    def malformed(self, detail: str) -> Refusal:
        """See Mailbox.malformed."""
        with self._lock:
            return self._mailbox.malformed(detail)

    def enter_round(self, number: int, player: int = 0) -> None:
        """See Mailbox.enter_round."""
        with self._lock:
            self._mailbox.enter_round(number, player)

    def enter_rounds(self, rounds: Sequence[int]) -> None:
        """See Mailbox.enter_rounds."""
        with self._lock:
            self._mailbox.enter_rounds(rounds)

    def readmit(self, rank: int, rounds: Sequence[int]) -> None:
        """See Mailbox.readmit and Mailbox.enter_rounds: a peer is back, in these rounds."""
        with self._lock:
            self._mailbox.readmit(rank)
            self._mailbox.enter_rounds(rounds)

    def refused(self) -> dict[str, int]:
        """Number of segments refused so far, by reason."""
        with self._lock:
            return dict(self._mailbox.refused)

    def lose(self, rank: int, reason: str) -> None:
        """See Mailbox.lose."""
        with self._lock:
            self._mailbox.lose(rank, reason)

    def cut(self, rank: int, reason: str) -> None:
        """See Mailbox.cut."""
        with self._lock:
            self._mailbox.cut(rank, reason)

    def heal(self, rank: int, rounds: Sequence[int]) -> None:
        """See Mailbox.heal."""
        with self._lock:
            self._mailbox.heal(rank, rounds)

    def losses(self) -> tuple[int, ...]:
        """See Mailbox.losses."""
        with self._lock:
            return self._mailbox.losses()

    def lost(self) -> int:
        """Number of peers known to be gone."""
        with self._lock:
            return len(self._mailbox.lost)

    def is_lost(self, rank: int) -> bool:
        """Whether that peer is known to be gone, or this node does without it for now."""
        with self._lock:
            return rank in self._mailbox.lost or rank in self._mailbox.cut_off

    def abort(self, reason: str) -> None:
        """Wake the training thread with RunAborted, now or at its next receive."""
        with self._lock:
            self._aborted = reason
            if self._pending is not None and not self._pending.done():
                self._pending.set_exception(RunAborted(reason))

    def leave(self, step: int) -> None:
        """Wake the training thread with LeaveNow, now or at its next receive."""
        with self._lock:
            self._leaving = step
            if self._pending is not None and not self._pending.done():
                self._pending.set_exception(LeaveNow(step))

    def _check(self) -> None:
        if self._aborted is not None:
            raise RunAborted(self._aborted)
        if self._leaving is not None:
            raise LeaveNow(self._leaving)

    def aborted(self) -> str | None:
        """Why the run was aborted, if it was."""
        return self._aborted

    def receive(self, source: int, tag: Tag, patience_s: float, deadline_s: float) -> memoryview:
        """Block until the message is there. Raises PeerLost (also past the deadline) or RunAborted.

        `patience_s` (seconds, as `deadline_s`): see Impatience.
        """
        future: Future[memoryview] = Future()

        def settle(outcome: memoryview | PeerLost) -> None:
            if future.done():
                return
            if isinstance(outcome, PeerLost):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        with self._lock:
            self._check()
            self._pending = future
            self._mailbox.expect(source, tag, settle)
        try:
            for wait_s in self.impatience.times_s(source, tag.round, patience_s):
                with suppress(FutureTimeout):
                    return future.result(wait_s)
            return future.result(deadline_s - patience_s)
        except FutureTimeout:
            with self._lock:
                self._mailbox.give_up(source, tag, f"no message within {deadline_s:.1f} s")
            return future.result(0)
        finally:
            self._pending = None

    def receive_first(
        self, wanted: Sequence[Key], patience_s: float, deadline_s: float
    ) -> tuple[int, memoryview | PeerLost]:
        """Block until one of these messages is there or cannot come: (index, payload or PeerLost). Raises RunAborted.

        For each, `patience_s` and `deadline_s` count from when it was first requested.
        """
        while True:
            with self._lock:
                self._check()
                for key in wanted:
                    if key not in self._asked:
                        asked = self._asked[key] = _Asked(time.monotonic())
                        self._mailbox.expect(*key, partial(self._keep, asked))
                for index, key in enumerate(wanted):
                    if (outcome := self._asked[key].outcome) is not None:
                        del self._asked[key]
                        return index, outcome
                future = self._pending = self._first = Future()
            waits = [self._asked[key] for key in wanted]
            due_s = min(each.since_s + (deadline_s if each.told else patience_s) for each in waits)
            due_s = min(due_s, self.impatience.due_s(patience_s))
            try:
                future.result(max(0.0, due_s - time.monotonic()))
            except FutureTimeout:
                for key in wanted:
                    self._remind(key, patience_s, deadline_s)
            finally:
                self._pending = self._first = None

    def _keep(self, asked: _Asked, outcome: memoryview | PeerLost) -> None:
        """Store the outcome that receive_first waits for, and wake it; called under the lock."""
        asked.outcome = outcome
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def _remind(self, key: Key, patience_s: float, deadline_s: float) -> None:
        """Report that this message is waited for, and give it up at its deadline."""
        (source, tag), asked = key, self._asked[key]
        now_s = time.monotonic()
        waited_s = now_s - asked.since_s
        if not asked.told and waited_s >= patience_s:
            asked.told = True
            self.impatience.tell(source, tag.round, together=False)
        elif now_s >= self.impatience.due_s(patience_s):
            self.impatience.tell(source, tag.round, together=True)
        if waited_s >= deadline_s:
            with self._lock:
                self._mailbox.give_up(source, tag, f"no message within {deadline_s:.1f} s")

    def collect(self, wait: bool, deadline_s: float) -> list[Arrival]:
        """All arrivals; with `wait`, block until there is one, `deadline_s` at most. Raises RunAborted."""
        assert isinstance(self._mailbox, AsyncMailbox)
        future: Future[list[Arrival]] = Future()

        def settle(arrivals: list[Arrival]) -> None:
            if not future.done():
                future.set_result(arrivals)

        with self._lock:
            self._check()
            if not wait:
                return self._mailbox.take()
            self._pending = future
            self._mailbox.collect(settle)
        try:
            return future.result(deadline_s)
        except FutureTimeout:
            with self._lock:
                self._mailbox.stop_waiting()
            return future.result(0)
        finally:
            self._pending = None
