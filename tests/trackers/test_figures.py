"""Figures of steps where nodes come in any order, fall behind, or are lost: none is lost or counted twice."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gannet.node.training.meter import StepStats
from gannet.trackers.figures import Figures, StepFigures


def stats(rank: int, step: int) -> StepStats:
    return StepStats(
        step,
        t_s=step + rank / 10,
        loss={"u": step * 10.0 + rank},
        compute_s=0.1 * rank,
        codec_bytes=100 * rank + step,
    )


def gathered(nodes: int, order: Sequence[tuple[int, int]]) -> list[Figures]:
    steps = StepFigures(nodes)
    found = [figures for rank, step in order for figures in steps.add(rank, stats(rank, step))]
    return [*found, *steps.rest()]


@given(st.data())
def test_in_any_order_each_step_is_the_mean_over_all_nodes(data: st.DataObject) -> None:
    nodes, last = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    left = dict.fromkeys(range(nodes), 1)
    order = []
    while left:
        rank = data.draw(st.sampled_from(sorted(left)))
        order.append((rank, left[rank]))
        left[rank] += 1
        if left[rank] > last:
            del left[rank]
    found = gathered(nodes, order)
    assert [figures.step for figures in found] == list(range(1, last + 1))
    for step, t_s, values in found:
        assert t_s == values["t_s"] == step + (nodes - 1) / 10
        assert abs(values["loss/u"] - (step * 10 + (nodes - 1) / 2)) < 1e-9
        assert values["sent_bytes/codec"] == sum(100 * r + s for r in range(nodes) for s in range(1, step + 1))


def test_a_lost_node_is_left_out_and_holds_nothing_up() -> None:
    order = [(rank, step) for step in range(1, 301) for rank in range(3) if rank != 2 or step <= 100]
    steps = StepFigures(3)
    seen = 0
    for rank, step in order:
        for figures in steps.add(rank, stats(rank, step)):
            seen = figures.step
        assert step - seen <= 65  # it waits for a node, but not for ever
    rest = list(steps.rest())
    assert rest[-1].step == 300 and rest[-1].values["loss/u"] == 3000.5
    assert rest[-1].values["sent_bytes/codec"] == sum(100 * rank + step for rank, step in order)


def test_bytes_of_a_node_that_is_too_late_count_later() -> None:
    order = [(0, step) for step in range(1, 201)] + [(1, 1), (1, 2)]
    found = gathered(2, order)
    assert [figures.step for figures in found] == list(range(1, 201))
    assert found[-1].values["sent_bytes/codec"] == sum(100 * rank + step for rank, step in order)


def test_players_that_sat_a_step_out_have_no_loss_in_it() -> None:
    steps = StepFigures(2)
    list(steps.add(0, StepStats(1, 1.0, loss={"critic": 1.0})))
    (figures,) = steps.add(1, StepStats(1, 1.0, loss={"critic": 3.0, "generator": 5.0}))
    assert figures.values["loss/critic"] == 2.0 and figures.values["loss/generator"] == 5.0
