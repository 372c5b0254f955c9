"""The membership of containers, over real gRPC on loopback: lines, answers, ends; and who counts as there."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from rich.console import Console

from gannet.experiment.serve import ServeError, count_nodes
from gannet.fabrics.containers.membership import Membership, RemoteAgent
from gannet.netem.agent.client import AgentError, AgentGone
from gannet.node.wire import control_pb2, control_pb2_grpc
from gannet.node.wire.metadata import CREDENTIAL
from tests.support.patience import wait_until

SECRET = "of the link agents"


class Line:
    """The container's end of an agent's line, answering by hand."""

    def __init__(self, address: str, host: str, mesh: str, **hello: str) -> None:
        self._words: queue.SimpleQueue[control_pb2.AgentWord | None] = queue.SimpleQueue()
        said = control_pb2.AgentHello(**{"host": host, "mesh_address": mesh, "mesh_device": "eth0", **hello})
        self._words.put(control_pb2.AgentWord(hello=said))
        self._channel = grpc.insecure_channel(address)
        stub = control_pb2_grpc.MembershipStub(self._channel)
        self.orders = stub.Serve(iter(self._words.get, None), metadata=((CREDENTIAL, SECRET),))

    def order(self) -> dict[str, Any]:
        order: dict[str, Any] = json.loads(next(self.orders).json)
        return order

    def answer(self, **said: Any) -> None:
        self.say(json.dumps(said))

    def say(self, text: str) -> None:
        self._words.put(control_pb2.AgentWord(answer=control_pb2.AgentAnswer(json=text)))

    def refusal(self) -> tuple[grpc.StatusCode, str]:
        """How the controller has ended it."""
        with pytest.raises(grpc.RpcError) as refused:
            self.order()
        self._channel.close()
        return refused.value.code(), refused.value.details()  # type: ignore[attr-defined]

    def end(self) -> None:
        self._words.put(None)
        self._channel.close()


@contextmanager
def served() -> Iterator[tuple[Membership, str]]:
    membership = Membership(SECRET)
    try:
        yield membership, membership.start("127.0.0.1:0")
    finally:
        membership.stop()


def members(membership: Membership, count: int) -> list[RemoteAgent]:
    """The members, once there are `count` of them."""

    def there() -> tuple[list[RemoteAgent]] | None:  # a tuple, since no members may be what is waited for
        return (found,) if len(found := membership.members()) == count else None

    return wait_until(f"there are {count} members", there)[0]


def asked(member: RemoteAgent, op: str) -> tuple[threading.Thread, list[Any]]:
    """A request in a thread of its own; the list holds its answer or error once the thread has ended."""
    said: list[Any] = []

    def ask() -> None:
        try:
            said.append(member.request(op, timeout_s=120))
        except AgentError as error:
            said.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, said


def test_members_are_ordered_by_address_as_numbers() -> None:
    with served() as (membership, address):
        lines = [Line(address, f"host{n}", f"10.1.0.{n}") for n in (10, 9, 2)]
        assert [member.hello.host for member in members(membership, 3)] == ["host2", "host9", "host10"]
        for line in lines:
            line.end()
        members(membership, 0)


def test_answers_find_their_questions_whatever_their_order() -> None:
    with served() as (membership, address):
        line = Line(address, "a", "10.1.0.1")
        (member,) = members(membership, 1)
        first, said_first = asked(member, "counters")
        order_first = line.order()
        second, said_second = asked(member, "read_back")
        order_second = line.order()
        assert (order_first["op"], order_second["op"]) == ("counters", "read_back")
        line.answer(id=order_second["id"], error="no plan")
        line.answer(id=order_first["id"], ok={"tx_bytes": 7})
        line.answer(id=999, ok={})  # to nobody
        first.join(120)
        second.join(120)
        assert said_first == [{"tx_bytes": 7}]
        assert str(said_second[0]) == "link agent of a: no plan"
        line.end()


def test_who_waits_for_a_container_that_goes_hears_it_at_once() -> None:
    with served() as (membership, address):
        line = Line(address, "a", "10.1.0.1")
        (member,) = members(membership, 1)
        thread, said = asked(member, "probe")
        line.order()
        line.end()
        thread.join(120)
        assert isinstance(said[0], AgentGone)
        with pytest.raises(AgentGone, match="its container is gone"):
            member.request("counters")


@pytest.mark.parametrize(("host", "mesh"), [("a", "10.1.0.1"), ("a", "10.1.0.7"), ("b", "10.1.0.1")])
def test_an_agent_that_answers_is_not_displaced(
    host: str, mesh: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by its name nor by its address; both sides are told."""
    monkeypatch.setattr("gannet.fabrics.containers.membership._ANSWER_S", 120.0)  # answered here, and not at once
    with served() as (membership, address):
        first = Line(address, "a", "10.1.0.1")
        (member,) = members(membership, 1)
        second = Line(address, host, mesh)
        asked_first = first.order()
        assert asked_first["op"] == "ping"
        first.answer(id=asked_first["id"], ok={})
        told = f"{host}: the link agent of a at 10.1.0.1 is there, and answers"
        assert second.refusal() == (grpc.StatusCode.ALREADY_EXISTS, told)
        assert told in caplog.text
        assert membership.members() == [member] and not member.gone
        thread, said = asked(member, "counters")
        first.answer(id=first.order()["id"], ok={"here": 1})
        thread.join(120)
        assert said == [{"here": 1}]
        first.end()


def test_a_container_that_comes_back_replaces_its_old_line_that_is_dead() -> None:
    with served() as (membership, address):
        old_line = Line(address, "a", "10.1.0.1")  # its connection stands, and nobody answers
        (old,) = members(membership, 1)
        new_line = Line(address, "a", "10.1.0.7")
        while (new := members(membership, 1)[0]) is old:
            pass
        assert new.hello.mesh_address == "10.1.0.7" and old.gone
        old_line.end()
        thread, said = asked(new, "counters")
        order = new_line.order()
        new_line.answer(id=order["id"], ok={"here": 1})
        thread.join(120)
        assert said == [{"here": 1}]
        new_line.end()


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({"mesh_address": "10.1.0.1/24"}, "mesh_address is '10.1.0.1/24', not an IPv4 address"),
        ({"mesh_address": ""}, "mesh_address is '', not an IPv4 address"),
        ({"mesh_address": "0.0.0.0"}, "mesh_address is 0.0.0.0, which no interface has"),
        ({"mesh_address": "224.0.0.1"}, "mesh_address is 224.0.0.1, which no interface has"),
        ({"host": ""}, "host is '', not a host name"),
        ({"host": "a\x1b[2J"}, "host is 'a\\x1b[2J', not a host name"),
        ({"host": "h" * 1_000_000}, f"host is '{'h' * 40}…', not a host name"),
        ({"mesh_device": "eth0 root"}, "mesh_device is 'eth0 root', not the name of a network device"),
        ({"engines": "netem,"}, "engines is 'netem,', not names of link engines"),
        ({"complaint": "x" * 9000}, "complaint has 9000 characters, limit 8192"),
    ],
)
def test_a_malformed_hello_is_refused_with_its_reason(hello: dict[str, str], why: str) -> None:
    with served() as (membership, address):
        line = Line(address, **{"host": "a", "mesh": "10.1.0.1", **hello})
        assert line.refusal() == (grpc.StatusCode.INVALID_ARGUMENT, why)
        genuine = Line(address, "a", "10.1.0.1")
        assert [member.hello.host for member in members(membership, 1)] == ["a"]
        genuine.end()


@pytest.mark.parametrize(
    "answer", ["", "null", "[]", "{}", '{"id": 1}', '{"id": [1], "ok": {}}', '{"id": 1, "ok": 3}', "[" * 100_000]
)
def test_a_malformed_answer_ends_its_agents_connection_only(answer: str) -> None:
    with served() as (membership, address):
        line, other = Line(address, "a", "10.1.0.1"), Line(address, "b", "10.1.0.2")
        member, sound = members(membership, 2)
        thread, said = asked(member, "counters")
        line.order()
        line.say(answer)
        thread.join(120)
        assert isinstance(said[0], AgentGone)
        code, why = line.refusal()
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "link agent of a is refused" in why
        thread, said = asked(sound, "counters")
        other.answer(id=other.order()["id"], ok={"here": 1})
        thread.join(120)
        assert said == [{"here": 1}] and membership.members() == [sound]
        other.end()


def test_nodes_are_counted_once_all_that_are_listed_have_joined() -> None:
    listed = iter([0, 1, 3])
    joined = iter([0, 0, 1, 2])
    last = {"listed": 4, "joined": 4}
    console = Console(quiet=True)
    assert count_nodes(lambda: next(listed, last["listed"]), lambda: next(joined, last["joined"]), console) == 4


def test_nodes_that_never_join_are_an_error_that_says_where_to_look() -> None:
    with pytest.raises(ServeError, match="2 of 3 node containers have joined: look at `docker compose logs node`"):
        count_nodes(lambda: 3, lambda: 2, Console(quiet=True), timeout_s=0.6)
