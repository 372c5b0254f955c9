"""The controller's part of a return, at every place where something else can happen; no process, no network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gannet.fabrics.not_finite import RESETS, NotFinite, OnNotFinite
from gannet.fabrics.session import returning as module
from gannet.fabrics.session.returning import Returning
from gannet.node.config import NodeConfig
from gannet.node.wire import control_pb2


class World:
    """A session of three nodes of which node 2 is lost; remembers every order."""

    def __init__(
        self, max_steps: int | None = None, after_s: float | None = 1.0, rule: OnNotFinite = "leave"
    ) -> None:
        self.controller: Any = self
        self.node_host: Any = self
        self.ready = {
            rank: control_pb2.Ready(mesh_address=f"10.77.0.{rank + 2}:7700", name=f"rank-{rank}.1")
            for rank in range(3)
        }
        self.alive, self.lost = {0, 1}, {2: "killed"}
        self.edges = [(0, 1), (1, 2), (2, 0), (0, 2)]
        self.steps = {0: 6, 1: 6, 2: 3}
        self.releases = 0
        self.orders: list[tuple[int, str, Any]] = []
        self.revived: list[int] = []
        self.back: list[tuple[int, int, int]] = []
        config = NodeConfig.model_validate({"run": "r", "algorithm": {"name": "dp-oadam"}, "max_steps": max_steps})
        self.returning = Returning(self, after_s, config, NotFinite(rule, after_s))

    def expect_back(self, rank: int) -> None: ...

    def revive(self, rank: int) -> None:
        self.revived.append(rank)

    def how_ended(self, rank: int) -> str:
        return "killed again"

    def order(self, rank: int, **kind: Any) -> None:
        ((name, fields),) = kind.items()
        self.orders.append((rank, name, fields))

    def now_s(self) -> float:
        return 12.5

    def came_back(self, rank: int, neighbour: int, step: int) -> None:
        self.back.append((rank, neighbour, step))
        self.alive.add(rank)
        del self.lost[rank]

    def released(self) -> None:
        self.releases += 1

    def named(self, name: str) -> list[tuple[int, Any]]:
        return [(rank, fields) for rank, kind, fields in self.orders if kind == name]

    def say(self, rank: int, **kind: Any) -> bool:
        return self.returning.hear(rank, control_pb2.Report(**kind))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.s))
    return now


def begun(clock: SimpleNamespace, max_steps: int | None = None) -> World:
    """Node 2 was lost a second ago, and is being started."""
    world = World(max_steps)
    world.returning.lose(2)
    world.returning.tick()
    assert world.revived == []
    clock.s += 1.1
    world.returning.tick()
    assert world.revived == [2]
    return world


def called(clock: SimpleNamespace, max_steps: int | None = None) -> World:
    """It has its neighbour's state, and the others have said where they can meet it."""
    world = begun(clock, max_steps)
    world.say(2, ready=control_pb2.Ready(mesh_address="10.77.0.9:7700", name="rank-2.2"))
    assert world.named("give_state") == [
        (0, {"rank": 2, "mesh_address": "10.77.0.9:7700", "name": "rank-2.2"})
    ]  # a node that sends to it
    world.say(0, state_offered=control_pb2.StateOffered(rank=2))
    ((rank, fetch),) = world.named("fetch_state")
    assert rank == 2 and fetch["neighbour"] == 0
    assert list(fetch["mesh_addresses"]) == ["10.77.0.2:7700", "10.77.0.3:7700", "10.77.0.9:7700"]
    assert list(fetch["names"]) == ["rank-0.1", "rank-1.1", "rank-2.2"]
    world.say(2, state_fetched=control_pb2.StateFetched())
    assert [rank for rank, _ in world.named("where_to_meet")] == [0, 1]
    world.say(0, can_meet=control_pb2.CanMeet(step=7))
    assert not world.named("meet_at")
    world.say(1, can_meet=control_pb2.CanMeet(step=8))
    return world


def arrive(world: World, rank: int, step: int = 8, number: int = 16) -> None:
    world.say(rank, at_meeting=control_pb2.AtMeeting(step=step, rounds=[number]))


def test_all_meet_at_the_latest_answer_and_continue_with_who_came(clock: SimpleNamespace) -> None:
    world = called(clock)
    assert world.named("meet_at") == [(0, {"step": 8}), (1, {"step": 8})]
    arrive(world, 1)
    assert not world.named("enter")
    arrive(world, 0)
    assert world.named("enter") == [(2, {"step": 8, "rounds": (16,), "t_s": 12.5})]
    world.say(2, warmed=control_pb2.Warmed())
    proceed = {"step": 8, "rounds": (16,), "returned": 2, "mesh_address": "10.77.0.9:7700", "name": "rank-2.2"}
    assert world.named("proceed") == [(0, proceed), (1, proceed)] and world.named("start") == [(2, {})]
    assert world.back == [(2, 0, 8)] and not world.returning.meeting


def test_a_meeting_does_not_wait_for_a_node_that_is_lost_meanwhile(clock: SimpleNamespace) -> None:
    world = called(clock)
    arrive(world, 0)
    world.alive.discard(1)
    world.lost[1] = "killed"
    world.returning.lose(1)
    assert world.named("enter") == [(2, {"step": 8, "rounds": (16,), "t_s": 12.5})]


def test_nodes_that_name_rounds_of_other_players_end_the_attempt_only(clock: SimpleNamespace) -> None:
    world = called(clock)
    arrive(world, 0)
    world.say(1, at_meeting=control_pb2.AtMeeting(step=8, rounds=[16, 17]))
    assert not world.named("enter") and not world.returning.meeting and world.alive == {0, 1}
    assert world.named("meet_at")[-2:] == [(0, {"step": 0}), (1, {"step": 0})]
    assert "do not have the same players" in world.named("abort")[-1][1]["reason"]


def test_a_neighbour_that_is_lost_is_replaced(clock: SimpleNamespace) -> None:
    world = begun(clock)
    world.say(2, ready=control_pb2.Ready(mesh_address="10.77.0.9:7700", name="rank-2.2"))
    world.alive.discard(0)
    world.lost[0] = "killed"
    world.returning.lose(0)
    assert [rank for rank, _ in world.named("give_state")] == [0, 1]
    assert not world.say(0, step=control_pb2.Step(step=1))  # no business of a return
    assert world.say(0, state_offered=control_pb2.StateOffered(rank=2)) and not world.named("fetch_state")


@pytest.mark.parametrize("how", ["left", "failed", "late"])
def test_whatever_happens_to_it_the_others_continue_and_it_is_tried_again(clock: SimpleNamespace, how: str) -> None:
    world = called(clock)
    arrive(world, 0)
    if how == "left":
        assert world.returning.left(2)
    elif how == "failed":
        world.say(2, failed=control_pb2.Failed(reason="no memory"))
    else:
        clock.s += 1000
        world.returning.tick()
    assert world.named("meet_at")[2:] == [(0, {"step": 0}), (1, {"step": 0})]
    assert world.named("abort")[0][0] == 2 and not world.returning.meeting and not world.back
    clock.s += 1.1
    world.returning.tick()
    assert world.revived == [2, 2]


def test_the_run_that_ends_first_takes_nobody_in(clock: SimpleNamespace) -> None:
    world = called(clock, max_steps=8)
    assert world.named("meet_at") == [(0, {"step": 0}), (1, {"step": 0})]
    world = begun(clock)
    world.returning.stop()
    assert world.named("abort")[0][0] == 2
    clock.s += 1000
    world.returning.tick()
    assert world.revived == [2]


def test_a_meeting_that_has_been_called_is_held_before_the_run_ends(clock: SimpleNamespace) -> None:
    world = called(clock)
    world.returning.stop()
    assert world.returning.meeting
    arrive(world, 0)
    arrive(world, 1)
    world.say(2, warmed=control_pb2.Warmed())
    assert world.back == [(2, 0, 8)]


@pytest.mark.parametrize(
    ("after_s", "rule", "starts"),
    [
        (None, "leave", []),
        (None, "reset", [1.0] * RESETS),
        (4.0, "reset", [4.0] * RESETS),
        (4.0, "leave", [4.0] * RESETS),
    ],
)
def test_a_node_whose_numbers_went_wrong_is_started_as_the_spec_says_and_not_without_end(
    clock: SimpleNamespace, after_s: float | None, rule: OnNotFinite, starts: list[float]
) -> None:
    world, waited = World(None, after_s, rule), []
    for _ in range(RESETS + 2):
        world.lost[2] = "not finite"
        world.returning.lose(2, not_finite=True)
        lost_s, revived = clock.s, len(world.revived)
        while clock.s < lost_s + 10 and len(world.revived) == revived:
            world.returning.tick()
            clock.s += 0.25
        if len(world.revived) > revived:
            waited.append(clock.s - 0.25 - lost_s)
            world.returning._clear()  # it is back
    assert waited == starts
    world.returning.lose(2)  # killed this time
    clock.s += 10
    world.returning.tick()
    assert (len(world.revived) > len(starts)) == (after_s is not None)


def test_who_waits_at_the_meeting_is_held_and_no_time_of_it_counts(clock: SimpleNamespace) -> None:
    """A node at the meeting neither moves nor waits for a message: it must not be taken for one that hangs."""
    world = called(clock)
    held = [[rank for rank in (0, 1) if world.returning.held(rank)]]
    for steps in ({0: 7, 1: 7}, {0: 7, 1: 8}):  # node 0 has answered 7, and passes it only when it has heard of 8
        world.steps |= steps
        held.append([rank for rank in (0, 1) if world.returning.held(rank)])
    assert held == [[], [0], [0, 1]] and world.releases == 0
    arrive(world, 0)
    arrive(world, 1)
    world.say(2, warmed=control_pb2.Warmed())
    assert world.releases == 1 and not world.returning.held(0)
