"""The controller's service, spoken to over real gRPC: who is let in, and what is kept of what is sent."""

from __future__ import annotations

import queue
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from gannet.fabrics.session.controller import Checkpointed, Controller, Deposited, Joined, Reported
from gannet.node.wire import control_pb2, control_pb2_grpc

TOKEN = "of this run"
PARAMETERS = 100
STATES = [b"state of 0", b"state of 1"]
Stub = Any


@pytest.fixture
def served() -> Iterator[tuple[Controller, Stub]]:
    controller = Controller("run", 2, "{}", TOKEN)
    controller.resume(STATES)
    address = controller.start("127.0.0.1:0")
    with grpc.insecure_channel(address) as channel:
        yield controller, control_pb2_grpc.ControllerStub(channel)
    controller.stop()


class Member:
    """A node's line to the controller, up to its assignment."""

    def __init__(self, stub: Stub, rank: int, token: str = TOKEN) -> None:
        self._reports: queue.SimpleQueue[control_pb2.Report | None] = queue.SimpleQueue()
        self.say(hello=control_pb2.Hello(token=token, wanted_rank=rank))
        self._orders = stub.Attend(iter(self._reports.get, None), timeout=30)
        self.assignment = next(self._orders).assignment

    def say(self, **kind: Any) -> None:
        self._reports.put(control_pb2.Report(**kind))

    def leave(self) -> None:
        self._reports.put(None)


def joined(controller: Controller, stub: Stub, rank: int) -> Member:
    """A member that has said how long its vector is, and that the controller has heard."""
    member = Member(stub, rank)
    member.say(ready=control_pb2.Ready(parameters=PARAMETERS))
    while not (isinstance(event := controller.events.get(timeout=30), Reported) and event.rank == rank):
        assert isinstance(event, Joined)
    return member


def deposit(stub: Stub, key: str, body: bytes, **header: Any) -> Any:
    fields = {"run": "run", "rank": 0, "step": 3, "bytes": len(body), "crc32": zlib.crc32(body), "key": key, **header}
    chunks = [control_pb2.SnapshotChunk(header=control_pb2.SnapshotHeader(**fields))]
    chunks += [control_pb2.SnapshotChunk(data=body[at : at + 100]) for at in range(0, len(body), 100)]
    return stub.Deposit(iter(chunks), timeout=30)


BODY = bytes(4 * PARAMETERS)


def test_a_member_deposits_and_its_bytes_come_as_they_were(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    member = joined(controller, stub, 0)
    key = member.assignment.key
    assert deposit(stub, key, BODY).accepted
    event = controller.events.get(timeout=30)
    assert isinstance(event, Deposited) and bytes(event.x.numpy().data) == BODY
    assert deposit(stub, key, b"a whole state", checkpoint=True).accepted
    assert controller.events.get(timeout=30) == Checkpointed(0, 3, b"a whole state")


def test_nobody_deposits_for_another(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    members = [joined(controller, stub, rank) for rank in (0, 1)]  # a member that is dropped leaves
    first, second = (member.assignment.key for member in members)
    assert first != second
    for key in ("", TOKEN, second, first[:-1]):
        for checkpoint in (False, True):
            receipt = deposit(stub, key, BODY, checkpoint=checkpoint)
            assert (receipt.accepted, receipt.detail) == (False, "the key is not this rank's")
    assert not deposit(stub, second, BODY, rank=7).accepted
    assert controller.events.empty()


@pytest.mark.parametrize(
    ("body", "header", "detail"),
    [
        (BODY, {"run": "another"}, "not of this run"),
        (BODY + BODY, {}, "800 bytes, a snapshot has 400"),
        (b"", {"checkpoint": True, "bytes": 1 << 40}, "1099511627776 bytes, limit 67116864"),
        (BODY, {"bytes": 1, "checkpoint": True}, "more bytes than announced"),
        (BODY[:-1], {"bytes": 400}, "bytes or checksum do not fit"),
        (BODY, {"crc32": 1}, "bytes or checksum do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(
    served: tuple[Controller, Stub], body: bytes, header: dict[str, Any], detail: str
) -> None:
    controller, stub = served
    member = joined(controller, stub, 0)
    key = member.assignment.key
    receipt = deposit(stub, key, body, **header)
    assert (receipt.accepted, receipt.detail) == (False, detail)
    assert controller.events.empty()


def test_a_strangers_bytes_are_not_waited_for(served: tuple[Controller, Stub]) -> None:
    """The answer comes while the stranger has not sent the end of what it announced, and never will."""
    _, stub = served
    never: queue.SimpleQueue[None] = queue.SimpleQueue()

    def chunks() -> Iterator[control_pb2.SnapshotChunk]:
        yield control_pb2.SnapshotChunk(header=control_pb2.SnapshotHeader(run="run", bytes=200 << 20))
        never.get()

    assert not stub.Deposit(chunks(), timeout=30).accepted
    never.put(None)


def test_a_checkpoint_goes_to_its_own_rank_only(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    members = [joined(controller, stub, rank) for rank in (0, 1)]
    keys = [member.assignment.key for member in members]
    for rank, key in enumerate(keys):
        chunks = stub.Restore(control_pb2.RestoreRequest(key=key, rank=rank), timeout=30)
        assert b"".join(chunk.data for chunk in chunks) == STATES[rank]
    for key in ("", TOKEN, keys[0]):
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Restore(control_pb2.RestoreRequest(key=key, rank=1), timeout=30))
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("token", ["", "of another run", TOKEN + "."])
def test_nobody_joins_without_the_token(served: tuple[Controller, Stub], token: str) -> None:
    controller, stub = served
    with pytest.raises(grpc.RpcError) as error:
        Member(stub, 0, token)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert TOKEN not in str(error.value.details())
    assert controller.events.empty()


def test_a_rank_is_given_once(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    member = joined(controller, stub, 0)
    with pytest.raises(grpc.RpcError) as error:
        Member(stub, 0)
    assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS
    member.leave()


def test_every_call_of_the_service_is_tried_here() -> None:
    service = control_pb2.DESCRIPTOR.services_by_name["Controller"]
    assert {method.name for method in service.methods} == {"Attend", "Deposit", "Restore"}
