"""Looking again forgives a disturbed look, and no thing that is wrong in every second one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import patience


def looks(text: str) -> tuple[Callable[[], str], list[str]]:
    """Looks that find these letters, one after the other, and those that were taken."""
    taken: list[str] = []

    def look() -> str:
        taken.append(text[len(taken)])
        return taken[-1]

    return look, taken


@pytest.mark.parametrize(
    ("found", "seen", "count"),
    [
        ("r", "r", 1),  # an undisturbed machine takes one
        ("wrr", "r", 3),
        ("wwwwwrr", "r", 7),
        ("wrwrwrw", "w", 7),
        ("wwwwwww", "w", 7),
        ("wwwwwwr", "w", 7),  # one right look of many
    ],
)
def test_a_wrong_look_is_outweighed_by_two_right_ones(
    monkeypatch: pytest.MonkeyPatch, found: str, seen: str, count: int
) -> None:
    monkeypatch.setattr(patience, "LOOKED_AGAIN", [])  # for the session's end, where these would mislead
    look, taken = looks(found)
    assert patience.seen_right(look, lambda letter: letter == "r") == seen
    assert len(taken) == count
