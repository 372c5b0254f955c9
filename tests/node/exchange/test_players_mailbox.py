"""The gate and the inbox where each player has a codec and rounds of its own, and waits for what comes first."""

from __future__ import annotations

import threading
import zlib

import numpy as np
import pytest
import torch

from gannet.node.codecs import build_codec
from gannet.node.exchange.blocking_mailbox import BlockingMailbox, RunAborted
from gannet.node.exchange.mailbox import Header, Mailbox, Refusal, Verdict
from gannet.node.training.effects import RAW_SEGMENT, PeerLost, Tag

EXACT, COARSE = build_codec("fp32"), build_codec("qsgd-4bit")
FOUR = memoryview(np.ones(4, dtype="<f4").tobytes())


def mailbox() -> Mailbox:
    return Mailbox("run", 0, 4, 99, (EXACT, COARSE), max_bytes=100, window_rounds=2)


def header(payload: memoryview, tag: Tag, sender: int = 1) -> Header:
    return Header("run", sender, tag, 99, len(payload), zlib.crc32(payload))


def test_a_body_is_judged_by_its_players_codec_and_its_players_round() -> None:
    box, coarse = mailbox(), COARSE.encode(torch.ones(40))
    box.enter_round(50)
    for payload, tag in ((FOUR, Tag(50, 0)), (coarse, Tag(1, 0, 1)), (FOUR, Tag(1, 1 | RAW_SEGMENT, 1))):
        box.put(header(payload, tag), payload)
    refused = [
        (FOUR, Tag(1, 0, 0), Verdict.STALE),  # its number is of the other player's rounds
        (coarse, Tag(50, 0, 1), Verdict.TOO_EARLY),
        (coarse[:7], Tag(50, 1, 0), Verdict.MALFORMED),
        (FOUR, Tag(1, 0, 2), Verdict.MALFORMED),  # there is no third
    ]
    for payload, tag, verdict in refused:
        with pytest.raises(Refusal) as refusal:
            box.put(header(payload, tag), payload)
        assert refusal.value.verdict is verdict, tag
    box.enter_round(3, player=1)  # what has come for the other is still there
    got: list[memoryview | PeerLost] = []
    box.expect(1, Tag(50, 0), got.append)
    assert bytes(got[0]) == bytes(FOUR)


def test_whatever_comes_first_is_told_first_and_each_has_its_own_deadline() -> None:
    waits: list[tuple[int, int]] = []
    box = mailbox()
    inbox = BlockingMailbox(box, lambda source, number, together: waits.append((source, number)))
    late, soon = (1, Tag(1, 0, 0)), (2, Tag(1, 0, 1))
    payload = COARSE.encode(torch.ones(40))

    def put() -> None:
        inbox.put(header(payload, soon[1], sender=2), payload, zlib.crc32(payload))

    threading.Timer(0.1, put).start()
    number, outcome = inbox.receive_first([late, soon], 30, 60)
    assert number == 1 and bytes(outcome) == bytes(payload)
    number, outcome = inbox.receive_first([late], 0.01, 0.05)  # asked for a while ago
    assert number == 0 and isinstance(outcome, PeerLost) and "no message within" in outcome.reason
    assert waits == [(1, 1)]
    for each in (1, 2):  # of two that are there, the first in order; what was not told is kept
        inbox.put(header(FOUR, Tag(2, 0, 0), sender=each), FOUR, zlib.crc32(FOUR))
    both = [(1, Tag(2, 0, 0)), (2, Tag(2, 0, 0))]
    assert inbox.receive_first(both, 30, 60)[0] == 0
    assert inbox.receive_first(both[1:], 30, 60)[0] == 0


def test_a_lost_peer_and_an_aborted_run_end_the_wait() -> None:
    inbox = BlockingMailbox(mailbox(), lambda *waits: None)
    wanted = [(1, Tag(1, 0, 0)), (2, Tag(1, 0, 1))]
    threading.Timer(0.05, inbox.lose, (2, "gone")).start()
    number, outcome = inbox.receive_first(wanted, 30, 60)
    assert number == 1 and isinstance(outcome, PeerLost) and outcome.rank == 2
    threading.Timer(0.05, inbox.abort, ("over",)).start()
    with pytest.raises(RunAborted, match="over"):
        inbox.receive_first(wanted[:1], 30, 60)
