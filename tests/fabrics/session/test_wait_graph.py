"""Finding who holds everybody up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gannet.fabrics.session.wait_graph import WaitGraph


def test_a_chain_ends_at_the_one_that_does_not_wait() -> None:
    graph = WaitGraph()
    for rank, source in [(0, 1), (1, 2), (2, 5)]:
        graph.waits(rank, source)
    assert [graph.culprit(rank) for rank in (0, 1, 2)] == [5, 5, 5]
    graph.moves(2, now_s=7.0)
    assert graph.culprit(0) == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_a_culprit_never_waits_and_circles_have_none(reports: list[tuple[int, int]]) -> None:
    graph = WaitGraph()
    for rank, source in reports:
        graph.waits(rank, source)
    for rank in range(10):
        culprit = graph.culprit(rank)
        assert culprit is None or not graph.waiting(culprit)


def test_a_step_begins_with_the_last_one_or_when_all_continue_from_a_meeting() -> None:
    graph = WaitGraph()
    assert graph.due_s(1, 10.0) < 0.0
    graph.moves(1, now_s=5.0)
    graph.waits(1, 2)
    assert graph.due_s(1, 10.0) == 15.0 and graph.waiting(1)
    graph.stood_still(1, now_s=9.0)
    assert graph.due_s(1, 10.0) == 19.0 and graph.waiting(1)
    graph.moves(1, now_s=9.5)
    assert not graph.waiting(1)
