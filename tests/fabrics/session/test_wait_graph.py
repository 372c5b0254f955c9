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
    graph.moves(2)
    assert graph.culprit(0) == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_a_culprit_never_waits_and_circles_have_none(reports: list[tuple[int, int]]) -> None:
    graph = WaitGraph()
    for rank, source in reports:
        graph.waits(rank, source)
    for rank in range(10):
        culprit = graph.culprit(rank)
        assert culprit is None or not graph.waiting(culprit)
