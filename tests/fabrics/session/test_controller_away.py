"""A node's connection outlives its controller: real gRPC to two controllers, one after the other, at one address."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

from gannet.fabrics.credentials import node_credential
from gannet.fabrics.recovery.known import Known
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.events import CameAgain, Deposited, Joined, Left, Reported
from gannet.node.process.controller_client import ControlLine
from gannet.node.process.outbox import Outbox
from gannet.node.wire import control_pb2
from tests.support.patience import wait_until
from tests.support.relay import Relay

SECRET, HOSTS = "of this cluster's nodes", ("node0", "node1")
GRACE_S = 600.0
READY = control_pb2.Ready(mesh_address="10.1.0.2:7700", metrics_address="10.2.0.2:9400", parameters=3)


class Node:
    """A node's line, in an event loop of its own; `orders` are those that it was given."""

    def __init__(self, address: str, rank: int, outbox: Outbox | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.line: ControlLine = self.call(self._open(address, node_credential(SECRET, HOSTS[rank]), outbox))
        self.line.post(hello=control_pb2.Hello(pid=1))
        self.assignment = self.orders.get(timeout=120).assignment
        self.line.key = self.assignment.key
        self.line.post(ready=READY)

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(120)

    async def _open(self, address: str, credential: str, outbox: Outbox | None) -> ControlLine:
        line = ControlLine(address, credential, self.loop, outbox)
        self._attending = self.loop.create_task(self._attend(line))
        return line

    async def _attend(self, line: ControlLine) -> None:
        try:
            async for order in line.orders():
                self.orders.put(order)
        except Exception as error:
            self.orders.put(error)
        line.give_up()
        self.orders.put(None)

    def begin(self) -> None:
        self.line.begin("run", self.assignment.rank, self.assignment.controller_grace_s)

    def close(self) -> None:
        async def end() -> None:
            self._attending.cancel()
            await self.line.close()

        self.call(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)


class Cluster:
    """Controllers at one address, of which one at a time is there; nodes reach it through a relay that can be cut."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self.controller = Controller("run", "{}", SECRET, HOSTS, grace_s)
        self.address = self.controller.start("127.0.0.1:0")
        self._relay = Relay(self.address)
        self.nodes: list[Node] = []
        self.verifiers: dict[int, str] = {}

    def join(self, rank: int, outbox: Outbox | None = None) -> Node:
        node = Node(self._relay.address, rank, outbox)
        self.nodes.append(node)
        joined = self.event(Joined)
        self.verifiers[joined.rank] = joined.verifier
        assert self.reports(rank, 1) == [("ready", 1)]
        return node

    def event(self, kind: type[Any]) -> Any:
        while not isinstance(event := self.controller.events.get(timeout=120), kind):
            pass
        return event

    def reports(self, rank: int, count: int) -> list[tuple[str, int]]:
        """(kind or step, number) of the next reports of a node."""
        found: list[tuple[str, int]] = []
        while len(found) < count:
            event = self.event(Reported)
            if event.rank == rank:
                step = f"step {event.report.step.step}" if event.report.HasField("step") else ""
                found.append((step or event.report.WhichOneof("kind"), event.report.number))
        return found

    def known(self, rank: int, recorded: int) -> Known:
        return Known(self.verifiers[rank], READY.parameters, "", recorded)

    def end(self) -> None:
        self._relay.cut()
        self.controller.stop()

    def restart(self, known: dict[int, Known], run: str = "run") -> None:
        self.controller = Controller(run, "{}", SECRET, HOSTS, self.grace_s)
        self.controller.expect_again(known)
        assert self.controller.start(self.address) == self.address
        self._relay.heal()

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self._relay.close()
        self.controller.stop()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


def step(number: int) -> control_pb2.Step:
    return control_pb2.Step(step=number)


def test_reports_come_in_order_and_once_whatever_was_recorded_before(cluster: Cluster) -> None:
    node = cluster.join(0)
    node.begin()
    for number in (1, 2, 3):
        node.line.post(step=step(number))
    assert cluster.reports(0, 3) == [("step 1", 2), ("step 2", 3), ("step 3", 4)]
    cluster.end()  # with the first two recorded, and none acknowledged
    for number in (4, 5):
        node.line.post(step=step(number))
    cluster.restart({0: cluster.known(0, recorded=3)})
    assert cluster.event(CameAgain).rank == 0
    node.line.post(step=step(6))
    assert cluster.reports(0, 4) == [("step 3", 4), ("step 4", 5), ("step 5", 6), ("step 6", 7)]
    cluster.controller.order(0, stop_after={"step": 9})
    assert node.orders.get(timeout=120).stop_after.step == 9  # and no Received, which is the line's own business
    assert cluster.controller.events.empty()


def test_what_is_acknowledged_is_kept_no_longer_and_comes_no_more(cluster: Cluster) -> None:
    node = cluster.join(0)
    node.begin()
    node.line.post(step=step(1))
    assert cluster.reports(0, 1) == [("step 1", 2)]
    assert node.line.outbox.unrecorded == 2
    cluster.controller.recorded(0, 2)
    wait_until("the node keeps nothing any more", lambda: not node.line.outbox.unrecorded)
    cluster.end()
    cluster.restart({0: cluster.known(0, recorded=2)})
    node.line.post(step=step(2))
    assert cluster.reports(0, 1) == [("step 2", 3)]


def test_a_deposit_that_is_not_recorded_comes_again(cluster: Cluster) -> None:
    node = cluster.join(0)
    node.begin()
    x = torch.tensor([1.0, 2.0, 3.0])
    node.line.deposit(control_pb2.SnapshotHeader(run="run", rank=0, step=7), x)
    assert torch.equal(cluster.event(Deposited).x, x)
    cluster.end()  # it has arrived, but its receipt waits for the disk
    cluster.restart({0: cluster.known(0, recorded=1)})
    again = cluster.event(Deposited)
    assert torch.equal(again.x, x) and again.step == 7
    again.recorded.set_result(None)
    node.call(node.line.settle())


def test_the_controller_may_go_away_twice(cluster: Cluster) -> None:
    node = cluster.join(1)
    node.begin()
    for time in range(2):
        cluster.end()
        node.line.post(step=step(time + 1))
        cluster.restart({1: cluster.known(1, recorded=1)})
        assert cluster.reports(1, time + 1) == [(f"step {n + 1}", n + 2) for n in range(time + 1)]


def lost_with_it(node: Node) -> Any:
    """The error by which the node's line ended."""
    error = node.orders.get(timeout=120)
    assert isinstance(error, Exception) and node.orders.get(timeout=120) is None
    return error


def test_only_the_node_of_that_key_and_run_is_taken_back(cluster: Cluster) -> None:
    nodes = [cluster.join(rank) for rank in (0, 1)]
    for node in nodes:
        node.begin()
    cluster.end()
    known = cluster.known(0, recorded=1)
    cluster.restart({0: replace(known, verifier=cluster.verifiers[1])})
    for node in nodes:  # the first has not this key, the second is not expected
        assert lost_with_it(node).code() is grpc.StatusCode.FAILED_PRECONDITION
    assert cluster.controller.events.empty()


def test_a_controller_of_another_run_ends_the_node(cluster: Cluster) -> None:
    node = cluster.join(0)
    node.begin()
    cluster.end()
    cluster.restart({0: cluster.known(0, recorded=1)}, run="the next run")
    assert lost_with_it(node).code() is grpc.StatusCode.FAILED_PRECONDITION


def test_another_process_of_an_awaited_node_shows_that_the_first_is_gone(cluster: Cluster) -> None:
    cluster.join(0)
    cluster.end()
    cluster.restart({0: cluster.known(0, recorded=1)})
    line = None
    with pytest.raises(AttributeError):  # no assignment, but the answer ALREADY_EXISTS
        line = Node(cluster.address, 0)
    assert line is None
    assert cluster.event(Left) == Left(0, "its process ended while the controller was away")


def test_before_training_a_node_ends_with_its_controller(cluster: Cluster) -> None:
    node = cluster.join(0)
    cluster.end()
    assert lost_with_it(node).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.parametrize("grace_s", [0.0, 0.5])
def test_a_controller_that_stays_away_ends_the_node_after_the_grace(grace_s: float) -> None:
    cluster = Cluster(grace_s)
    try:
        node = cluster.join(0)
        node.begin()
        node.line.post(step=step(1))
        cluster.end()
        assert isinstance(lost_with_it(node), (grpc.aio.AioRpcError, ConnectionError))
        assert not node.line.outbox.full
    finally:
        cluster.close()


def test_training_waits_while_a_limit_is_exceeded_and_the_controller_is_away(cluster: Cluster) -> None:
    outbox = Outbox(most_report_bytes=2000)
    node = cluster.join(0, outbox)
    node.begin()
    cluster.end()
    made: list[int] = []

    def train() -> None:
        for number in range(1, 501):
            node.line.post(step=step(number))
            outbox.room()
            made.append(number)

    training = threading.Thread(target=train, daemon=True)
    training.start()
    cluster.restart({0: cluster.known(0, recorded=1)})
    assert cluster.reports(0, 500) == [(f"step {n}", n + 1) for n in range(1, 501)]
    training.join(120)
    assert made == list(range(1, 501))


def test_an_outbox_is_full_above_its_limits_while_the_controller_is_away_alone() -> None:
    outbox = Outbox(most_report_bytes=30, most_deposit_bytes=100)
    outbox.deposit(101)
    assert not outbox.full
    outbox.lost()
    assert outbox.full
    outbox.deposit(-101)
    assert not outbox.full
    while not outbox.full:
        outbox.add(control_pb2.Report(step=step(1)))
    outbox.found()
    assert not outbox.full
    outbox.lost()
    assert outbox.full
    outbox.end()
    assert not outbox.full
    assert [report.number for report in iter(outbox.take, None)] == list(range(1, outbox.unrecorded + 1))


def test_no_key_is_in_what_the_controller_keeps(tmp_path: Path) -> None:
    cluster = Cluster()
    try:
        node = cluster.join(0)
        assert node.assignment.key not in repr(cluster.known(0, 1))
        assert cluster.verifiers[0] and node.assignment.key not in cluster.verifiers[0]
    finally:
        cluster.close()
