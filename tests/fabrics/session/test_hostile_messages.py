"""Messages of any content from those who hold a credential: no exception escapes, and a genuine node still gets in.

The servers are the real ones, over gRPC on the loopback; what the controller lets through is handled by the real
session, which writes a real run folder.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gannet.fabrics.containers.membership import Membership
from gannet.fabrics.credentials import node_credential
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.events import Left
from gannet.fabrics.session.session import Session
from gannet.ledger.writer import Ledger
from gannet.node.wire import control_pb2, control_pb2_grpc
from gannet.node.wire.metadata import CREDENTIAL
from gannet.spec.load import load_spec
from tests.support.messages import json_texts, messages
from tests.support.runs import virtual_job

SECRET = "of this test's cluster"
NODES = ("node0", "node1", "node2")
READY = control_pb2.Ready(mesh_address="10.1.0.2:7700", metrics_address="10.2.0.2:9400", parameters=10)
_REFUSED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # above 4 MiB, by gRPC
    grpc.StatusCode.FAILED_PRECONDITION,  # a node of another controller's run
)
_ATTEND, _SERVE = "/gannet.control.v1.Controller/Attend", "/gannet.control.v1.Membership/Serve"

many = settings(
    max_examples=250, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


class Host:
    """Provides nothing: nodes are connections of this test."""

    def last_words(self, rank: int) -> str:
        return ""

    def how_ended(self, rank: int) -> str:
        return ""

    def ended(self) -> list[tuple[int, str]]:
        return []

    def revive(self, rank: int) -> None: ...


@dataclass
class Cluster:
    """A run that trains, with its controller."""

    controller: Controller
    channel: grpc.Channel
    session: Session

    def metadata(self, rank: int) -> tuple[tuple[str, str]]:
        return ((CREDENTIAL, node_credential(SECRET, NODES[rank])),)

    def send(self, rank: int, words: Sequence[bytes]) -> list[control_pb2.Order]:
        """A node's connection that says these messages and ends; returns the orders that came."""
        attend = self.channel.stream_stream(_ATTEND, None, control_pb2.Order.FromString)
        orders: list[control_pb2.Order] = []
        try:
            for order in attend(iter(words), metadata=self.metadata(rank), timeout=240):
                orders.append(order)
        except grpc.RpcError as error:
            assert error.code() in _REFUSED and error.details(), error
        return orders

    def handle(self) -> None:
        """Have the session take all that has happened, until the last connection's end."""
        while True:
            event = self.controller.events.get(timeout=240)
            self.session._handle(event)
            if isinstance(event, Left):
                return


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    job = virtual_job({"name": "dp-oadam"}, world=len(NODES))
    spec = load_spec("cluster", [f"nodes={len(NODES)}"]).runs()[0]
    ledger = Ledger(tmp_path / "run", spec)
    host: Any = Host()
    session = Session(job, ledger, host, "netem")
    controller = session.controller = Controller("run", "{}", SECRET, NODES)
    with grpc.insecure_channel(controller.start("127.0.0.1:0")) as channel:
        yield Cluster(controller, channel, session)
    controller.stop()
    ledger.close()


@dataclass
class Watched:
    """What would show that an exception has ended a call, a task or a thread."""

    threads: list[Any]
    caplog: pytest.LogCaptureFixture

    def check(self) -> None:
        assert self.threads == []
        assert [record.getMessage() for record in self.caplog.records if record.exc_info] == []
        self.caplog.clear()


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Watched:
    threads: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: threads.append(told.exc_value))
    caplog.set_level(logging.ERROR)
    return Watched(threads, caplog)


def reports() -> st.SearchStrategy[bytes]:
    any_report = messages(control_pb2.Report.DESCRIPTOR).map(lambda report: report.SerializeToString())
    genuine = st.sampled_from([control_pb2.Report(ready=READY), control_pb2.Report(warmed=control_pb2.Warmed())])
    return st.one_of(any_report, any_report, genuine.map(lambda report: report.SerializeToString()), st.binary())


HELLO = control_pb2.Report(hello=control_pb2.Hello(pid=1)).SerializeToString()


@many
@given(words=st.lists(reports(), min_size=1, max_size=5), begun=st.booleans(), returns=st.sampled_from([None, 1, 2]))
def test_a_node_may_say_what_it_wants(
    cluster: Cluster, watched: Watched, words: list[bytes], begun: bool, returns: int | None
) -> None:
    """Node 1 says it, in a run of three that trains, while a node comes back or while none does."""
    session, controller = cluster.session, cluster.controller
    session.alive, session.lost = {0, 1, 2}, {}
    session.ready = dict.fromkeys(range(3), READY)
    session.returning = type(session.returning)(session, 0.0, session.job.config, session.not_finite)
    if returns is not None:
        session._lose(returns, "a test")
        session.returning.tick()
    orders = cluster.send(1, [HELLO, *words] if begun else words)
    if orders:
        assert orders[0].WhichOneof("kind") == "assignment"
        cluster.handle()
        assert session.alive >= {0, 1, 2} - {1, returns}  # nobody else is lost by it
    session.failure = None  # a node may say that it has failed, which ends a run
    for rank in (0, 1):
        controller.expect_back(rank)
    assigned = cluster.send(0, [HELLO])[0].assignment
    assert (assigned.rank, assigned.run) == (0, "run")
    cluster.handle()
    controller.expect_back(0)
    while not controller.events.empty():
        controller.events.get()
    watched.check()


def hellos() -> st.SearchStrategy[control_pb2.AgentWord]:
    hello = messages(control_pb2.AgentHello.DESCRIPTOR).map(lambda hello: control_pb2.AgentWord(hello=hello))
    sound = st.sampled_from(["other", "genuine"]).map(lambda host: control_pb2.AgentWord(hello=agent(host)))
    return st.one_of(messages(control_pb2.AgentWord.DESCRIPTOR), hello, sound, sound)


@pytest.fixture(scope="module")
def membership() -> Iterator[tuple[Membership, grpc.Channel]]:
    membership = Membership(SECRET)
    with grpc.insecure_channel(membership.start("127.0.0.1:0")) as channel:
        yield membership, channel
    membership.stop()


def agent(host: str) -> control_pb2.AgentHello:
    address = f"10.9.0.{len(host)}"
    return control_pb2.AgentHello(host=host, mesh_device="eth0", mesh_address=address, engines="netem,nfqueue")


class Agent:
    """A link agent's connection."""

    def __init__(self, channel: grpc.Channel, *words: control_pb2.AgentWord) -> None:
        self.said: queue.SimpleQueue[control_pb2.AgentWord | None] = queue.SimpleQueue()
        for word in words:
            self.said.put(word)
        stub = control_pb2_grpc.MembershipStub(channel)
        self.orders = stub.Serve(iter(self.said.get, None), metadata=((CREDENTIAL, SECRET),), timeout=240)

    def answer(self, text: str) -> None:
        self.said.put(control_pb2.AgentWord(answer=control_pb2.AgentAnswer(json=text)))

    def end(self) -> None:
        """End it; a refusal has its reason."""
        self.said.put(None)
        try:
            list(self.orders)
        except grpc.RpcError as error:
            assert error.code() in _REFUSED and error.details()


@many
@given(first=hellos(), answers=st.lists(json_texts(), max_size=3))
def test_an_agent_may_say_what_it_wants(
    membership: tuple[Membership, grpc.Channel], watched: Watched, first: control_pb2.AgentWord, answers: list[str]
) -> None:
    """And stays for as long as it likes; the genuine one is served meanwhile, or once that one has ended."""
    servicer, channel = membership
    hostile = Agent(channel, first)
    for answer in answers:
        hostile.answer(answer)
    if first.hello.host == "genuine":
        hostile.end()
    genuine = Agent(channel, control_pb2.AgentWord(hello=agent("genuine")))
    while not (there := [member for member in servicer.members() if member.hello == agent("genuine")]):
        assert genuine.orders.is_active(), genuine.orders.details()
    asked: list[Any] = []
    thread = threading.Thread(target=lambda: asked.append(there[0].request("counters", timeout_s=240)))
    thread.start()
    number = json.loads(next(genuine.orders).json)["id"]
    genuine.answer(json.dumps({"id": number, "ok": {"n": 1}}))
    thread.join(240)
    assert asked == [{"n": 1}]
    genuine.end()
    hostile.end()
    watched.check()
