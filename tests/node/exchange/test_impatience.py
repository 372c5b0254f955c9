"""When a node says that it waits: a wait that is long by itself, and a step of many short ones."""

from __future__ import annotations

import threading
import time
import zlib
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from gannet.node.codecs import build_codec
from gannet.node.exchange.blocking_mailbox import BlockingMailbox
from gannet.node.exchange.impatience import Impatience
from gannet.node.exchange.mailbox import Header, Mailbox
from gannet.node.training.effects import Tag

PATIENCE_S = 10.0
Report = tuple[int, int, bool]


class Waiting:
    """A node on a clock of the test's own."""

    def __init__(self) -> None:
        self.now_s, self.reports = 100.0, list[tuple[float, Report]]()
        self.impatience = Impatience(lambda *report: self.reports.append((self.now_s, report)), lambda: self.now_s)

    def wait(self, seconds: float, peer: int = 1) -> None:
        """Wait as a receiver does, for a message that comes after so long."""
        left_s = seconds
        for wait_s in self.impatience.times_s(peer, 5, PATIENCE_S):
            if left_s < wait_s:
                break
            self.now_s, left_s = self.now_s + wait_s, left_s - wait_s
        self.now_s += left_s


def test_a_long_wait_is_reported_after_its_patience() -> None:
    node = Waiting()
    node.wait(9.9)
    assert node.reports == []
    node.impatience.moves()
    node.wait(25.0, peer=2)
    assert [report for report in node.reports if not report[1][2]] == [(119.9, (2, 5, False))]


@given(st.lists(st.floats(0.1, 9.0), min_size=1, max_size=30))
def test_a_step_of_short_waits_is_reported_once_when_it_has_lasted_so_long(waits_s: list[float]) -> None:
    node = Waiting()
    for number, seconds in enumerate(waits_s):
        node.wait(seconds, number)
    if sum(waits_s) <= PATIENCE_S:
        assert len(node.reports) <= (sum(waits_s) == PATIENCE_S)
        return
    ((at_s, (peer, _, together)),) = node.reports
    before_s = 100.0 + sum(waits_s[:peer])
    assert together and at_s == max(before_s, 100.0 + PATIENCE_S) and before_s <= at_s <= before_s + waits_s[peer]
    assert node.impatience.due_s(PATIENCE_S) == inf
    node.impatience.moves()  # and the next step's waits count by themselves
    node.wait(9.0)
    assert len(node.reports) == 1


def test_a_node_that_receives_many_messages_in_a_step_says_that_it_waits() -> None:
    """Each message takes a third of its patience: on a slow machine one alone may be longer, and is told, too."""
    told: list[Report] = []
    codec, patience_s = build_codec("fp32"), 0.6
    box = Mailbox("run", 0, 4, 99, codec, max_bytes=20, window_rounds=2)
    inbox = BlockingMailbox(box, lambda *report: told.append(report))
    payload = memoryview(bytes(20))

    def send() -> None:
        for segment in range(6):
            time.sleep(patience_s / 3)
            header = Header("run", 1, Tag(1, segment), 99, len(payload), zlib.crc32(payload))
            inbox.put(header, payload, zlib.crc32(payload))

    threading.Thread(target=send).start()
    for segment in range(6):
        assert inbox.receive(1, Tag(1, segment), patience_s, 60) == payload
    assert told and {(peer, number) for peer, number, _ in told} == {(1, 1)}
