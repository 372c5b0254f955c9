"""Damaged input of every kind that comes from outside is read or refused; `python -m tests.fuzz` takes millions."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import TARGETS, Target

INPUTS = 300
PIECES = (
    b"",
    b"\0",
    b"-1",
    b"9" * 40,
    b"1e999",
    b"nan",
    b"~",
    b"[",
    b"{",
    b'"',
    b": ",
    b"&a ",
    b"*a",
    b"\xff\xfe",
    b"\t",
)


def damaged(target: Target, random_: random.Random) -> bytes:
    """A seed with a few places changed, cut, doubled, or replaced by pieces that mean something to a reader."""
    data = bytearray(random_.choice(target.seeds))
    for _ in range(random_.randint(1, 4)):
        at = random_.randint(0, len(data))
        to = min(len(data), at + random_.choice((0, 1, 1, 2, 8, 64)))
        match random_.randrange(4):
            case 0:
                data[at:to] = bytes(random_.randrange(256) for _ in range(to - at))
            case 1:
                data[at:to] = random_.choice(PIECES)
            case 2:
                data[at:at] = data[at:to]
            case _:
                del data[at:to]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_is_read(name: str) -> None:
    for seed in TARGETS[name].seeds:
        assert not TARGETS[name].refuses(seed), seed[:200]


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_read_or_refused(name: str) -> None:
    target, random_ = TARGETS[name], random.Random(name)
    refused = sum(target.refuses(damaged(target, random_)) for _ in range(INPUTS))
    assert 0 < refused < INPUTS


def test_a_fault_is_no_refusal() -> None:
    def faulty(data: bytes) -> None:
        raise KeyError(data[0])

    with pytest.raises(KeyError):
        Target(faulty, (ValueError,), (b"a",)).refuses(b"a")
