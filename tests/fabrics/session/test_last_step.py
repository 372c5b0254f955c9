"""All nodes end a run after one step that none has gone past, and no earlier one would have done.

Against every order in which steps, questions, answers and orders can happen among three nodes, whatever holds these
together; against threads; and against what the virtual fabric's ledger says of where nodes were.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from random import Random
from time import sleep
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pytest

from gannet.fabrics.job import Job
from gannet.fabrics.session.last_step import Stopping
from gannet.fabrics.virtual.faults import Kill
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.process.last_step import LastStep
from tests.support.games import BilinearGame, Wide
from tests.support.runs import play, virtual_job

# Who needs whose message to end an exchange.
GRAPHS: dict[str, dict[int, set[int]]] = {
    "complete": {0: {1, 2}, 1: {0, 2}, 2: {0, 1}},
    "line": {0: {1}, 1: {0, 2}, 2: {1}},
    "one way": {0: {2}, 1: {0}, 2: {1}},
    "nobody": {0: set(), 1: set(), 2: set()},
}


class At(NamedTuple):
    """A node as the world sees it: steps made, those when it was asked, and what it and the controller know."""

    made: int = 0
    asked_at: int | None = None
    answered: bool = False  # the controller has its answer
    told: bool = False
    dead: bool = False
    known_dead: bool = False

    def leaving(self, every: int, last: int | None) -> LastStep:
        """The thing under test, brought to this state."""
        leaving = LastStep(every, 0)
        leaving.reach(self.made if self.asked_at is None else self.asked_at)
        if self.asked_at is not None:
            leaving.ask()
            leaving.reach(self.made)
        if self.told:
            assert last is not None
            leaving.tell(last)
        return leaving


class World(NamedTuple):
    nodes: tuple[At, ...]
    last: int | None = None

    def changed(self, rank: int, **news: Any) -> World:
        nodes = tuple(at._replace(**news) if rank == here else at for here, at in enumerate(self.nodes))
        return self._replace(nodes=nodes)


def goes_on(at: At, every: int, last: int | None) -> bool:
    """Whether a node that has made its steps begins another."""
    leaving = at.leaving(every, last)
    return not at.dead and not leaving.held and not (at.told and last is not None and at.made >= last)


def what_may_follow(world: World, every: int, needs: dict[int, set[int]], farthest: int) -> Iterator[World]:
    everyone = list(enumerate(world.nodes))
    for rank, at in everyone:
        if at.dead:
            if not at.known_dead:
                yield world.changed(rank, known_dead=True)
            continue
        step = at.made + 1
        others = [world.nodes[peer] for peer in needs[rank]]
        sent = all(o.dead or o.made >= step or (o.made == step - 1 and goes_on(o, every, world.last)) for o in others)
        if (
            goes_on(at, every, world.last)
            and (step % every or sent)
            and (at.asked_at is not None or step <= farthest)
        ):
            yield world.changed(rank, made=step)
        if at.asked_at is None:
            yield world.changed(rank, asked_at=at.made)
        elif not at.answered:
            yield world.changed(rank, answered=True)
        if world.last is not None and not at.told:
            yield world.changed(rank, told=True)
        if rank == 0:
            yield world.changed(rank, dead=True)
    if world.last is None:
        stopping = Stopping(patience_s=10.0)
        stopping.ask(0.0)
        for rank, at in everyone:
            if at.answered:
                stopping.answer(rank, at.leaving(every, None).ask())
        last = stopping.name([rank for rank, at in everyone if not at.known_dead])
        if last is not None:
            yield world._replace(last=last)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("graph", GRAPHS)
def test_in_whatever_order_things_happen_all_leave_after_one_step(graph: str, every: int) -> None:
    first = World((At(), At(), At()))
    seen, open_ = {first}, [first]
    ends = set()
    while open_:
        world = open_.pop()
        following = list(what_may_follow(world, every, GRAPHS[graph], farthest=every + 1))
        there = [at for at in world.nodes if not at.dead]
        if world.last is not None:
            assert world.last % every == 0
            assert all(at.made <= world.last for at in there)
            # One exchange earlier would not have done: somebody had ended it when it was asked.
            assert world.last - every <= max(at.asked_at or 0 for at in world.nodes)
        if not following:  # nothing is on its way: nobody may be left hanging
            assert world.last is not None and all(at.told and at.made == world.last for at in there)
            ends.add(world.last)
        new = [later for later in following if later not in seen]
        seen.update(new)
        open_ += new
    assert ends == {every * (made // every + 1) for made in range(every + 2)}


@pytest.mark.parametrize("seed", range(30))
def test_threads_do_not_slip_past_what_they_have_named(seed: int) -> None:
    """Four that train around a ring, and a fifth that asks and tells."""
    random, every = Random(seed), 1 + seed % 3
    nodes, made, moved = [LastStep(every, 0) for _ in range(4)], [0] * 4, threading.Condition()
    paces = [[random.choice((0.0, 0.0, 0.0002, 0.002)) for _ in range(7)] for _ in nodes]

    def sent(step: int, rank: int) -> bool:
        return made[rank - 1] >= step - 1 and made[(rank + 1) % 4] >= step - 1

    def train(rank: int) -> None:
        last = None
        while last is None or made[rank] < last:
            step = made[rank] + 1
            sleep(paces[rank][step % 7])
            with moved:
                if step % every == 0:
                    moved.wait_for(partial(sent, step, rank))
                made[rank] = step
                moved.notify_all()
            nodes[rank].reach(step)
            last = nodes[rank].last_step()

    threads = [threading.Thread(target=train, args=(rank,), daemon=True) for rank in range(4)]
    for thread in threads:
        thread.start()
    sleep(random.uniform(0, 0.02))
    answers = []
    for node in nodes:
        answers.append(node.ask())
        sleep(random.choice((0.0, 0.001)))
    for node in nodes:
        node.tell(max(answers))
    for thread in threads:
        thread.join(240)
    assert made == [max(answers)] * 4


def test_who_is_released_waits_no_longer() -> None:
    node = LastStep(2, 4)
    assert node.ask() == 6
    node.reach(6)
    assert node.held
    threading.Timer(0.05, node.release).start()
    assert node.last_step() is None


def test_who_does_not_answer_is_not_waited_for_for_ever() -> None:
    stopping = Stopping(patience_s=10.0)
    assert stopping.silent([0, 1, 2], 100.0) == []  # nobody has been asked
    assert stopping.ask(100.0) and not stopping.ask(101.0)
    stopping.answer(0, 50)
    stopping.answer(2, 100)
    assert stopping.name([0, 1, 2]) is None and stopping.held(0, 50) and not stopping.held(2, 99)
    assert stopping.silent([0, 1, 2], 1000.0) == []  # the machine has stood still: answers may be on their way
    looks = [stopping.silent([0, 1, 2], 1000.0 + number) for number in range(1, 12)]
    assert looks[8] == [] and looks[10] == [1]
    assert stopping.name([0, 2]) == 100 and stopping.name([0, 2]) is None
    assert stopping.silent([0, 1, 2], 2000.0) == [] and not stopping.held(0, 50)


METHODS: dict[str, dict[str, Any]] = {
    "gossip on a ring": {"algorithm": {"name": "dp-oadam", "every": 5}, "topology": "ring"},
    "gossip on a star": {"algorithm": {"name": "dp-oadam", "every": 3}, "topology": "star"},
    "overlapping gossip": {"algorithm": {"name": "dp-oadam", "overlap": True}, "topology": "ring"},
    "one peer": {"algorithm": {"name": "dp-oadam", "every": 4}, "topology": "one-peer-exponential"},
    "two rounds": {"algorithm": {"name": "dposg", "rounds": 2}, "topology": "exponential"},
    "server": {"algorithm": {"name": "cp-oadam", "collective": "server", "every": 6}},
    "all-reduce": {"algorithm": {"name": "cp-oadam", "collective": "ring", "every": 2}},
    "both": {"algorithm": {"name": "gossip-pga", "global_every": 3}, "topology": "ring"},
    "players": {
        "algorithm": {"name": "local"},
        "players": {
            "generator": {"algorithm": {"name": "cp-oadam", "collective": "server", "every": 6}},
            "discriminator": {"algorithm": {"name": "dp-oadam", "every": 4}, "topology": "ring"},
        },
    },
    "no exchange": {"algorithm": {"name": "local"}},
}
PERIODS = {"gossip on a ring": 5, "gossip on a star": 3, "one peer": 4, "server": 6, "all-reduce": 2, "players": 6}
# How many exchanges one node can have ended that another has not.
APART = {
    "gossip on a ring": nx.diameter(nx.cycle_graph(6)), "gossip on a star": 2, "overlapping gossip": 3,
    "server": 1, "all-reduce": 1,
}  # fmt: skip


def uneven_job(method: str, seed: int, **changes: Any) -> Job:
    """Six nodes of six paces, on slow links of six kinds."""
    random = np.random.default_rng([seed, sorted(METHODS).index(method)])
    settings = {"snapshot_every": 100_000, **METHODS[method], **changes}
    paces = {rank: float(pace) for rank, pace in enumerate(random.choice([5, 10, 20, 60], 6))}
    job = virtual_job(settings.pop("algorithm"), 6, settings.pop("steps", None), node_pace_ms=paces, **settings)
    rates = [int(rate) for rate in random.choice([3_000, 10_000, 50_000], 6)]
    links = {
        rank: LinkProfile(name=f"{rank}", up_bps=rate, down_bps=4 * rate, delay_ms=10 * rank)
        for rank, rate in enumerate(rates)
    }
    return Job(job.config, 6, LinkState(profile=links[0], nodes=links), stop_s=job.stop_s)


def games() -> list[BilinearGame]:
    return [BilinearGame(rank, noise=0.1) for rank in range(6)]


@pytest.mark.parametrize("method", METHODS)
def test_the_last_step_is_the_end_of_the_exchange_that_the_farthest_node_is_in(method: str) -> None:
    every = PERIODS.get(method, 1)
    for seed, stop_s in enumerate((0.3, 1.7, 4.1)):
        memory, outcome = play(uneven_job(method, seed, stop_s=stop_s), games())
        assert outcome.status == "finished" and not outcome.lost and not memory.refusals
        assert not any(stats.missing for steps in memory.steps.values() for stats in steps)
        made = {rank: sum(stats.t_s < stop_s for stats in steps) for rank, steps in memory.steps.items()}
        (last,) = {steps[-1].step for steps in memory.steps.values()}
        assert last == every * (max(made.values()) // every + 1)
        assert min(steps[-1].t_s for steps in memory.steps.values()) >= stop_s
        if method in APART:
            assert last // every - min(made.values()) // every <= 1 + APART[method]
        # That it ends changes nothing before: the same steps at the same times as of a run of so many steps.
        whole, _ = play(uneven_job(method, seed, steps=last), games())
        assert {r: [s.t_s for s in steps] for r, steps in whole.steps.items()} == {
            r: [s.t_s for s in steps] for r, steps in memory.steps.items()
        }
        np.testing.assert_array_equal(whole.states(last), memory.states(last))


@pytest.mark.parametrize("kill_s", [1.0, 3.99, 4.05])
def test_a_lost_node_holds_up_nobodys_end(kill_s: float) -> None:
    job = uneven_job("gossip on a ring", 1, stop_s=4.0)
    memory, outcome = play(job, games(), [Kill(2, kill_s, notice_s=0.5)])
    assert outcome.status == "finished" and outcome.lost.keys() == {2}
    ends = {steps[-1].step for rank, steps in memory.steps.items() if rank != 2}
    assert len(ends) == 1 and ends.pop() % 5 == 0


class Heavy(Wide):
    VALUES = 8_000  # 64 kB a message


@pytest.mark.parametrize(
    "algorithm",
    [{"name": "dp-oadam", "every": 50}, {"name": "cp-oadam", "collective": "server", "every": 50}],
    ids=["gossip", "server"],
)
def test_seldom_exchanges_over_slow_links_end_within_a_period(algorithm: dict[str, Any]) -> None:
    """A second of steps, then an exchange that takes many: the one on its way when time is up is the last.

    A node that ends it before the others is in the next; the server is, by the means that are still on their way.
    """
    link = {"up": "76.8kbit", "down": "160kbit", "delay_ms": 75}
    settings = {"snapshot_every": 1000, "pace_ms": 20, "topology": "ring", "exchange": {"segment_bytes": 1024}}
    for stop_s in (50.0, 57.0):
        memory, _ = play(virtual_job(algorithm, 4, None, link, stop_s, **settings), [Heavy(r) for r in range(4)])
        ends_s = np.array([[s.t_s for s in steps if s.step % 50 == 0] for steps in memory.steps.values()])
        period_s, apart_s = float(np.diff(ends_s, axis=1).max()), float(np.ptp(ends_s, axis=0).max())
        assert period_s > 10 and apart_s < period_s / 4
        assert stop_s <= ends_s[:, -1].min() and ends_s[:, -1].max() <= stop_s + period_s + apart_s
