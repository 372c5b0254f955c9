"""What a node has to tell its controller and the controller has not recorded yet.

Kept in memory, so that a controller that is started again misses nothing. The training thread waits in `room` where
that would be more than a limit, until the controller is back or the node ends.
"""

from __future__ import annotations

import threading
from collections import deque

from gannet.node.wire import control_pb2

MOST_REPORT_BYTES = 64 << 20  # some 300,000 steps
MOST_DEPOSIT_BYTES = 1 << 30


class Outbox:
    """Reports in order, numbered from 1, and the bytes of deposits. For any thread.

    `keeps`: whether reports stay until `received`; otherwise until they are taken.
    """

    def __init__(
        self, most_report_bytes: int = MOST_REPORT_BYTES, most_deposit_bytes: int = MOST_DEPOSIT_BYTES
    ) -> None:
        self._most = (most_report_bytes, most_deposit_bytes)
        self._changed = threading.Condition()
        self._kept: deque[control_pb2.Report] = deque()
        self._numbered = 0
        self._taken = 0  # the number of the last report that this connection has carried
        self._report_bytes = self._deposit_bytes = 0
        self._away = self._over = False
        self.keeps = True

    def add(self, report: control_pb2.Report) -> None:
        """Give a report its number, and keep it."""
        with self._changed:
            self._numbered += 1
            report.number = self._numbered
            self._kept.append(report)
            self._report_bytes += report.ByteSize()

    def take(self) -> control_pb2.Report | None:
        """The next report that this connection has not carried."""
        with self._changed:
            skip = len(self._kept) - (self._numbered - self._taken)
            if skip >= len(self._kept):
                return None
            report = self._kept[skip]
            self._taken = report.number
            if not self.keeps:
                self._drop(report.number)
            return report

    def forget_sent(self) -> None:
        """Do not keep reports once they are taken."""
        with self._changed:
            self.keeps = False
            self._drop(self._taken)

    def received(self, number: int) -> None:
        """Reports up to this number are recorded."""
        with self._changed:
            self._drop(number)
            self._taken = max(self._taken, number)

    def deposit(self, size: int) -> None:
        """Count a deposit's bytes; those of one that is recorded are negative."""
        with self._changed:
            self._deposit_bytes += size
            self._changed.notify_all()

    def lost(self) -> None:
        """The connection is lost: what it carried is taken again, unless it turns out to be recorded."""
        with self._changed:
            self._away, self._taken = True, self._numbered - len(self._kept)

    def found(self) -> None:
        """There is a connection again."""
        with self._changed:
            self._away = False
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will be recorded: let who waits for room continue."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    @property
    def unrecorded(self) -> int:
        """The number of reports that are kept."""
        return len(self._kept)

    @property
    def away(self) -> bool:
        """Whether there is no connection."""
        return self._away

    @property
    def full(self) -> bool:
        """Whether the training has to wait."""
        most_report_bytes, most_deposit_bytes = self._most
        over = self._report_bytes > most_report_bytes or self._deposit_bytes > most_deposit_bytes
        return over and self._away and not self._over

    def room(self) -> None:
        """Wait until there is room for more, which there is while there is a connection."""
        with self._changed:
            self._changed.wait_for(lambda: not self.full)

    def _drop(self, number: int) -> None:
        while self._kept and self._kept[0].number <= number:
            self._report_bytes -= self._kept.popleft().ByteSize()
        self._changed.notify_all()
