"""The gate: everything that is not exactly the expected message is refused with its reason and never used."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.node.codecs import build_codec
from gannet.node.exchange.mailbox import Header, Mailbox, Refusal, Verdict
from gannet.node.training.effects import PeerLost, Tag

BODY = memoryview(np.arange(5, dtype="<f4").tobytes())


def mailbox() -> Mailbox:
    return Mailbox("run", 0, 4, 99, build_codec("fp32"), max_bytes=20, window_rounds=2)


def header(payload: memoryview = BODY, **changes: Any) -> Header:
    return replace(Header("run", 1, Tag(1, 0), 99, len(payload), zlib.crc32(payload)), **changes)


def test_a_good_message_is_delivered_once() -> None:
    box, got = mailbox(), []
    box.put(header(), BODY)
    box.expect(1, Tag(1, 0), got.append)
    assert [bytes(payload) for payload in got] == [bytes(BODY)]
    with pytest.raises(Refusal) as refusal:
        box.put(header(), BODY)
    assert refusal.value.verdict is Verdict.STALE


NAN = memoryview(np.array([1, np.nan], dtype="<f4").tobytes())
BAD = [
    (header(run="other"), BODY, Verdict.WRONG_RUN),
    (header(sender=0), BODY, Verdict.WRONG_SENDER),
    (header(sender=4), BODY, Verdict.WRONG_SENDER),
    (header(schema=98), BODY, Verdict.WRONG_SCHEMA),
    (header(bytes=21), BODY, Verdict.TOO_LARGE),
    (header(bytes=16), BODY, Verdict.MALFORMED),
    (header(crc32=1), BODY, Verdict.CORRUPT),
    (header(tag=Tag(3, 0)), BODY, Verdict.TOO_EARLY),
    (header(NAN), NAN, Verdict.NOT_FINITE),
    (header(BODY[:3]), BODY[:3], Verdict.MALFORMED),
]


@pytest.mark.parametrize(("head", "payload", "verdict"), BAD, ids=lambda value: getattr(value, "name", ""))
def test_refusals(head: Header, payload: memoryview, verdict: Verdict) -> None:
    box, got = mailbox(), []
    with pytest.raises(Refusal) as refusal:
        box.put(head, payload)
    assert refusal.value.verdict is verdict
    assert box.refused == {verdict.name.lower(): 1}
    # Whoever asks for that segment afterwards never sees the refused bytes.
    box.expect(1, Tag(1, 0), got.append)
    box.lose(1, "test")
    assert all(isinstance(answer, PeerLost) for answer in got) and got


def test_a_waiter_hears_of_a_refused_body_at_once() -> None:
    box, got = mailbox(), []
    box.expect(1, Tag(1, 0), got.append)
    with pytest.raises(Refusal):
        box.put(header(NAN), NAN)
    assert len(got) == 1 and "NOT_FINITE" in got[0].reason


def test_parts_of_earlier_rounds_are_stale() -> None:
    box = mailbox()
    box.put(header(), BODY)
    box.enter_round(2)
    for tag in (Tag(1, 0), Tag(1, 1)):
        with pytest.raises(Refusal) as refusal:
            box.put(header(tag=tag), BODY)
        assert refusal.value.verdict is Verdict.STALE


def test_a_lost_peer_answers_waiters_now_and_later() -> None:
    box, got = mailbox(), []
    box.expect(2, Tag(1, 0), got.append)
    box.lose(2, "it ended")
    box.expect(2, Tag(2, 0), got.append)
    assert [answer.reason for answer in got] == ["it ended", "it ended"]


def test_what_a_lost_peer_had_delivered_still_counts() -> None:
    box, got = mailbox(), []
    box.put(header(), BODY)
    box.lose(1, "it ended")
    box.expect(1, Tag(1, 0), got.append)
    assert bytes(got[0]) == bytes(BODY)


LIMIT = 4 * 3 * 1_600_000


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 5), st.integers(0, 400_000)), max_size=60)
)
def test_what_is_kept_of_a_sender_has_an_end_and_what_is_awaited_is_always_taken(sent: list[Any]) -> None:
    """Segments of up to the whole vector's length, six a round: more than any method sends."""
    box = Mailbox("run", 0, 4, 99, build_codec("fp32"), max_bytes=1_600_000, window_rounds=2)
    kept: dict[tuple[int, Tag], int] = {}
    for source, number, segment, values in sent:
        payload, key = memoryview(bytes(4 * values)), (source, Tag(number, segment))
        before = sum(size for (sender, _), size in kept.items() if sender == source)
        try:
            box.put(header(payload, sender=source, tag=key[1]), payload)
            kept[key] = len(payload)
            assert before + len(payload) <= LIMIT
        except Refusal as refusal:
            if refusal.verdict is Verdict.TOO_MUCH:
                assert before + len(payload) > 0.99 * LIMIT
                got: list[Any] = []
                asked = Tag(0, 9)
                box.expect(source, asked, got.append)  # this very segment is asked for: there is room
                box.put(header(payload, sender=source, tag=asked), payload)
                assert got == [payload]
            else:
                assert refusal.verdict is Verdict.STALE and key in kept
    for source, tag in sorted(kept, key=lambda key: key[1]):
        got = []
        box.expect(source, tag, got.append)
        assert len(got[0]) == kept[source, tag]
    assert not any(box._kept_bytes.values())


def test_what_came_for_a_round_that_is_over_takes_no_room() -> None:
    box = Mailbox("run", 0, 4, 99, build_codec("fp32"), max_bytes=1_600_000, window_rounds=2)
    payload = memoryview(bytes(1_600_000))
    for number in range(1, 100):
        box.enter_round(number)
        for segment in range(4):
            box.put(header(payload, tag=Tag(number, segment)), payload)


events = st.lists(
    st.tuples(
        st.sampled_from(["put", "expect", "lose", "round", "give up"]),
        st.integers(1, 3),
        st.integers(0, 6),
        st.integers(0, 1),
    ),
    max_size=40,
)


@given(events)
def test_every_waiter_is_answered_at_most_once_and_only_with_its_own_message(history: list[Any]) -> None:
    box = mailbox()
    answers: dict[tuple[int, Tag], list[Any]] = {}
    for kind, source, number, segment in history:
        tag = Tag(number, segment)
        key = (source, tag)
        payload = memoryview(np.array([source, number, segment], dtype="<f4").tobytes())
        if kind == "put":
            try:
                box.put(header(payload, sender=source, tag=tag), payload)
            except Refusal as refusal:
                assert refusal.verdict in (Verdict.STALE, Verdict.TOO_EARLY)
        elif kind == "expect" and key not in answers and number >= box.rounds[0]:
            answers[key] = []
            box.expect(source, tag, answers[key].append)
        elif kind == "lose":
            box.lose(source, "test")
        elif kind == "round":
            box.enter_round(number)
        elif kind == "give up":
            box.give_up(source, tag, "late")
    for (source, tag), got in answers.items():
        assert len(got) <= 1
        if got and not isinstance(got[0], PeerLost):
            assert np.frombuffer(got[0], "<f4").tolist() == [source, tag.round, tag.segment]
        if source in box.lost:
            assert len(got) == 1


def test_what_is_ahead_is_told_from_what_is_refused() -> None:
    """A peer may come to a round in good faith that is past the window: its message is to be held until then."""
    box = mailbox()
    begun: list[int] = []
    box.on_round = lambda: begun.append(box.rounds[0])
    assert [number for number in range(1, 2000) if box.is_ahead(header(tag=Tag(number, 0)))] == [*range(3, 1003)]
    ahead = header(tag=Tag(4, 0))
    for changed in (replace(ahead, run="other"), replace(ahead, schema=98), replace(ahead, tag=Tag(4, 0, player=1))):
        assert not box.is_ahead(changed)  # refused at once
    assert box.refused == {}
    for number in (1, 1, 2):
        box.enter_round(number)
    assert begun == [1, 2] and not box.is_ahead(ahead)
    box.put(ahead, BODY)
